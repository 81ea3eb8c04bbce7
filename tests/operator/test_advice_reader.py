"""The advisor's loop: what a router tells of its requests becomes a field of the status."""

import asyncio
from collections.abc import Callable

import pytest

from splitwise_core.metric import Component
from splitwise_core.policy.advice import Advice, Confidence, Verdict, Why
from splitwise_core.telemetry import Telemetry
from splitwise_operator import advice_reader
from splitwise_operator.advice_reader import AdviceReader, entry_of
from splitwise_operator.store import Store
from splitwise_operator.worklist import Worklist
from tests.core.test_stage_metrics import page as metrics
from tests.operator.test_autoscaler import KEY, page, store_with
from tests.support.cluster import eventually

HOST, PORT = "127.0.3.9", 18431


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advice_reader, "EVERY_S", 0.1)


async def read(said: Callable[[], str], until: Callable[[Store, Telemetry], bool]) -> Store:
    """The loop, on a router that says so, until then."""
    store, telemetry = store_with({}, {"router": HOST}), Telemetry(Component.OPERATOR)
    spec = store.clusters[KEY]["spec"]
    for pool in spec["pools"]:
        pool.pop("autoscaling", None)
    worklist = Worklist(lambda _: asyncio.sleep(0, True))
    async with page(HOST, PORT, lambda: said().encode()):
        reading = asyncio.create_task(AdviceReader(store, worklist, telemetry).run())
        await asyncio.to_thread(
            eventually, lambda: until(store, telemetry), 20, lambda: str(store.advice)
        )
        reading.cancel()
        await asyncio.wait([reading])
    await worklist.close()
    return store


def readings(telemetry: Telemetry, result: str) -> float:
    name = "splitwise_operator_stage_readings_total"
    return telemetry.registry.get_sample_value(name, {"result": result}) or 0.0


async def test_requests_between_two_looks_become_advice_with_its_numbers() -> None:
    served = 0

    def more() -> str:
        nonlocal served
        served += 25
        return metrics(served)

    store = await read(more, lambda store, _: KEY in store.advice)
    found = store.advice[KEY]
    assert found["inputs"]["promptSeconds"] == 0.25
    assert found["inputs"]["requests"] >= 25
    assert (found["verdict"], found["reason"]) == ("Unknown", "Overloaded"), "so many a second"


async def test_a_cluster_that_nobody_asks_has_no_advice() -> None:
    store = await read(lambda: metrics(3), lambda _, told: readings(told, "done") >= 3)
    assert store.advice == {}


async def test_a_router_that_answers_nonsense_is_counted_and_changes_nothing() -> None:
    store = await read(lambda: "<html>", lambda _, told: readings(told, "failed") >= 2)
    assert store.advice == {}


def test_an_entry_is_rounded_and_says_how_sure_it_is() -> None:
    advice = Advice(Verdict.EITHER, Why.NO_DIFFERENCE, Confidence.LOW, 30, prompt_s=0.123456)
    made = entry_of(advice, "2026-01-01T00:00:00Z")
    assert made["inputs"]["promptSeconds"] == 0.1235
    assert (made["verdict"], made["confidence"]) == ("Either", "Low")
    assert "promptWorkers" not in made
