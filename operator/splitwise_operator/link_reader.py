"""Asks routers what the links between their workers are like, and wakes whom it concerns."""

import asyncio
import logging
from typing import Final

import aiohttp

from splitwise_core.errors import UserError
from splitwise_core.labels import ROUTER
from splitwise_core.metrics.operator import LINK_READINGS
from splitwise_core.telemetry import Telemetry
from splitwise_operator.manifest import cluster_of
from splitwise_operator.names import Object
from splitwise_operator.observed import Pod, Seen
from splitwise_operator.pages import get_json, url_host
from splitwise_operator.store import Key, Store
from splitwise_operator.transfer import entries_of, settled
from splitwise_operator.worklist import Worklist

EVERY_S: Final = 10.0
DEADLINE_S: Final = 3.0
AT_ONCE: Final = 16
MAX_BYTES: Final = 1 << 20
ROUTERS: Final = 2
"""How many are asked in vain: each knows all links, so one that answers is enough."""


class LinkReader:
    """Keeps `store.transfer` as routers say."""

    def __init__(
        self, store: Store, worklist: Worklist, telemetry: Telemetry, log: logging.Logger
    ) -> None:
        self._store = store
        self._worklist = worklist
        self._telemetry = telemetry
        self._log = log
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._unanswered: set[Key] = set()

    async def run(self) -> None:
        """Reads for ever. A router needs no right of ours, and we need none for it."""
        timeout = aiohttp.ClientTimeout(total=DEADLINE_S)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            while True:
                await asyncio.gather(*(self._read(http, key) for key in self._clusters()))
                await asyncio.sleep(EVERY_S)

    def _clusters(self) -> list[Key]:
        known = self._store.clusters.keys()
        for gone in self._store.transfer.keys() - known:
            del self._store.transfer[gone]
        self._unanswered &= known
        return list(known)

    async def _read(self, http: aiohttp.ClientSession, key: Key) -> None:
        addresses = self._addresses(key)
        if not addresses:
            return
        async with self._slots:
            entries = await self._ask(http, key, addresses)
        body = self._store.clusters.get(key)
        if entries is None or body is None:
            return
        self._store.transfer[key] = entries
        before = (body.get("status") or {}).get("transfer", [])
        if settled(before, entries) != before:
            self._worklist.wake(key, is_urgent=False)

    def _addresses(self, key: Key) -> list[str]:
        """Where the API of some ready routers is."""
        try:
            port = cluster_of(self._store.clusters[key]).spec.router.port
        except UserError:  # the cluster's status says so
            return []
        seen = sorted(self._store.objects(key).values(), key=lambda one: one.name)
        hosts = [host for one in seen if (host := _host(one))]
        return [f"http://{host}:{port}/transfer" for host in hosts[:ROUTERS]]

    async def _ask(
        self, http: aiohttp.ClientSession, key: Key, addresses: list[str]
    ) -> list[Object] | None:
        """What the first router says that answers; None when none does."""
        why = ""
        for address in addresses:
            try:
                entries = entries_of(await get_json(http, address, MAX_BYTES))
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                self._telemetry.counter(LINK_READINGS, result="failed").inc()
                why = f"{address}: {error!r}"
                continue
            self._telemetry.counter(LINK_READINGS, result="done").inc()
            self._unanswered.discard(key)
            return entries
        if key not in self._unanswered:
            self._unanswered.add(key)
            fields = {"cluster": "/".join(key), "why": why}
            self._log.warning(
                "no router tells of links; its status stays", extra={"fields": fields}
            )
        return None


def _host(one: Seen) -> str:
    """A ready router's address as it stands in a URL; "" for anything else."""
    part = one.part
    if not isinstance(part, Pod) or one.pool != ROUTER or one.is_leaving or not part.ready:
        return ""
    return url_host(part.address)
