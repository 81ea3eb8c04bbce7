"""NIXL: which lanes it is given, what is said when it cannot be, and what becomes of damage."""

import asyncio
import ctypes
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from splitwise_core import rdma
from splitwise_core.errors import UserError
from splitwise_core.kv import KvGeometry
from splitwise_core.rpc import kv_pb2
from splitwise_sidecar import config, main
from splitwise_sidecar.moves import Move, new_move
from splitwise_sidecar.pool import Span, new_pool
from splitwise_sidecar.transports import nixl, nixl_agent, ucx
from splitwise_sidecar.transports.landing import Landing
from tests.sidecar.conftest import GEOMETRY, Node, Pair, joined, use_lanes

# ---- lanes ----

SELF = "[1.2] [vm:1:0] ucp_worker.c:1997 UCX  INFO    I self cfg#0 rma_am(tcp/lo)  am(tcp/lo)"
CMA = "[1.2] [vm:1:0] ucp_worker.c:1997 UCX  INFO    I intra-node cfg#1 am(tcp/lo cma/memory)"
VERBS = "[1.2] [vm:1:0] ucp_worker.c:1997 UCX  INFO    I inter-node cfg#2 rma(rc_verbs/rxe0:1)"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param(SELF, [], id="to oneself"),
        pytest.param(CMA, ["cma", "tcp"], id="to a process of this machine"),
        pytest.param(VERBS, ["rc_verbs"], id="to another machine, by verbs"),
        pytest.param("UCX  WARN  transports 'rc' are not available", [], id="something else"),
    ],
)
def test_the_lanes_are_what_ucx_says(line: str, expected: list[str]) -> None:
    assert ucx.lanes(line) == expected


def test_rdma_is_given_verbs_and_no_other_lane() -> None:
    assert ucx.settings("rdma", {})["UCX_TLS"] == "rc,ud,dc"
    assert ucx.settings("rdma", {"UCX_TLS": "rc_verbs,ud_verbs"})["UCX_TLS"] == "rc_verbs,ud_verbs"
    with pytest.raises(UserError, match="would move KV by tcp, which is no RDMA"):
        ucx.settings("rdma", {"UCX_TLS": "rc,tcp"})


def test_what_somebody_has_set_stays() -> None:
    assert ucx.settings("nixl", {"UCX_TCP_SNDBUF": "1m"})["UCX_TCP_SNDBUF"] == "1m"


# ---- what cannot be ----

ARGUMENTS = ["--listen", "127.0.0.1:0", "--status", "127.0.0.1:0", "--role", "mixed"]


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    return [*ARGUMENTS, "--pool", "p", "--socket", str(tmp_path / "s" / "kv.sock")]


