"""A Commit goes behind its bytes over `shm`: whatever becomes of it there, it has one outcome."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from splitwise_core.rpc import kv_pb2
from splitwise_sidecar.leases import Leases
from splitwise_sidecar.peer_service import PeerService
from splitwise_sidecar.transports import shm
from splitwise_sidecar.transports.shm_receiver import MAX_COMMITS
from tests.sidecar.conftest import Node, Pair, joined
from tests.sidecar.hand import Hand
from tests.support.kv_worker import ANSWER_WITHIN_S
from tests.support.line_proxy import LineProxy

TRANSFERS: Final = "splitwise_kv_transfers_total"


class Commits:
    """How many were called, and how many there were in all; where they arrive."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.called = self.heard = 0
        call, commit = PeerService.Commit, Leases.commit

        async def called(service: PeerService, request: Any, context: Any) -> kv_pb2.CommitReply:
            self.called += 1
            return await call(service, request, context)

        async def heard(leases: Leases, *args: Any) -> list[int]:
            self.heard += 1
            return await commit(leases, *args)

        monkeypatch.setattr(PeerService, "Commit", called)
        monkeypatch.setattr(Leases, "commit", heard)


class Lined:
    """A pair over `shm`, and the proxy between."""

    def __init__(self, pair: Pair, proxy: LineProxy, commits: Commits) -> None:
        self.pair = pair
        self.proxy = proxy
        self.commits = commits

    async def one_outcome(self) -> kv_pb2.TransferEnded:
        """A transfer that has to end well, and once on either side, and the next one too."""
        ended = await self._verified("t")
        assert await self._verified("next")
        for node, direction in ((self.pair.prompt, "sent"), (self.pair.token, "received")):
            assert node.value(TRANSFERS, direction=direction) == 2
            assert node.value(TRANSFERS, direction=direction, outcome="ok") == 2
        return ended

    async def _verified(self, transfer_id: str) -> kv_pb2.TransferEnded:
        source, target = self.pair.open(transfer_id)
        self.pair.complete(transfer_id, [7, 8])
        verified = await self.pair.token.worker.expect("lease_verified")
        ended: kv_pb2.TransferEnded = await self.pair.prompt.worker.expect("transfer_ended")
        assert (verified.transfer_id, list(verified.output_tokens)) == (transfer_id, [7, 8])
        assert ended.outcome == kv_pb2.OK, ended
        assert self.pair.arrived(source, target)
        assert self.pair.token.worker.nothing_came()
        assert self.pair.prompt.worker.nothing_came()
        return ended


@pytest.fixture
async def lined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lined]:
    """The pair."""
    commits = Commits(monkeypatch)
    async with AsyncExitStack() as stack:
        pair = await stack.enter_async_context(joined(tmp_path, "shm"))
        proxy = LineProxy(Path(pair.token.sidecar.endpoints["shm"])).start()
        stack.push_async_callback(proxy.stop)
        yield Lined(pair, proxy, commits)


def first(holds: Callable[[bytes], bool], then: Callable[[bytes], Iterable[bytes]]) -> Any:
    """Passes everything but does `then` with the first datagram that `holds` of."""
    met = []

    def look(data: bytes) -> Iterable[bytes]:
        if met or not holds(data):
            return (data,)
        met.append(data)
        return then(data)

    return look


def is_commit(data: bytes) -> bool:
    return kv_pb2.FromShmSender.FromString(data).HasField("commit")


def is_reply(data: bytes) -> bool:
    return kv_pb2.ShmAnswer.FromString(data).HasField("committed")


def changed(data: bytes) -> tuple[bytes]:
    """The Commit with a digest that is not that of its layer."""
    message = kv_pb2.FromShmSender.FromString(data)
    message.commit.digests[2].xxh3 ^= 1
    return (message.SerializeToString(),)


async def test_a_commit_goes_behind_its_bytes_and_is_not_called(lined: Lined) -> None:
    assert (await lined.one_outcome()).pushes == 1
    assert (lined.commits.heard, lined.commits.called) == (2, 0)


LOST = [
    pytest.param("forward", is_commit, id="the Commit is lost"),
    pytest.param("backward", is_reply, id="its answer is lost"),
]


@pytest.mark.parametrize(("direction", "holds"), LOST)
async def test_a_line_that_is_cut_has_the_commit_called(
    lined: Lined, direction: str, holds: Callable[[bytes], bool]
) -> None:
    def cut(_: bytes) -> Iterable[bytes]:
        lined.proxy.cut()
        return ()

    setattr(lined.proxy, direction, first(holds, cut))
    assert (await lined.one_outcome()).pushes == 1
    assert lined.commits.called == 1


async def test_a_line_that_is_cut_behind_the_answer_to_a_commit_spoils_nothing(
    lined: Lined,
) -> None:
    """The word that the push is over is lost with it; that the KV is verified is not."""

    def cut_behind(data: bytes) -> Iterable[bytes]:
        if is_reply(data):
            lined.proxy.cut()
            lined.proxy.release()
            return (data,)
        return ()

    lined.proxy.backward = cut_behind
    await lined.one_outcome()
    assert lined.commits.called == 0


