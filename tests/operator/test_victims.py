"""Who goes when a Deployment shrinks: whoever has the least to do."""

import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from json import dumps
from typing import Any

import pytest

from splitwise_core.metric import Component
from splitwise_core.telemetry import Telemetry
from splitwise_operator.kinds import Kind
from splitwise_operator.kube import ApiError
from splitwise_operator.names import DELETION_COST
from splitwise_operator.observed import Seen, seen
from splitwise_operator.victims import MARK, Victims, marks, work_of
from tests.operator.test_autoscaler import load, page

LABELS = {
    "splitwise.dev/pool": "token",
    "splitwise.dev/role": "token",
    "splitwise.dev/revision": "r1",
}


def there(kind: str, name: str, cost: str | None = None, **body: Any) -> Seen:
    annotations = {} if cost is None else {DELETION_COST: cost}
    meta = {"name": name, "namespace": "ns", "uid": name, "resourceVersion": "1"}
    return seen(kind, {"metadata": meta | {"labels": LABELS, "annotations": annotations}} | body)


def pod(name: str, ready: bool = True, cost: str | None = None, address: str = "") -> Seen:
    conditions = [{"type": "Ready", "status": str(ready)}]
    return there("Pod", name, cost, status={"conditions": conditions, "podIP": address})


@pytest.mark.parametrize(
    ("pods", "works", "leaving", "expected"),
    [
        pytest.param(
            [pod("a"), pod("b"), pod("c")],
            {"a": 30, "b": 10, "c": 20},
            2,
            {"b": MARK, "c": MARK},
            id="those with the least work",
        ),
        pytest.param(
            [pod("a"), pod("b", ready=False)],
            {"a": 0},
            1,
            {},
            id="one that is not ready goes by itself",
        ),
        pytest.param(
            [pod("a"), pod("b")], {"a": 9}, 1, {"a": MARK}, id="none because it does not answer"
        ),
        pytest.param(
            [pod("a", cost=MARK), pod("b")],
            {"a": 9, "b": 1},
            1,
            {"a": None, "b": MARK},
            id="a mark from before is taken back",
        ),
        pytest.param(
            [pod("a", cost=MARK), pod("b")], {"a": 1, "b": 9}, 1, {}, id="nothing is marked twice"
        ),
    ],
)
def test_marks(
    pods: list[Seen], works: dict[str, int], leaving: int, expected: dict[str, str | None]
) -> None:
    assert marks(pods, works, leaving) == expected


def test_the_work_of_a_worker_is_what_it_has_to_compute_and_what_it_holds() -> None:
    assert work_of(load(queued_tokens=3, kv_taken=40, kv_reserved=500)) == 543


@dataclass
class Calls:
    """The API server as far as marks are written; `refuses` has it say no."""

    refuses: bool = False
    annotated: dict[str, Mapping[str, str | None]] = field(default_factory=dict)

    async def annotate(
        self, kind: Kind, namespace: str, name: str, annotations: Mapping[str, str | None]
    ) -> None:
        if self.refuses:
            raise ApiError(403, "Forbidden", "pods is forbidden")
        assert (kind.name, namespace) == ("Pod", "ns")
        self.annotated[name] = annotations


BUSY = {"127.77.0.1": 900, "127.77.0.2": 100, "127.77.0.3": 500}


async def marked(calls: Calls, wanted: int, left: int) -> None:
    """One look at three workers, each at an address of its own, that tell what they hold."""
    workers = there("Deployment", "demo-token-r1", spec={"replicas": wanted})
    pods = [pod(f"at-{address}", address=address) for address in BUSY]
    objects = {(one.kind, one.name): one for one in [workers, *pods]}
    said = {address: load(kv_taken=held) for address, held in BUSY.items()}
    async with AsyncExitStack() as pages:
        for address, one in said.items():
            body = dumps(asdict(one)).encode
            await pages.enter_async_context(page(address, 9101, body))
        victims = Victims(calls, Telemetry(Component.OPERATOR), logging.getLogger("test"))  # type: ignore[arg-type]
        await victims.mark(objects, {("token", "r1"): left})


async def test_workers_are_asked_and_the_least_busy_is_marked() -> None:
    calls = Calls()
    await marked(calls, wanted=3, left=2)
    assert calls.annotated == {"at-127.77.0.2": {DELETION_COST: MARK}}


@pytest.mark.parametrize(("wanted", "left"), [(3, 3), (2, 3), (3, 0)], ids=["as is", "more", "all"])
async def test_without_a_choice_nothing_is_written(wanted: int, left: int) -> None:
    calls = Calls()
    await marked(calls, wanted, left)
    assert calls.annotated == {}


async def test_what_cannot_be_marked_shrinks_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    await marked(Calls(refuses=True), wanted=3, left=2)
    assert "victims are not marked" in caplog.text
