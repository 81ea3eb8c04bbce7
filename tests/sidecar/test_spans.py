"""What the two sidecars of a transfer say to the trace of its request."""

from splitwise_core.rpc import kv_pb2
from splitwise_core.tracing import Span, SpanContext
from tests.sidecar.conftest import GEOMETRY, Node, Pair

WORKERS = SpanContext(7, 8)


def by_name(node: Node) -> dict[str, Span]:
    found = {span.name: span for span in node.recorder.take()}
    assert all(span.context.trace_id == WORKERS.trace_id for span in found.values())
    return found


async def test_both_sides_say_what_they_did_and_for_how_long(pair: Pair) -> None:
    pair.open("t", traceparent=WORKERS.traceparent)
    pair.complete("t")
    await pair.token.worker.expect("lease_verified")
    await pair.prompt.worker.expect("transfer_ended")
    sent, received = by_name(pair.prompt), by_name(pair.token)
    assert sent.keys() == {"kv.push", "kv.reserve", "kv.send", "kv.commit"}
    assert received.keys() == {"kv.receive", "kv.verify"}
    for whole, parts in ((sent["kv.push"], sent), (received["kv.receive"], received)):
        assert whole.parent_id == WORKERS.span_id
        assert whole.attributes["splitwise.transport"] == pair.transport
        assert whole.attributes["splitwise.kv_bytes"] == GEOMETRY.sequence_bytes(100)
        for part in parts.values():
            assert whole.began_s <= part.began_s <= part.ended_s <= whole.ended_s
            assert part is whole or part.parent_id == whole.context.span_id


async def test_a_transfer_that_is_given_up_says_so_and_what_it_came_to(pair: Pair) -> None:
    pair.open("t", traceparent=WORKERS.traceparent)
    await pair.until(lambda: pair.token.value("splitwise_kv_leases", state="reserved") == 1)
    pair.prompt.worker.withdraw("t", kv_pb2.EXPIRED)
    await pair.prompt.worker.expect("transfer_ended")
    await pair.token.worker.expect("lease_ended")
    assert by_name(pair.prompt).pop("kv.push").error == "expired"
    assert by_name(pair.token).keys() == {"kv.receive"}


async def test_a_transfer_that_nobody_traces_leaves_nothing(pair: Pair) -> None:
    pair.open("t")
    pair.complete("t")
    await pair.token.worker.expect("lease_verified")
    await pair.prompt.worker.expect("transfer_ended")
    assert pair.prompt.recorder.take() == pair.token.recorder.take() == []
