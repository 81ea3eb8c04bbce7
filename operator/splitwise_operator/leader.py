"""One operator of several works: the one that holds a Lease."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

from splitwise_operator.kinds import LEASE
from splitwise_operator.kube import ApiError, Kube
from splitwise_operator.names import Object

LEASE_S: Final = 15
"""A lease that its holder has not renewed for so long may be taken."""
RENEW_WITHIN_S: Final = 10.0
"""A holder that cannot renew for so long stops, well before another one may begin."""
RETRY_S: Final = 2.0


class Leadership:
    """One Lease, and the name under which we hold it.

    A process that comes back under the same name goes on at once: a pod keeps its name when its
    container is restarted.
    """

    def __init__(
        self, kube: Kube, namespace: str, name: str, identity: str, log: logging.Logger
    ) -> None:
        self._kube = kube
        self._where = {"namespace": namespace, "name": name}
        self._identity = identity
        self._log = log
        self._seen: tuple[Object, float] = ({}, 0.0)  # a lease's spec, and since when it is so

    async def lead(self, work: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Waits for the lease, then works. False when the lease was lost; True when work ended.

        The lease is given up at the end, and when cancelled, so that another one need not wait.
        """
        await self._acquire()
        self._log.info("leading", extra={"fields": {"identity": self._identity}})
        working = asyncio.create_task(work())
        try:
            is_ours = await self._keep(working)
        finally:
            working.cancel()
            await asyncio.wait({working})
            await self._give_up()
        if is_ours:
            working.result()
        return is_ours

    async def _acquire(self) -> None:
        ours = await self._renewed()
        while not ours:
            await asyncio.sleep(RETRY_S)
            ours = await self._renewed()

    async def _keep(self, working: asyncio.Task[None]) -> bool:
        """Renews until the work ends (True), or could not be renewed for too long (False)."""
        renewed_s = time.monotonic()
        while not working.done():
            await asyncio.wait({working}, timeout=RETRY_S)
            left_s = max(0.1, renewed_s + RENEW_WITHIN_S - time.monotonic())
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    if await self._renewed():
                        renewed_s = time.monotonic()
                        continue
            if time.monotonic() - renewed_s > RENEW_WITHIN_S:
                self._log.error("the lease is lost")
                return False
        return True

    async def _renewed(self) -> bool:
        """Takes or renews the lease; whether it is ours now."""
        try:
            lease = await self._kube.get(LEASE, **self._where)
            if lease is None:
                await self._kube.create(LEASE, self._lease({}, _micro_time()))
                return True
            spec = lease.get("spec") or {}
            now_s = time.monotonic()
            if spec != self._seen[0]:
                self._seen = (spec, now_s)
            if not may_take(spec, self._identity, now_s - self._seen[1]):
                return False
            await self._kube.replace(LEASE, self._lease(lease, _micro_time()))
        except ApiError as error:
            if error.code != 409:  # another one was quicker
                self._log.warning("cannot renew the lease", extra={"fields": {"why": error}})
            return False
        return True

    async def _give_up(self) -> None:
        try:
            lease = await self._kube.get(LEASE, **self._where)
            if lease is not None and lease["spec"].get("holderIdentity") == self._identity:
                lease["spec"] |= {"holderIdentity": "", "renewTime": _micro_time()}
                await self._kube.replace(LEASE, lease)
        except ApiError as error:
            self._log.warning("the lease is left to expire", extra={"fields": {"why": error}})

    def _lease(self, before: Object, now: str) -> Object:
        """The lease held by us; `before` carries the version that is replaced."""
        spec = before.get("spec") or {}
        is_ours = spec.get("holderIdentity") == self._identity
        moves = int(spec.get("leaseTransitions") or 0) + (0 if is_ours else 1)
        return {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.name,
            "metadata": before.get("metadata") or self._where,
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": LEASE_S,
                "acquireTime": spec.get("acquireTime", now) if is_ours else now,
                "renewTime": now,
                "leaseTransitions": moves if before else 0,
            },
        }


def may_take(spec: Object, identity: str, unchanged_s: float) -> bool:
    """Whether a lease is ours, nobody's, or of one who has not renewed it while we watched.

    No clock of another machine is looked at: only for how long we have seen no change.
    """
    holder = spec.get("holderIdentity")
    if not holder or holder == identity:
        return True
    return unchanged_s > float(spec.get("leaseDurationSeconds") or LEASE_S)


def _micro_time() -> str:
    """The time as a Lease has it, in microseconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
