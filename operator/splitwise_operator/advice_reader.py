"""Asks routers what stages requests went through, and keeps what the advisor makes of it."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import aiohttp

from splitwise_core.errors import UserError
from splitwise_core.metrics.operator import STAGE_READINGS
from splitwise_core.policy.advice import ABOUT, Advice, Why, advise
from splitwise_core.policy.arrangements import Stages
from splitwise_core.stage_metrics import stages_of
from splitwise_core.telemetry import Telemetry
from splitwise_operator.manifest import cluster_of
from splitwise_operator.names import Object
from splitwise_operator.pages import get_page
from splitwise_operator.scaled_pools import router_addresses
from splitwise_operator.store import Key, Store
from splitwise_operator.worklist import Worklist

EVERY_S: Final = 30.0
DEADLINE_S: Final = 3.0
AT_ONCE: Final = 16
MAX_BYTES: Final = 1 << 20
LOOKS: Final = 21
"""Advice is on the load of the last ten minutes."""
RENEWED_S: Final = 600.0
"""Advice that stands in a status is replaced by other advice at most this often."""


class AdviceReader:
    """Keeps `store.advice` up to date."""

    def __init__(
        self,
        store: Store,
        worklist: Worklist,
        telemetry: Telemetry,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._worklist = worklist
        self._telemetry = telemetry
        self._clock = clock
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._past: dict[Key, deque[Stages]] = {}
        self._written_s: dict[Key, float] = {}

    async def run(self) -> None:
        """Reads for ever."""
        timeout = aiohttp.ClientTimeout(total=DEADLINE_S)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            while True:
                self._forget()
                await asyncio.gather(*(self._read(http, key) for key in self._store.clusters))
                await asyncio.sleep(EVERY_S)

    def _forget(self) -> None:
        for known in (self._past, self._written_s, self._store.advice):
            for gone in known.keys() - self._store.clusters.keys():
                del known[gone]

    async def _read(self, http: aiohttp.ClientSession, key: Key) -> None:
        try:
            cluster = cluster_of(self._store.clusters[key])
        except UserError:  # the cluster's status says so
            return
        addresses = router_addresses(cluster, self._store.objects(key), "/metrics")
        if not addresses:
            return
        try:
            async with self._slots:
                pages = [get_page(http, url, MAX_BYTES) for url in addresses.values()]
                texts = [page.decode() for page in await asyncio.gather(*pages)]
            now = await asyncio.to_thread(stages_of, texts, self._clock())
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            self._telemetry.counter(STAGE_READINGS, result="failed").inc()
            return
        self._telemetry.counter(STAGE_READINGS, result="done").inc()
        if key in self._store.clusters:
            self._take(key, now)

    def _take(self, key: Key, now: Stages) -> None:
        past = self._past.setdefault(key, deque(maxlen=LOOKS))
        found = now.since(past[0]) if past else None
        if past and found is None:  # a router is gone, or began anew
            past.clear()
        past.append(now)
        if found is None:
            return
        advice = advise(found)
        if advice.why in (Why.TOO_FEW_REQUESTS, Why.ONE_WORKER):
            return  # what stands there is of the last load that said something
        status = self._store.clusters[key].get("status") or {}
        before = self._store.advice.get(key) or status.get("advice")
        told = entry_of(advice, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
        if before is not None and _says(before) == _says(told):
            return
        if self._clock() - self._written_s.get(key, -RENEWED_S) >= RENEWED_S:
            self._written_s[key] = self._clock()
            self._store.advice[key] = told
            self._worklist.wake(key, is_urgent=False)


def entry_of(advice: Advice, time: str) -> Object:
    """The advice as status has it, with the numbers behind it."""
    inputs = {
        "requests": advice.requests,
        "requestsPerSecond": advice.requests_per_s,
        "promptSeconds": advice.prompt_s,
        "handOverSeconds": advice.hand_over_s,
        "stepSeconds": advice.step_s,
        "outputTokens": advice.output_tokens,
        "measuredSeconds": advice.measured_e2e_s,
        "expectedSeconds": advice.expected_e2e_s,
    }
    for name, one in (("split", advice.split), ("together", advice.together)):
        if one is not None:
            inputs[f"{name}Seconds"] = one.e2e_s
            inputs[f"{name}FirstTokenSeconds"] = one.ttft_s
            inputs[f"{name}TailSeconds"] = one.tail_s
            inputs[f"{name}PromptBusy"] = one.prompt_busy
    made: Object = {
        "verdict": advice.verdict.value,
        "reason": advice.why.value,
        "message": ABOUT[advice.why],
        "confidence": advice.confidence.value,
        "time": time,
        "inputs": {name: float(f"{value:.4g}") for name, value in inputs.items()},
    }
    if advice.split is not None:
        made["promptWorkers"] = advice.split.prompt_workers
        made["tokenWorkers"] = advice.split.token_workers
    return made


def _says(entry: Object) -> tuple[object, ...]:
    """What is worth a write when it changes; numbers alone are never twice the same."""
    words = ("verdict", "reason", "confidence", "promptWorkers", "tokenWorkers")
    return tuple(entry.get(word) for word in words)
