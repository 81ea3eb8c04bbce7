"""Keeps the store as the API server is: lists each kind, then follows what changes."""

import asyncio
import logging
import random
from contextlib import aclosing
from typing import Final

from splitwise_core.metrics.operator import WATCH_FAILURES
from splitwise_core.telemetry import Telemetry
from splitwise_operator.kinds import Kind
from splitwise_operator.kube import ApiError, Kube
from splitwise_operator.store import SELECTOR, Key, Store
from splitwise_operator.worklist import Worklist

BACKOFF_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
GONE: Final = 410
"""The API server no longer knows what has changed since: list again."""


async def follow(
    kube: Kube,
    kind: Kind,
    namespace: str | None,
    store: Store,
    worklist: Worklist,
    listed: asyncio.Event,
    telemetry: Telemetry,
    log: logging.Logger,
) -> None:
    """Runs until cancelled. `listed` is set once all objects there were are in the store.

    A list also takes out what was deleted while nobody watched.
    """
    failures = 0
    while True:
        try:
            bodies, version = await kube.list(kind, namespace, SELECTOR)
            for key in store.keep_only(kind.name, namespace, bodies):
                _wake(key, store, worklist)
            listed.set()
            failures = 0
            await _watch(kube, kind, namespace, store, worklist, version)
        except ApiError as error:
            if error.code != GONE:
                fields = {"kind": kind.name, "why": error.message}
                telemetry.counter(WATCH_FAILURES).inc()
                log.warning("cannot watch; trying again", extra={"fields": fields})
                pause_s = BACKOFF_S[min(failures, len(BACKOFF_S) - 1)]
                failures += 1
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))


async def _watch(
    kube: Kube,
    kind: Kind,
    namespace: str | None,
    store: Store,
    worklist: Worklist,
    version: str,
) -> None:
    """Follows changes from `version` on, over as many streams as it takes. Raises ApiError."""
    while True:
        async with aclosing(kube.watch(kind, namespace, SELECTOR, version)) as events:
            async for event in events:
                body = event["object"]
                if event["type"] == "ERROR":
                    raise ApiError(body.get("code", 0), body.get("reason", ""), str(body))
                version = body["metadata"]["resourceVersion"]
                if event["type"] == "BOOKMARK":
                    continue
                if event["type"] == "DELETED":
                    key = store.drop(kind.name, body)
                else:
                    key = store.put(kind.name, body)
                if key is not None:
                    _wake(key, store, worklist)


def _wake(key: Key, store: Store, worklist: Worklist) -> None:
    """Objects of a cluster that is not there, or not known yet, are nobody's work."""
    if key in store.clusters:
        worklist.wake(key, is_urgent=False)
