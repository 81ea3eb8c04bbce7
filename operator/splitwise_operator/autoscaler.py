"""Every two seconds: reads what workers and routers say, asks the law, sets the pools' replicas.

What it remembers is the law's own state, a window of readings for each pool. An operator that
begins anew has none: it holds what there is, grows it as soon as it must, and shrinks nothing
before it has watched for a whole window.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import aiohttp

from splitwise_core.errors import UserError
from splitwise_core.metrics.operator import SCALE_DECISIONS, SCALE_LOOK
from splitwise_core.policy.roles import ROLES
from splitwise_core.policy.scaling import (
    Decision,
    Held,
    Pool,
    Reading,
    Reason,
    State,
    WorkerLoad,
    decide,
    observe,
    reading,
)
from splitwise_core.policy.scaling.signals import Memory, with_lent
from splitwise_core.spec import SplitwiseCluster
from splitwise_core.telemetry import Telemetry
from splitwise_operator import scaled_pools
from splitwise_operator.events import scaled_event
from splitwise_operator.fleet import Objects
from splitwise_operator.kinds import EVENT, POOL
from splitwise_operator.kube import AUTOSCALER, ApiError, Kube, time_now
from splitwise_operator.load_reader import LoadReader
from splitwise_operator.loads import held_by, held_of, load_of
from splitwise_operator.looks import Look, Looks, look_of
from splitwise_operator.manifest import cluster_of
from splitwise_operator.names import Object, object_name
from splitwise_operator.scaled_pools import ScalingView
from splitwise_operator.store import Key, Store
from splitwise_operator.worklist import Worklist

EVERY_S: Final = 2.0


@dataclass(slots=True)
class _Remembered:
    """Of one cluster: each pool's state and last words, and when it was looked at last."""

    states: dict[str, State] = field(default_factory=dict)
    words: dict[str, Memory] = field(default_factory=dict)
    looked_s: float = 0.0


