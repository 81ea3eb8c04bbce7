"""What the advisor reads of routers' metrics."""

import pytest
from prometheus_client import generate_latest

from splitwise_core.metric import Component
from splitwise_core.metrics.router import (
    E2E,
    OUTPUT_TOKENS,
    PROMPT_SPEED,
    PROMPT_TOKENS,
    STAGE_FIRST_DECODE,
    STAGE_PREFILL,
    STAGE_TRANSFER,
    TBT,
    WORKER_SESSIONS,
)
from splitwise_core.policy.arrangements import Stages
from splitwise_core.stage_metrics import stages_of
from splitwise_core.telemetry import Telemetry


def page(requests: int) -> str:
    """A router that has served so many requests of 8 prompt and 3 output tokens."""
    telemetry = Telemetry(Component.ROUTER)
    for role, workers in (("prompt", 2), ("token", 3)):
        telemetry.gauge(WORKER_SESSIONS, role=role, pool=role).set(workers)
    telemetry.gauge(PROMPT_SPEED, role="prompt", pool="prompt").set(64.0)
    telemetry.gauge(PROMPT_SPEED, role="token", pool="token").set(0.0)
    for _ in range(requests):
        telemetry.counter(PROMPT_TOKENS).inc(8)
        telemetry.counter(OUTPUT_TOKENS).inc(3)
        for metric, seconds in (
            (E2E, 1.0),
            (STAGE_PREFILL, 0.25),
            (STAGE_TRANSFER, 0.125),
            (STAGE_FIRST_DECODE, 0.0625),
            (TBT, 0.5),
        ):
            telemetry.histogram(metric).observe(seconds)
    return generate_latest(telemetry.registry).decode()


def test_routers_together_have_served_what_each_has_and_know_the_same_workers() -> None:
    assert stages_of([page(2), page(3)], 7.0) == Stages(
        seconds=7.0,
        requests=5,
        prompt_tokens=40,
        output_tokens=15,
        e2e_s=5.0,
        prefills=5,
        prefill_s=1.25,
        transfers=5,
        transfer_s=0.625,
        first_decode_s=0.3125,
        gaps=5,
        gap_s=2.5,
        prompt_workers=2,
        token_workers=3,
        mixed_workers=0,
        prompt_tokens_per_s=64.0,
    )


@pytest.mark.parametrize("text", ["", "splitwise_queue 1\n", "<html>"])
def test_what_is_no_routers_page_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        stages_of([text], 0.0)
