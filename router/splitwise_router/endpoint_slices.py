"""The workers that Kubernetes knows: EndpointSlices of the pools' headless Services, kept up.

`endpoints_of` is the rule; `SliceWatch` lists, follows changes, and starts again after any trouble.
How the API server is reached is `kubernetes_api`'s business.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol

from splitwise_core.labels import POOL_LABEL, ROLE_LABEL, ROUTER
from splitwise_router.discovery import Apply, Endpoint, SliceQuery

PORT_NAME: Final = "grpc"

WATCH_S: Final = 60
"""One watch lasts this long, or up to twice as long by chance: an API server that vanished without
a word is noticed by then, and many routers do not ask at the same moment."""

FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 15.0

Slice = Mapping[str, Any]
"""An EndpointSlice of discovery.k8s.io/v1, as JSON."""

Watch = AbstractAsyncContextManager[AsyncIterator[Mapping[str, Any]]]


def endpoints_of(slices: Iterable[Slice]) -> frozenset[Endpoint]:
    """The workers in these slices, each pod once.

    A pod may stand in several slices: while the controller moves it, and with an address of each
    IP family. Where it is ready wins, then IPv4, so that all routers choose the same.
    """
    found: dict[str, tuple[bool, str, Endpoint]] = {}
    for item in slices:
        family = str(item.get("addressType"))
        for endpoint in _endpoints(item):
            candidate = (not endpoint.ready, f"{family} {endpoint.address}", endpoint)
            known = found.get(endpoint.pod)
            if known is None or candidate[:2] < known[:2]:
                found[endpoint.pod] = candidate
    return frozenset(endpoint for _, _, endpoint in found.values())


def _endpoints(item: Slice) -> Iterable[Endpoint]:
    labels = item["metadata"].get("labels") or {}
    role, pool = labels.get(ROLE_LABEL), labels.get(POOL_LABEL)
    ports = [port.get("port") for port in item.get("ports") or () if port.get("name") == PORT_NAME]
    if role in (None, ROUTER) or pool is None or not ports or not ports[0]:
        return
    for endpoint in item.get("endpoints") or ():
        for address in endpoint["addresses"][:1]:  # all of them are the same pod's
            host = f"[{address}]" if ":" in address else address
            pod = (endpoint.get("targetRef") or {}).get("name") or address
            ready = _takes_work(endpoint.get("conditions") or {})
            yield Endpoint(f"{host}:{ports[0]}", pod, pool, role, ready)


def _takes_work(conditions: Mapping[str, bool | None]) -> bool:
    """Whether the pod is ready and stays. What is not said counts as Kubernetes says it does.

    A Service with publishNotReadyAddresses calls every pod ready; `serving` then tells the truth.
    """
    ready = conditions.get("ready") is not False
    return ready and conditions.get("serving") is not False and not conditions.get("terminating")


class SlicesFailed(Exception):
    """The slices could not be listed or watched. `reason` is one of `Outcome`, in lower case."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


EXPIRED: Final = "expired"
"""The reason that says: changes were missed, list again."""


class SliceApi(Protocol):
    """The API server. Whatever goes wrong is SlicesFailed."""

    async def list(self, query: SliceQuery) -> Mapping[str, Any]:
        """The EndpointSliceList."""

    def watch(self, query: SliceQuery, version: str, within_s: int) -> Watch:
        """The watch events after `version`, for `within_s` seconds, once the server agreed."""


class SliceWatch:
    """Keeps the list of workers as the API server has it. `failed(reason)` counts troubles."""

    def __init__(
        self,
        api: SliceApi,
        query: SliceQuery,
        apply: Apply,
        failed: Callable[[str], None],
        log: logging.Logger,
    ) -> None:
        self._api = api
        self._query = query
        self._apply = apply
        self._failed = failed
        self._log = log
        self._slices: dict[str, Slice] = {}
        self._applied: frozenset[Endpoint] | None = None
        self._version = ""  # up to which changes are known; empty: list first
        self._trouble: str | None = ""  # None while all is well
        self._pause_s = FIRST_PAUSE_S

    async def run(self) -> None:
        """Follows the slices until cancelled. In trouble the workers known so far stay."""
        while True:
            try:
                if not self._version:
                    await self._list()
                await self._follow()
                self._pause_s = FIRST_PAUSE_S
            except SlicesFailed as error:
                self._note_trouble(error)
            except Exception as error:  # whatever the library raises: serving goes on
                self._note_trouble(SlicesFailed("failed", repr(error)))
            await asyncio.sleep(self._pause_s * random.uniform(0.5, 1.5))

    async def _list(self) -> None:
        listed = await self._api.list(self._query)
        self._slices = {item["metadata"]["name"]: item for item in listed.get("items") or ()}
        self._update(listed["metadata"]["resourceVersion"])

    async def _follow(self) -> None:
        """Takes in changes until the watch's time is over."""
        within_s = random.randint(WATCH_S, 2 * WATCH_S)
        async with self._api.watch(self._query, self._version, within_s) as events:
            self._note_well()
            async for event in events:
                self._take(event["type"], event["object"])
                self._pause_s = FIRST_PAUSE_S

    def _take(self, kind: str, item: Mapping[str, Any]) -> None:
        if kind == "ERROR":
            reason = EXPIRED if item.get("code") == 410 else "failed"
            raise SlicesFailed(reason, f"the API server ends the watch: {item.get('message')}")
        if kind == "DELETED":
            self._slices.pop(item["metadata"]["name"], None)
        elif kind != "BOOKMARK":
            self._slices[item["metadata"]["name"]] = item
        self._update(item["metadata"]["resourceVersion"])

    def _update(self, version: str) -> None:
        endpoints = endpoints_of(self._slices.values())
        self._version = version
        if endpoints != self._applied:
            self._applied = endpoints
            self._apply(endpoints)

    def _note_well(self) -> None:
        if self._trouble is not None:
            self._trouble = None
            fields = {"workers": len(self._applied or ()), "selector": self._query.selector}
            self._log.info("EndpointSlices are followed", extra={"fields": fields})

    def _note_trouble(self, error: SlicesFailed) -> None:
        """Counts it, says it when it is another one than before, and lists anew next time."""
        self._failed(error.reason)
        self._version = ""
        if error.reason != self._trouble:
            fields = {"why": error, "workers_kept": len(self._applied or ())}
            self._log.warning("EndpointSlices are not followed", extra={"fields": fields})
        self._trouble = error.reason
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
