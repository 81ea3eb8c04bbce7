"""How large /metrics is after many requests: what they leave in the metrics, without them.

100,000 requests would take minutes. What moves the metrics of each is called here as the router and
the engine call it, with times and sizes of every magnitude, so that no series and no bucket is left
out, and each of three requests is traced: exemplars are in the page too.
"""

import logging
import random
import time
from typing import Any

from prometheus_client.exposition import choose_encoder

from splitwise_core.latency.power import PowerModel
from splitwise_core.metric import Component
from splitwise_core.metrics.router import HTTP_REQUESTS, PLACEMENTS
from splitwise_core.policy.batching import StepKind
from splitwise_core.policy.routing import Reason
from splitwise_core.rpc import kv_pb2
from splitwise_core.rpc.worker_pb2 import Sampling, Stages
from splitwise_core.telemetry import Telemetry
from splitwise_core.tracing import Recorder, SpanContext
from splitwise_router.choice import Clock
from splitwise_router.generation import Generation
from splitwise_router.goodput import Goodput, Objectives
from splitwise_router.request_log import RequestLog, RequestLogging
from splitwise_router.request_trace import UNTRACED, GenerationTrace, RequestTrace
from splitwise_worker.engine_metrics import EngineMetrics
from splitwise_worker.estimates import Estimates
from splitwise_worker.load_meter import Stepped
from splitwise_worker.machine import Machine
from splitwise_worker.model_work import ModelWork

FORMATS = {"text": "", "openmetrics": "application/openmetrics-text;version=1.0.0"}


def router_bytes(requests: int) -> dict[str, int]:
    """Bytes of a router's page in each format."""
    telemetry = Telemetry(Component.ROUTER)
    unlogged = RequestLog(logging.getLogger(), RequestLogging.OFF)
    clock = Clock(telemetry, Goodput(telemetry, Objectives(1.0, 0.1, 0.9)), unlogged)
    draw = random.Random(7)
    recorder = Recorder(1)
    reasons = list(Reason)
    for number in range(requests):
        arrived_s = time.monotonic()
        first_s = arrived_s + draw.lognormvariate(-1, 2)
        last_s = first_s + draw.lognormvariate(-3, 2)
        traced = RequestTrace(recorder, SpanContext.new()) if number % 3 == 0 else UNTRACED
        generation = Generation("r", [1], Sampling(), 0.0)
        generation.trace = GenerationTrace(traced, arrived_s, 0)
        queue_s, prefill_s, transfer_s, first_decode_s = (
            draw.lognormvariate(-3, 2) for _ in range(4)
        )
        generation.stages = Stages(
            queue_s=queue_s,
            prefill_s=prefill_s,
            transfer_s=transfer_s,
            first_decode_s=first_decode_s,
        )
        clock.asked(100)
        clock.tokens(1, arrived_s, None, first_s, generation.trace)
        clock.tokens(3, arrived_s, first_s, last_s, generation.trace)
        clock.ended(generation, arrived_s, first_s, last_s, last_s)
        telemetry.counter(HTTP_REQUESTS, endpoint="chat", status="200").inc()
        telemetry.counter(PLACEMENTS, reason=reasons[number % len(reasons)].value).inc()
    return _bytes(telemetry)


def worker_bytes(requests: int) -> dict[str, int]:
    """Bytes of a worker's page in each format."""
    telemetry = Telemetry(Component.WORKER, role="token", pool="token")
    machine = Machine(2.0, PowerModel(100.0, 600.0, 400.0), 1e15, 1e12)
    estimates = Estimates(telemetry, ModelWork(10**9, 10**8, 10**5, 10**9, 10**5, None), machine)
    outcomes: list[Any] = kv_pb2.Outcome.values()
    metrics, draw = EngineMetrics(telemetry, lambda: 1.0, estimates, 1024), random.Random(7)
    for number in range(requests):
        tokens, seconds = draw.randrange(1, 5000), draw.lognormvariate(-4, 2)
        step = Stepped(StepKind.PROMPT, prompt_tokens=tokens, prompt_s=seconds)
        if number % 4:
            step = Stepped(StepKind.TOKEN, decoded=tokens, token_s=seconds)
        metrics.stepped(step, [1], [tokens + 1])
        metrics.ended(outcomes[number % len(outcomes)])
    return _bytes(telemetry)


def _bytes(telemetry: Telemetry) -> dict[str, int]:
    sizes = {}
    for name, accept in FORMATS.items():
        encode, _ = choose_encoder(accept)
        sizes[name] = len(encode(telemetry.registry))
    return sizes