@pytest.mark.parametrize(("direction", "holds"), LOST)
async def test_a_line_that_says_nothing_has_the_commit_called(
    lined: Lined,
    direction: str,
    holds: Callable[[bytes], bool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shm, "STALL_S", 0.2)
    setattr(lined.proxy, direction, first(holds, lambda _: ()))
    await lined.one_outcome()
    assert lined.commits.called == 1


async def test_a_commit_that_comes_twice_is_answered_twice_and_told_once(lined: Lined) -> None:
    lined.proxy.forward = first(is_commit, lambda data: (data, data))
    await lined.one_outcome()
    assert (lined.commits.heard, lined.commits.called) == (3, 0)


async def test_a_commit_that_overtakes_the_end_of_its_push_waits_for_it(lined: Lined) -> None:
    kept: list[bytes] = []

    def swap(data: bytes) -> Iterable[bytes]:
        message = kv_pb2.FromShmSender.FromString(data)
        if message.HasField("end") and not kept:
            kept.append(data)
            return ()
        return (data, *kept) if is_commit(data) else (data,)

    lined.proxy.forward = swap
    source, target = lined.pair.open("t")
    lined.pair.complete("t")
    await lined.pair.token.worker.expect("lease_verified")
    assert (await lined.pair.prompt.worker.expect("transfer_ended")).outcome == kv_pb2.OK
    assert lined.pair.arrived(source, target)
    assert lined.commits.called == 0


async def test_a_commit_that_says_something_else_has_its_layers_sent_again(lined: Lined) -> None:
    lined.proxy.forward = first(is_commit, changed)
    assert (await lined.one_outcome()).pushes == 2
    assert lined.commits.called == 0
    assert lined.pair.token.value("splitwise_kv_damaged_layers_total") == 1


async def test_a_commit_of_noise_is_hung_up_on_and_called(lined: Lined) -> None:
    noise = random.Random(3).randbytes(300)
    lined.proxy.forward = first(is_commit, lambda _: (noise,))
    await lined.one_outcome()
    assert lined.commits.called == 1


async def test_a_commit_too_long_for_a_datagram_is_called(lined: Lined) -> None:
    """Nothing decodes so many tokens; their refusal is the answer, and the line stays."""
    lined.pair.open("long")
    lined.pair.complete("long", [7] * (shm.DATAGRAM_BYTES - 72))
    ended = await lined.pair.prompt.worker.expect("transfer_ended")
    assert ended.outcome == kv_pb2.INVALID, ended
    assert (await lined.pair.token.worker.expect("lease_ended")).outcome == kv_pb2.INVALID
    assert (lined.commits.called, lined.proxy.connections) == (1, 1)


async def test_more_commits_at_once_than_there_can_be_cost_the_line(tmp_path: Path) -> None:
    node = Node(tmp_path, "t")
    await node.start()
    hand = Hand(node, "behind")
    await hand.reserve()
    request = hand.commit_request(streams=1)  # it waits for bytes that do not come
    waiting = kv_pb2.FromShmSender(wire_id=b"x", commit=request).SerializeToString()
    with await hand.line() as line:
        for _ in range(MAX_COMMITS):
            await asyncio.get_running_loop().sock_sendall(line, waiting)
        await asyncio.sleep(0.05)
        with pytest.raises(BlockingIOError):
            line.recv(1)
        line.send(waiting)
        async with asyncio.timeout(ANSWER_WITHIN_S):
            hung_up = not await asyncio.get_running_loop().sock_recv(line, 1)
        assert hung_up
    assert (await hand.abort()).fenced
    assert (await node.worker.expect("lease_ended")).outcome == kv_pb2.CANCELLED
    await hand.close()
    await node.stop()


# ---- answers that make no sense ----

SENSELESS = [
    pytest.param(kv_pb2.CommitReply(), kv_pb2.INVALID, id="no outcome"),
    pytest.param(kv_pb2.CommitReply(outcome=99), kv_pb2.INVALID, id="an outcome, made up"),
    pytest.param(
        kv_pb2.CommitReply(outcome=kv_pb2.DIGEST_MISMATCH, bad_layers=[99]),
        kv_pb2.INVALID,
        id="a damaged layer that does not exist",
    ),
    pytest.param(None, kv_pb2.PEER_LOST, id="noise, and nobody to call"),
]


@pytest.mark.parametrize(("reply", "outcome"), SENSELESS)
async def test_a_senseless_answer_to_a_commit_ends_the_transfer(
    lined: Lined, reply: kv_pb2.CommitReply | None, outcome: int
) -> None:
    def answer(data: bytes) -> Iterable[bytes]:
        if reply is not None:
            message = kv_pb2.ShmAnswer.FromString(data)
            message.committed.CopyFrom(reply)
            return (message.SerializeToString(),)
        lined.pair.proxy.may_pass.clear()
        return (b"\xff" * 30,)

    lined.proxy.backward = first(is_reply, answer)
    lined.pair.open("t")
    lined.pair.complete("t")
    await lined.pair.token.worker.expect("lease_verified")
    ended = await lined.pair.prompt.worker.expect("transfer_ended")
    assert ended.outcome == outcome, ended
    assert lined.pair.prompt.worker.nothing_came()
