"""What comes over the line of `shm` twice, too early, or never; and bytes that change meanwhile.

A socket of the same machine does none of this, but a sidecar with a bug may. Only what was sent is
verified (INV-3), both workers hear of one end, and the next transfer goes well.
"""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from splitwise_core.rpc import kv_pb2
from splitwise_sidecar.transports import wire_id
from tests.sidecar.conftest import GEOMETRY, NUM_BLOCKS, Pair, joined
from tests.support.kv_worker import KvWorker
from tests.support.line_proxy import LineProxy


@pytest.fixture
async def lined(tmp_path: Path) -> AsyncIterator[tuple[Pair, LineProxy]]:
    """A pair over `shm`, and the proxy between."""
    async with AsyncExitStack() as stack:
        pair = await stack.enter_async_context(joined(tmp_path, "shm"))
        proxy = LineProxy(Path(pair.token.sidecar.endpoints["shm"])).start()
        stack.push_async_callback(proxy.stop)
        yield pair, proxy


Rule = Callable[[bytes], Iterable[bytes]]


def at(kind: str, then: Rule) -> Rule:
    """Passes everything on, but does `then` with each message of this kind."""

    def look(data: bytes) -> Iterable[bytes]:
        is_it = kv_pb2.FromShmSender.FromString(data).WhichOneof("kind") == kind
        return then(data) if is_it else (data,)

    return look


def twice(data: bytes) -> Iterable[bytes]:
    return data, data


def never(_: bytes) -> Iterable[bytes]:
    return ()


def behind_its_layers(data: bytes) -> Iterable[bytes]:
    return message(layers=kv_pb2.ShmLayers(layers=range(GEOMETRY.num_layers))), data


def behind_its_end(data: bytes) -> Iterable[bytes]:
    return message(end=kv_pb2.ShmEnd()), data


def for_an_earlier_worker(data: bytes) -> Iterable[bytes]:
    return (begun(data, lambda begin: setattr(begin, "epoch", begin.epoch ^ 1)),)


def of_another_shape(data: bytes) -> Iterable[bytes]:
    """Of as many bytes, so that only what lies in them can tell."""

    def change(begin: kv_pb2.ShmBegin) -> None:
        begin.geometry.num_layers *= 2
        begin.geometry.kv_heads //= 2

    return (begun(data, change),)


def of_another_size(data: bytes) -> Iterable[bytes]:
    return (begun(data, lambda begin: setattr(begin, "num_blocks", begin.num_blocks - 1)),)


def begun(data: bytes, change: Callable[[kv_pb2.ShmBegin], None]) -> bytes:
    """The beginning of a push, changed."""
    made = kv_pb2.FromShmSender.FromString(data)
    change(made.begin)
    return made.SerializeToString()


def message(**kind: object) -> bytes:
    made = kv_pb2.FromShmSender(wire_id=wire_id("t"), **kind)  # type: ignore[arg-type]
    return made.SerializeToString()


GOES_WELL = [
    pytest.param(at("layers", twice), id="layers come twice"),
    pytest.param(at("end", twice), id="the end comes twice"),
    pytest.param(at("begin", behind_its_layers), id="layers come before their push"),
    pytest.param(at("begin", behind_its_end), id="an end comes before its push"),
]
ENDS = [
    pytest.param(at("begin", twice), kv_pb2.PEER_LOST, id="a push begins twice"),
    pytest.param(
        at("begin", for_an_earlier_worker), kv_pb2.STALE_EPOCH, id="it is for an earlier worker"
    ),
    pytest.param(at("begin", of_another_size), kv_pb2.PEER_LOST, id="its pool is of another size"),
    pytest.param(at("begin", never), kv_pb2.TRANSPORT_FAILED, id="a push never begins"),
    pytest.param(at("layers", never), kv_pb2.DENIED, id="layers never come"),
    pytest.param(at("layers", behind_its_end), kv_pb2.DENIED, id="layers come after the end"),
]


async def goes_well(pair: Pair, name: str) -> kv_pb2.TransferEnded:
    source, target = pair.open(name)
    pair.complete(name)
    await pair.token.worker.expect("lease_verified")
    ended: kv_pb2.TransferEnded = await pair.prompt.worker.expect("transfer_ended")
    assert ended.outcome == kv_pb2.OK
    assert pair.arrived(source, target)
    assert pair.prompt.worker.nothing_came()
    assert pair.token.worker.nothing_came()
    return ended


async def test_a_transfer_arrives_although_its_peer_counts_nothing(
    lined: tuple[Pair, LineProxy],
) -> None:
    def uncounted(data: bytes) -> Iterable[bytes]:
        return () if kv_pb2.ShmAnswer.FromString(data).HasField("counters") else (data,)

    pair, proxy = lined
    proxy.backward = uncounted
    await goes_well(pair, "t")


@pytest.mark.parametrize("rule", GOES_WELL)
async def test_a_transfer_arrives_although(lined: tuple[Pair, LineProxy], rule: Rule) -> None:
    pair, proxy = lined
    proxy.forward = rule
    assert (await goes_well(pair, "t")).pushes == 1


@pytest.mark.parametrize(("rule", "outcome"), ENDS)
async def test_a_transfer_ends_when(
    lined: tuple[Pair, LineProxy], rule: Rule, outcome: int
) -> None:
    pair, proxy = lined
    proxy.forward = rule
    pair.open("t")
    pair.complete("t")
    assert (await pair.prompt.worker.expect("transfer_ended")).outcome == outcome
    assert (await pair.token.worker.expect("lease_ended")).outcome == outcome
    proxy.release()
    await goes_well(pair, "next")


async def test_a_pool_of_another_shape_is_never_verified(lined: tuple[Pair, LineProxy]) -> None:
    """Its sender is believed until another worker attaches to it."""
    pair, proxy = lined
    proxy.forward = at("begin", of_another_shape)
    pair.open("t")
    pair.complete("t")
    assert (await pair.prompt.worker.expect("transfer_ended")).outcome == kv_pb2.DIGEST_MISMATCH
    assert (await pair.token.worker.expect("lease_ended")).outcome == kv_pb2.DIGEST_MISMATCH
    proxy.release()
    await pair.prompt.replace_worker(KvWorker(GEOMETRY, NUM_BLOCKS, "p2"))
    await goes_well(pair, "next")


async def test_a_byte_that_changes_in_shared_memory_is_sent_again(
    lined: tuple[Pair, LineProxy],
) -> None:
    """After the sender has taken its digest, and before the receiver copies."""
    pair, proxy = lined
    source, target = pair.open("t")
    await pair.until(lambda: pair.token.value("splitwise_kv_leases", state="reserved") == 1)
    proxy.may_pass.clear()
    pair.complete("t")
    await pair.until(lambda: pair.prompt.value("splitwise_kv_transfer_bytes_total") > 0)
    pair.prompt.worker.memory[source[0] * GEOMETRY.block_bytes] ^= 1
    proxy.may_pass.set()
    await pair.token.worker.expect("lease_verified")
    assert (await pair.prompt.worker.expect("transfer_ended")).pushes == 2
    assert pair.token.value("splitwise_kv_damaged_layers_total") == 1
    assert pair.arrived(source, target)
