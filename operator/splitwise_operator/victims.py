"""Which workers go when a Deployment shrinks: those with the least to do.

The ReplicaSet deletes pods that are not ready first, and of the others those of the lowest deletion
cost. So the victims are marked before it shrinks. The mark is a wish: a pod that goes in their
place, or whose work has grown meanwhile, drains as they do, and no request is lost.
"""

import logging
from collections.abc import Iterable, Mapping
from typing import Final

import aiohttp

from splitwise_core.policy.scaling import WorkerLoad
from splitwise_core.telemetry import Telemetry
from splitwise_operator.fleet import Objects
from splitwise_operator.kinds import POD
from splitwise_operator.kube import ApiError, Kube
from splitwise_operator.load_reader import LoadReader
from splitwise_operator.loads import load_of
from splitwise_operator.names import DELETION_COST
from splitwise_operator.observed import Pod, Seen, Workers
from splitwise_operator.scaled_pools import worker_addresses

MARK: Final = "-1"
"""The cost of a victim; that of a pod without one is 0."""

UNKNOWN: Final = 1 << 63
"""The work of a pod that does not answer: no news is no reason to take it for idle."""


def work_of(load: WorkerLoad) -> int:
    """Tokens that a worker has to compute, or holds the KV of."""
    return load.queued_tokens + load.kv_taken + load.kv_reserved


def marks(pods: Iterable[Seen], works: Mapping[str, int], leaving: int) -> dict[str, str | None]:
    """By pod's name, the marks to set before `leaving` pods go, and those to take back (None).

    `works` are tokens, by pod's name. Pods that are not ready go before all others, marked or not.
    """
    staying = [(one, one.part) for one in pods if isinstance(one.part, Pod) and not one.is_leaving]
    ready = [one.name for one, part in staying if part.ready]
    by_work = sorted(ready, key=lambda name: (works.get(name, UNKNOWN), name))
    victims = set(by_work[: max(0, leaving - (len(staying) - len(ready)))])
    wanted = {one.name: MARK if one.name in victims else None for one, _ in staying}
    return {one.name: wanted[one.name] for one, part in staying if part.cost != wanted[one.name]}


class Victims:
    """Reads what the workers of shrinking Deployments do, and marks those that are to go."""

    def __init__(self, kube: Kube, telemetry: Telemetry, log: logging.Logger) -> None:
        self._kube = kube
        self._telemetry = telemetry
        self._log = log

    async def mark(self, objects: Objects, step: Mapping[tuple[str, str], int]) -> None:
        """For each Deployment that `step` makes smaller. What fails is logged: the mark is a wish.

        A Deployment that goes as a whole has no choice to make.
        """
        for seen in objects.values():
            left = step.get((seen.pool, seen.revision), 0)
            if isinstance(seen.part, Workers) and 0 < left < seen.part.wanted:
                await self._mark(objects, seen, seen.part.wanted - left)

    async def _mark(self, objects: Objects, workers: Seen, leaving: int) -> None:
        pods = [
            one
            for one in objects.values()
            if isinstance(one.part, Pod)
            and (one.pool, one.revision) == (workers.pool, workers.revision)
        ]
        async with aiohttp.ClientSession() as http:
            addresses = worker_addresses({(one.kind, one.name): one for one in pods}, workers.pool)
            loads = await LoadReader(http, self._telemetry).read(addresses, load_of)
        works = {name: work_of(load) for name, load in loads.items()}
        fields: dict[str, object] = {"deployment": workers.name, "leaving": leaving}
        try:
            for name, cost in marks(pods, works, leaving).items():
                await self._kube.annotate(POD, workers.namespace, name, {DELETION_COST: cost})
                self._log.info(
                    "victim" if cost else "no victim any more",
                    extra={"fields": fields | {"pod": name, "tokens": works.get(name, "unknown")}},
                )
        except ApiError as error:
            self._log.warning(
                "victims are not marked", extra={"fields": fields | {"why": error.message}}
            )
