"""The stages of a traced sequence, in the test's own time: each begins where the last one ended."""

import pytest

from splitwise_core.rpc import kv_pb2, worker_pb2
from splitwise_core.tracing import Recorder, SpanContext, parse_traceparent
from splitwise_worker import commands
from splitwise_worker.sequence import SequenceKey
from tests.worker.conftest import MakeRig
from tests.worker.support import CAPABILITY, PEER, SESSION, WALL_S, Rig, prompt

ATTEMPT = SpanContext(7, 8)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder(1000, 1000)


@pytest.fixture
def rig(make_rig: MakeRig, recorder: Recorder) -> Rig:
    return make_rig(recorder=recorder)


def prefill(rig: Rig, transfer: str = "", max_tokens: int = 4) -> None:
    message = rig.asked(1, prompt(5), transfer, max_tokens=max_tokens)
    message.request.traceparent = ATTEMPT.traceparent
    rig.submit_prefill(message)


def decode(rig: Rig) -> None:
    asked = rig.asked(1, prompt(5), "t").request
    asked.traceparent = ATTEMPT.traceparent
    transfer = worker_pb2.Transfer(transfer_id="t")
    message = worker_pb2.Decode(request=asked, transfer=transfer)
    rig.engine.submit(commands.Decode(SESSION, message))
    rig.turn()


def turn(rig: Rig, at_s: float) -> None:
    rig.now = at_s
    rig.turn()


def stages(recorder: Recorder) -> list[tuple[str, float, float, str]]:
    """Names, begins, ends and errors, as they were recorded."""
    spans = recorder.take()
    assert all(s.context.trace_id == 7 and s.parent_id == 8 for s in spans)
    return [(s.name, s.began_s, s.ended_s, s.error) for s in spans]


def test_a_request_that_stays_queues_prefills_and_decodes(
    make_rig: MakeRig, recorder: Recorder
) -> None:
    rig = make_rig(recorder=recorder, batch_tokens=5)
    rig.prefill(2, prompt(5, first=9), max_tokens=1)
    prefill(rig)
    for at_s in (0.0, 2.0, 3.0, 4.0, 5.0):
        turn(rig, at_s)
    found = [("queue", 0.0, 2.0, ""), ("prefill", 2.0, 2.0, ""), ("decode", 2.0, 5.0, "")]
    assert stages(recorder) == found
    (first, *_) = rig.updates(1)
    assert first.stages.arrived_unix_s == WALL_S  # the router's `dispatch` ends there


def test_a_prompt_that_is_handed_over_ends_with_its_transfer(rig: Rig, recorder: Recorder) -> None:
    prefill(rig, "t")
    turn(rig, 1.0)
    rig.transfer_ended("t")
    turn(rig, 1.5)
    *_, transfer = spans = recorder.take()
    assert [span.name for span in spans] == ["queue", "prefill", "transfer"]
    assert (transfer.began_s, transfer.ended_s) == (1.0, 1.5)
    start = next(m.start_transfer for m in rig.sidecar.heard() if m.HasField("start_transfer"))
    assert parse_traceparent(start.traceparent) == (transfer.context, True)
    assert start.request_id == "request-1"


def test_a_token_worker_waits_for_kv_and_decodes(rig: Rig, recorder: Recorder) -> None:
    decode(rig)
    rig.verified("t")
    for at_s in (3.0, 4.0, 5.0):
        turn(rig, at_s)
    assert stages(recorder) == [
        ("await_kv", 0.0, 3.0, ""),
        ("first_decode", 3.0, 3.0, ""),
        ("decode", 3.0, 5.0, ""),
    ]


@pytest.mark.parametrize(
    ("outcome", "error"),
    [
        pytest.param(kv_pb2.EXPIRED, "expired", id="as an error"),
        pytest.param(kv_pb2.CANCELLED, "", id="and as none where nobody wants it any more"),
    ],
)
def test_kv_that_never_comes_is_seen(
    rig: Rig, recorder: Recorder, outcome: kv_pb2.Outcome, error: str
) -> None:
    decode(rig)
    rig.lease_ended("t", outcome)
    turn(rig, 3.0)
    assert stages(recorder) == [("await_kv", 0.0, 3.0, error)]


@pytest.mark.parametrize("outcome", [kv_pb2.OK, kv_pb2.PEER_LOST], ids=["done", "in vain"])
def test_a_move_is_a_span_beside_the_decode(
    rig: Rig, recorder: Recorder, outcome: kv_pb2.Outcome
) -> None:
    prefill(rig, max_tokens=9)
    turn(rig, 1.0)
    turn(rig, 2.0)
    leave = worker_pb2.Transfer(transfer_id="m", peer=PEER, capability=CAPABILITY)
    told = worker_pb2.Move(sequence=1, transfer=leave, num_tokens=5)
    rig.engine.submit(commands.Move(SequenceKey(SESSION, 1), told))
    turn(rig, 3.0)
    rig.hear(transfer_pushed=kv_pb2.TransferPushed(transfer_id="m"))
    rig.transfer_ended("m", outcome)
    turn(rig, 4.0)
    recorded = stages(recorder)
    assert ("move", 3.0, 4.0, "" if outcome == kv_pb2.OK else "peer_lost") in recorded
    assert (("decode", 1.0, 4.0, "") in recorded) == (outcome == kv_pb2.OK)


def test_a_request_that_nobody_traces_leaves_nothing(rig: Rig, recorder: Recorder) -> None:
    rig.prefill(1, prompt(5))
    rig.settle()
    assert recorder.take() == []
    assert not rig.updates(1)[0].stages.HasField("arrived_unix_s")


def test_a_worker_without_tracing_passes_nothing_on(make_rig: MakeRig) -> None:
    rig = make_rig()
    prefill(rig, "t")
    rig.settle()
    start = next(m.start_transfer for m in rig.sidecar.heard() if m.HasField("start_transfer"))
    assert start.traceparent == ""