class Autoscaler:
    """All clusters of this operator. Only the one that leads has one."""

    def __init__(
        self,
        kube: Kube,
        store: Store,
        worklist: Worklist,
        looks: Looks,
        telemetry: Telemetry,
        log: logging.Logger,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kube = kube
        self._store = store
        self._worklist = worklist
        self._looks = looks
        self._telemetry = telemetry
        self._log = log
        self._clock = clock
        self._known: dict[Key, _Remembered] = {}

    async def run(self) -> None:
        """Looks for ever."""
        async with aiohttp.ClientSession() as http:
            reader = LoadReader(http, self._telemetry)
            while True:
                began_s = self._clock()
                clusters = self._clusters()
                await asyncio.gather(*(self._look(reader, *found) for found in clusters.items()))
                await asyncio.sleep(max(0.1, EVERY_S - (self._clock() - began_s)))

    def _clusters(self) -> dict[Key, SplitwiseCluster]:
        found = {}
        for key, body in self._store.clusters.items():
            try:
                cluster = cluster_of(body)
            except UserError:  # its status says so
                continue
            if "deletionTimestamp" not in body["metadata"] and scaled_pools.is_ours(cluster):
                found[key] = cluster
        for key in self._store.scaling.keys() - found.keys():
            del self._store.scaling[key]
            self._looks.forget(key)
            self._known.pop(key, None)
        return found

    async def _look(self, reader: LoadReader, key: Key, cluster: SplitwiseCluster) -> None:
        """One look at one cluster. Raises nothing: what fails is tried again with the next."""
        began_s = self._clock()
        try:
            await self._look_at(reader, key, cluster)
        except ApiError as error:
            fields = {"cluster": "/".join(key), "why": error.message}
            self._log.warning("a pool cannot be scaled now", extra={"fields": fields})
        except Exception:
            self._log.exception("scaling failed", extra={"fields": {"cluster": "/".join(key)}})
        self._telemetry.histogram(SCALE_LOOK).observe(self._clock() - began_s)

    async def _look_at(self, reader: LoadReader, key: Key, cluster: SplitwiseCluster) -> None:
        said = await self._read(reader, cluster, self._store.objects(key))
        objects = self._store.objects(key)
        if key not in self._store.clusters:  # gone meanwhile
            return
        now_s, now = self._clock(), datetime.now(UTC)
        known = self._known.setdefault(key, _Remembered(looked_s=now_s - EVERY_S))
        pools: dict[str, Pool] = {}
        roles = {pool.name: ROLES[pool.role] for pool in cluster.spec.pools}
        readings = with_lent(
            {name: self._reading(known, said, name, now_s) for name in roles}, roles
        )
        for pool in cluster.spec.pools:
            counts = scaled_pools.counts_of(cluster, objects, pool)
            if counts is None:
                return
            law = scaled_pools.law_of(cluster, pool, now)
            read = readings[pool.name]
            state = known.states.get(pool.name, State())
            if law is not None:
                state = observe(state, law, counts, read, now_s)
            pools[pool.name] = Pool(counts, roles[pool.name], law, state)
        known.looked_s = now_s
        known.states = {name: pool.state for name, pool in pools.items()}
        made = decide(pools, scaled_pools.ratio_of(cluster), said.held.requests, now_s)
        told = {
            name: look_of(pool, readings[name], made[name][0] if name in made else None)
            for name, pool in pools.items()
        }
        self._looks.add(key, Look(now_s, said.held.requests, told))
        await self._carry_out(key, cluster, pools, made, known)

    async def _read(
        self, reader: LoadReader, cluster: SplitwiseCluster, objects: Objects
    ) -> "_Said":
        addresses = {
            pool.name: scaled_pools.worker_addresses(objects, pool.name)
            for pool in cluster.spec.pools
        }
        doors = scaled_pools.router_addresses(cluster, objects, "/queue")
        routers = reader.read(doors, held_of)
        loads = asyncio.gather(*(reader.read(asked, load_of) for asked in addresses.values()))
        queues, answers = await asyncio.gather(routers, loads)
        by_pool = dict(zip(addresses, answers))
        every = [
            (pool, load) for pool in cluster.spec.pools for load in by_pool[pool.name].values()
        ]
        held = held_by(list(queues.values()))
        parts = scaled_pools.shared_out(
            cluster,
            held,
            sum(load.waiting for pool, load in every if pool.role == "prompt"),
            sum(load.reserved for _, load in every),
        )
        silent = max(1, len(doors)) - len(queues)  # who knows what waits there?
        missing = {
            name: silent + len(asked) - len(by_pool[name]) for name, asked in addresses.items()
        }
        return _Said(held, by_pool, parts, missing)

    def _reading(
        self, known: _Remembered, said: "_Said", pool: str, now_s: float
    ) -> Reading | None:
        loads = said.loads[pool]
        if not loads:
            return None
        made, known.words[pool] = reading(
            known.words.get(pool, {}),
            loads,
            said.missing[pool],
            said.parts[pool],
            now_s,
            known.looked_s,
        )
        return made

    # ---- writes ----

    async def _carry_out(
        self,
        key: Key,
        cluster: SplitwiseCluster,
        pools: Mapping[str, Pool],
        made: Mapping[str, tuple[Decision, State]],
        known: _Remembered,
    ) -> None:
        entries = []
        try:
            for name, (decision, state) in made.items():
                before = pools[name].counts.desired
                if decision.replicas != before:
                    own = object_name(cluster, name)
                    answer = await self._kube.scale(
                        POOL, key[0], own, decision.replicas, AUTOSCALER
                    )
                    self._store.put(POOL.name, answer)  # the next look may come before the watch
                    entries.append(scaled_pools.entry_of(name, before, decision, time_now()))
                known.states[name] = state  # only what was written has been decided
        finally:
            self._show(key, cluster, made, entries)
        for entry in entries:
            await self._tell(key, entry)

    def _show(
        self,
        key: Key,
        cluster: SplitwiseCluster,
        made: Mapping[str, tuple[Decision, State]],
        entries: Sequence[Object],
    ) -> None:
        roles = {pool.name: pool.role for pool in cluster.spec.pools}
        for entry in entries:
            self._count(key, entry, roles[entry["pool"]])
            self._log.info("scaled", extra={"fields": {"cluster": "/".join(key), **entry}})
        before_view = self._store.scaling.get(key) or ScalingView(last=self._last(key))
        view = ScalingView(
            last=[*before_view.last, *entries][-scaled_pools.LAST :],
            silent=[n for n, (one, _) in made.items() if one.reason is Reason.SIGNAL_STALE],
            short=[n for n, (one, _) in made.items() if one.is_short],
        )
        self._store.scaling[key] = view
        if view != before_view:
            self._worklist.wake(key, is_urgent=bool(entries))

    def _count(self, key: Key, entry: Object, role: str) -> None:
        labels = {"namespace": key[0], "cluster": key[1], "role": role, "pool": entry["pool"]}
        reason = entry["reason"]
        self._telemetry.counter(SCALE_DECISIONS, **labels, scale_reason=reason).inc()

    def _last(self, key: Key) -> list[Object]:
        """What status has from an operator before."""
        status = self._store.clusters[key].get("status") or {}
        return list(status.get("scaling", []))

    async def _tell(self, key: Key, entry: Object) -> None:
        body = self._store.clusters.get(key)
        if body is not None:
            await self._kube.create(EVENT, scaled_event(body, entry))


@dataclass(frozen=True, slots=True)
class _Said:
    """What routers and, by pool, workers have answered; `missing` is how many did not."""

    held: Held
    loads: Mapping[str, Mapping[str, WorkerLoad]]
    parts: Mapping[str, Held]
    missing: Mapping[str, int]
