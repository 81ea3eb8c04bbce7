"""One look at a cluster: what it should be, what it is, and the writes in between."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from splitwise_core.errors import UserError
from splitwise_core.labels import ROUTER
from splitwise_core.metrics.operator import RECONCILE, WRITES
from splitwise_core.spec import SplitwiseCluster
from splitwise_core.telemetry import Telemetry
from splitwise_operator import scale, secret_keeper, status
from splitwise_operator.conditions import Reason
from splitwise_operator.events import events
from splitwise_operator.fleet import Objects, desired_of, pool_states, routers_done, scaled_of
from splitwise_operator.images import Images
from splitwise_operator.kinds import BY_NAME, CLUSTER, DEPLOYMENT, EVENT, POOL, Kind, in_order
from splitwise_operator.kube import ApiError, Kube, time_now
from splitwise_operator.kv_secret import secret_name
from splitwise_operator.manifest import cluster_of, owner
from splitwise_operator.names import Object, object_name, revision
from splitwise_operator.observed import Scaled, Seen, Workers
from splitwise_operator.ownership import is_as_applied, with_digest
from splitwise_operator.render import Counts, render
from splitwise_operator.rollout import next_step
from splitwise_operator.scaled_pools import ScalingView
from splitwise_operator.status import PoolCount, Problem, View
from splitwise_operator.store import Key, Store
from splitwise_operator.transfer import settled
from splitwise_operator.victims import Victims

_WORDS: Final = {403: Reason.FORBIDDEN, 409: Reason.FIELD_CONFLICT, 0: Reason.API_UNAVAILABLE}


class Reconciler:
    """Brings clusters in order. All that it knows is in the store: it remembers nothing else."""

    def __init__(
        self,
        kube: Kube,
        store: Store,
        images: Images,
        telemetry: Telemetry,
        log: logging.Logger,
    ) -> None:
        self._kube = kube
        self._store = store
        self._images = images
        self._telemetry = telemetry
        for result in ("done", "incomplete", "failed"):  # shown from 0 on, so that a rate sees all
            telemetry.histogram(RECONCILE, result=result)
        self._log = log
        self._victims = Victims(kube, telemetry, log)

    async def look(self, key: Key) -> bool:
        """One look; whether all of it was done. Raises nothing: what fails is in the status."""
        began = time.monotonic()
        outcome = "failed"
        try:
            outcome = "done" if await self._look(key) else "incomplete"
        except ApiError as error:
            self._say(key, error.message)
        except Exception:
            self._log.exception("reconcile failed", extra={"fields": {"cluster": "/".join(key)}})
        took_s = time.monotonic() - began
        self._telemetry.histogram(RECONCILE, result=outcome).observe(took_s)
        return outcome == "done"

    async def _look(self, key: Key) -> bool:
        body = self._store.clusters.get(key)
        if body is None or "deletionTimestamp" in body["metadata"]:
            return True  # its objects go by their owner reference
        try:
            cluster = cluster_of(body)
        except UserError as error:
            problem = Problem(Reason.INVALID_SPEC, f"{error.where}: {error.wrong}")
            await self._write_invalid(body, problem)
            return True
        objects = self._store.objects(key)
        if not await self._is_there(body, cluster, objects):
            return True
        current = revision(cluster, self._images)
        problems = await self._keep_secret(body, cluster)
        problems += await self._write_objects(body, cluster, objects, current)
        await self._write_status(body, cluster, self._store.objects(key), current, problems)
        return not problems

    async def _is_there(self, body: Object, cluster: SplitwiseCluster, objects: Objects) -> bool:
        """Whether the cluster still exists: asked before its objects are made anew.

        An event of its deletion may have been missed, and what is made for an owner that is gone is
        deleted at once, again and again.
        """
        if all((kind, name) in objects for kind, name in _always(cluster)):
            return True
        meta = body["metadata"]
        found = await self._kube.get(CLUSTER, meta["namespace"], meta["name"])
        if found is not None and found["metadata"]["uid"] == meta["uid"]:
            return True
        if self._store.clusters.get((meta["namespace"], meta["name"])) is body:
            del self._store.clusters[meta["namespace"], meta["name"]]
        return False

    # ---- objects ----

    async def _keep_secret(self, body: Object, cluster: SplitwiseCluster) -> list[Problem]:
        """Before the pods that mount it."""
        what = f"Secret {secret_name(cluster)}"
        try:
            if await secret_keeper.keep(self._kube, cluster, owner(body), datetime.now(UTC)):
                self._telemetry.counter(WRITES, verb="apply").inc()
            problem = await secret_keeper.look_at_theirs(self._kube, cluster)
        except secret_keeper.Taken:
            return [Problem(Reason.NAME_TAKEN, f"{what} exists and is not of this cluster.")]
        except ApiError as error:
            return [_problem(what, error)]
        return [problem] if problem else []

    async def _write_objects(
        self, body: Object, cluster: SplitwiseCluster, objects: Objects, current: str
    ) -> list[Problem]:
        """Applies what differs, scales old revisions, deletes what is too much."""
        step = next_step(
            pool_states(cluster, objects, current), current, routers_done(cluster, objects, current)
        )
        counts = {
            pool.name: Counts(
                desired_of(cluster, objects, pool),
                step[pool.name, current],
                scale.asked_of(pool),
            )
            for pool in cluster.spec.pools
        }
        await self._victims.mark(objects, step)
        wanted = [_owned(made, body) for made in render(cluster, self._images, counts)]
        problems: list[Problem] = []
        for group in in_order(wanted):
            done = await asyncio.gather(*(self._apply(made, objects) for made in group))
            problems += [problem for problem in done if problem]
        keep = {(made["kind"], made["metadata"]["name"]) for made in wanted}
        for seen in objects.values():
            if (seen.kind, seen.name) not in keep and not seen.is_leaving:
                problem = await self._retire(seen, step)
                problems += [problem] if problem else []
        return problems

    async def _apply(self, made: Object, objects: Objects) -> Problem | None:
        kind = BY_NAME[made["kind"]]
        known = objects.get((kind.name, made["metadata"]["name"]))
        if kind is POOL:
            scaled = known.part if known and isinstance(known.part, Scaled) else None
            made = scale.without_others_replicas(made, scaled)
        marked = with_digest(made)
        if known and is_as_applied(known.digest, known.owned, marked):
            return None
        what = f"{kind.name} {made['metadata']['name']}"
        try:
            if known is None and await self._is_taken(kind, made):
                return Problem(Reason.NAME_TAKEN, f"{what} exists and is not of this cluster.")
            try:
                answer = await self._kube.apply(kind, marked, force=False)
            except ApiError as error:
                if error.code != 409 or (known and _declared(error, known)):
                    raise
                answer = await self._kube.apply(kind, marked, force=True)  # changed by hand
        except ApiError as error:
            return _problem(what, error)
        self._telemetry.counter(WRITES, verb="apply").inc()
        self._store.put(kind.name, answer)
        return None

    async def _is_taken(self, kind: Kind, made: Object) -> bool:
        """Whether an object of that name is somebody else's: to take it over would be to lose it,
        for it would go with the cluster."""
        meta = made["metadata"]
        found = await self._kube.get(kind, meta["namespace"], meta["name"])
        if found is None:
            return False
        owners = {own["uid"] for own in found["metadata"].get("ownerReferences", [])}
        return meta["ownerReferences"][0]["uid"] not in owners

    async def _retire(self, seen: Seen, step: Mapping[tuple[str, str], int]) -> Problem | None:
        """Scales a Deployment that others replace; deletes what the cluster no longer has."""
        kind = BY_NAME[seen.kind]
        if not kind.is_pruned:
            return None
        left = step.get((seen.pool, seen.revision), 0) if kind is DEPLOYMENT else 0
        try:
            if isinstance(seen.part, Workers) and left:
                if seen.part.wanted != left:
                    await self._kube.scale(kind, seen.namespace, seen.name, left)
                    self._telemetry.counter(WRITES, verb="scale").inc()
            else:
                await self._kube.delete(kind, seen.namespace, seen.name, seen.uid)
                self._telemetry.counter(WRITES, verb="delete").inc()
        except ApiError as error:
            return _problem(f"{kind.name} {seen.name}", error)
        return None

    # ---- status ----

    async def _write_status(
        self,
        body: Object,
        cluster: SplitwiseCluster,
        objects: Objects,
        current: str,
        problems: Sequence[Problem],
    ) -> None:
        all_objects = list(objects.values())
        pools = [
            status.count(all_objects, p.name, p.role, desired_of(cluster, objects, p), current)
            for p in cluster.spec.pools
        ]
        routers = status.count(all_objects, ROUTER, ROUTER, cluster.spec.router.replicas, current)
        for pool in pools:
            await self._write_pool_status(cluster, objects, pool)
        before = body.get("status") or {}
        key = (cluster.metadata.namespace, cluster.metadata.name)
        there = before.get("transfer", [])
        read = self._store.transfer.get(key)
        links = there if read is None else settled(there, read)
        scaling = self._store.scaling.get(key)
        told = ScalingView(last=before.get("scaling", [])) if scaling is None else scaling
        advice = self._store.advice.get(key) or before.get("advice")
        view = View(cluster, current, pools, routers, all_objects, problems, links, told, advice)
        made = status.cluster_status(view, body["metadata"]["generation"], before, time_now())
        await self._write_cluster_status(body, before, made)

    async def _write_pool_status(
        self, cluster: SplitwiseCluster, objects: Objects, pool: PoolCount
    ) -> None:
        name = object_name(cluster, pool.name)
        scaled = scaled_of(cluster, objects, pool.name)
        made = status.pool_status(cluster, pool)
        if scaled is not None and scaled.status != made:
            body = status.status_body(cluster.metadata.namespace, POOL, name, made)
            await self._kube.apply_status(POOL, body)
            self._telemetry.counter(WRITES, verb="status").inc()

    async def _write_invalid(self, body: Object, problem: Problem) -> None:
        before = body.get("status") or {}
        generation = body["metadata"]["generation"]
        made = status.invalid_status(problem, generation, before, time_now())
        await self._write_cluster_status(body, before, made)

    async def _write_cluster_status(self, body: Object, before: Object, made: Object) -> None:
        if made == before:
            return
        meta = body["metadata"]
        await self._kube.apply_status(
            CLUSTER, status.status_body(meta["namespace"], CLUSTER, meta["name"], made)
        )
        self._telemetry.counter(WRITES, verb="status").inc()
        key = (meta["namespace"], meta["name"])
        if self._store.clusters.get(key) is body:
            self._store.clusters[key] = {**body, "status": made}  # before the event of it comes
        for event in events(body, before, made, time_now()):
            await self._kube.create(EVENT, event)

    def _say(self, key: Key, why: str) -> None:
        fields = {"cluster": "/".join(key), "why": why}
        self._log.warning("cluster cannot be brought in order now", extra={"fields": fields})


def _always(cluster: SplitwiseCluster) -> list[tuple[str, str]]:
    """Objects that every cluster has from its first look on."""
    name = cluster.metadata.name
    return [("ServiceAccount", name), ("Deployment", object_name(cluster, ROUTER))]


def _owned(made: Object, body: Object) -> Object:
    return made | {"metadata": made["metadata"] | {"ownerReferences": [owner(body)]}}


def _declared(error: ApiError, known: Seen) -> bool:
    """Whether a conflict is with somebody who declares the fields, not with a change by hand."""
    return any(f'"{manager}"' in error.message for manager in known.others)


def _problem(what: str, error: ApiError) -> Problem:
    reason = _WORDS.get(error.code, Reason.OBJECT_REFUSED)
    if error.code >= 500 or error.code == 429:
        reason = Reason.API_UNAVAILABLE
    elif error.code == 403 and "exceeded quota" in error.message:
        reason = Reason.QUOTA_EXCEEDED
    return Problem(reason, f"{what}: {error.message}.")