@pytest.fixture
def a_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this container had been given an RDMA device."""
    (tmp_path / "uverbs0").touch()
    monkeypatch.setattr(config, "DEVICES", tmp_path)


def test_rdma_is_tried_where_there_is_a_device(arguments: list[str], a_device: None) -> None:
    assert config.parse(arguments).transports == ("shm", "rdma", "tcp", "grpc")


def test_nothing_but_rdma_is_used_where_it_is_required(
    arguments: list[str], a_device: None
) -> None:
    assert config.parse([*arguments, "--require-rdma"]).transports == ("rdma",)


@pytest.mark.parametrize("how", ["--require-rdma", "--transports=rdma"])
def test_a_device_that_ucx_cannot_use_ends_the_sidecar(
    arguments: list[str], a_device: None, how: str, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("nixl_cu13", reason="NIXL is not installed: pip install .[rdma]")
    assert main.main([*arguments, how]) == 2
    said = capfd.readouterr().err
    assert "UCX has no lanes for it here" in said
    assert "fix: " in said


def test_a_sidecar_without_nixl_says_how_to_get_it(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rdma, "_MODULES", ("nixl_absent",))
    assert main.main([*arguments, "--transports", "nixl"]) == 2
    assert "pip install 'splitwise[rdma]'" in capfd.readouterr().err


async def test_what_was_not_asked_for_is_left_out_and_that_is_said(
    tmp_path: Path,
    a_device: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(rdma, "_MODULES", ("nixl_absent",))
    node = Node(tmp_path, "n", None)
    await node.start()
    assert list(node.sidecar.endpoints) == ["shm", "tcp", "grpc"]
    assert "a transport is left out" in caplog.text
    labels = {"role": "mixed", "pool": "n", "transport": "rdma"}
    value = node.telemetry.registry.get_sample_value("splitwise_kv_left_out_transports", labels)
    assert value == 1
    await node.stop()


# ---- damage ----


@pytest.fixture
async def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pair]:
    """A pair by NIXL."""
    async with joined(tmp_path, use_lanes(monkeypatch, "nixl over cma")) as made:
        yield made


class Flipping:
    """Makes moves that damage what they have read: it is about to be written."""

    def __init__(self, times: int) -> None:
        self.left = times

    def __call__(self, span: Span, layer: int) -> Move:
        flipping, move = self, new_move(span, layer)
        read = move.read

        def read_and_flip() -> None:
            read()
            if flipping.left:
                flipping.left -= 1
                next(span.pieces(layer, 0, 1))[0] ^= 1

        move.read = read_and_flip  # type: ignore[method-assign]
        return move


async def test_a_layer_that_was_damaged_is_written_again(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nixl, "new_move", Flipping(1))
    source, target = pair.open("t")
    pair.complete("t")
    await pair.token.worker.expect("lease_verified")
    ended = await pair.prompt.worker.expect("transfer_ended")
    assert (ended.outcome, ended.pushes) == (kv_pb2.OK, 2)
    assert pair.arrived(source, target)
    sent = pair.prompt.value("splitwise_kv_transfer_bytes_total")
    assert sent == GEOMETRY.sequence_bytes(100) * (1 + 1 / GEOMETRY.num_layers)


async def test_layers_that_are_always_damaged_are_never_decoded(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nixl, "new_move", Flipping(1000))
    pair.open("t")
    pair.complete("t")
    assert (await pair.token.worker.expect("lease_ended")).outcome == kv_pb2.DIGEST_MISMATCH
    assert (await pair.prompt.worker.expect("transfer_ended")).outcome == kv_pb2.DIGEST_MISMATCH


async def test_who_tells_of_a_write_of_no_layers_is_stopped(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    class TellsNothing:
        """Would have the receiver give back the last memory that keeps a lease's blocks."""

        @staticmethod
        def pack(grant: int, first: int, _: int) -> bytes:
            return nixl_agent.NOTICE.pack(grant, first, 0)

    monkeypatch.setattr(nixl, "NOTICE", TellsNothing)
    pair.open("t")
    pair.complete("t")
    assert (await pair.prompt.worker.expect("transfer_ended")).outcome == kv_pb2.INVALID
    assert (await pair.token.worker.expect("lease_ended")).outcome == kv_pb2.INVALID


# ---- memory that is taken back ----


async def test_a_machine_that_is_late_takes_no_end_for_a_stall(pair: Pair) -> None:
    async def hold_up() -> None:
        while True:
            time.sleep(0.08)  # noqa: ASYNC251, longer than a receiver waits for a layer
            await asyncio.sleep(0.02)

    holding_up = asyncio.create_task(hold_up())
    for _ in range(3):
        for number in range(12):
            pair.open(f"t{number}", 30, [number, 40 + number], [52 - number, 12 + number])
            pair.complete(f"t{number}")
        ended = [await pair.prompt.worker.expect("transfer_ended") for _ in range(12)]
        assert {e.outcome for e in ended} == {kv_pb2.OK}
        for _ in range(12):
            await pair.token.worker.expect("lease_verified")
    holding_up.cancel()


def test_what_is_written_to_wasted_blocks_reaches_the_pool_no_more() -> None:
    geometry = KvGeometry("tiny", "float16", 1, 1, 64, 16)  # a block is a page
    pool = new_pool(geometry, bytes(geometry.block_bytes))
    landing = Landing(pool)
    ctypes.memset(landing.base, 1, 8)
    assert bytes(pool.memory[:8]) == b"\1" * 8
    landing.waste([0])
    ctypes.memset(landing.base, 2, 8)
    assert bytes(pool.memory[:8]) == b"\1" * 8
    landing.close()
    ctypes.memset(landing.base, 3, 8)  # the address stays, for writes that come later still
    pool.close()
