"""The protocol in whatever order things happen: two sidecars, two workers, and a third party.

HYPOTHESIS_PROFILE=nightly looks twenty times as often.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import grpc
import xxhash
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from splitwise_core.rpc import kv_pb2, kv_pb2_grpc
from splitwise_sidecar import movers
from splitwise_sidecar.movers import AT_ONCE_BYTES
from splitwise_sidecar.transports import wire_id
from splitwise_sidecar.transports.grpc_bytes import HEADER, PATH
from tests.sidecar.conftest import GEOMETRY, NUM_BLOCKS, Node
from tests.support.kv_worker import ANSWER_WITHIN_S, KvWorker

IDS: Final = ("a", "b")
TOKENS: Final = 20
LAYERS: Final = GEOMETRY.num_layers
SOURCE: Final = {name: [2 * at, 2 * at + 1] for at, name in enumerate(IDS)}
TARGET: Final = {name: [30 + 2 * at, 20 + 2 * at] for at, name in enumerate(IDS)}
LEASES: Final = "splitwise_kv_leases"
CALLS: Final = ("Reserve", "Renew", "Commit", "Commit", "Abort")
CALL_S: Final = 0.5
SOON_S: Final = 0.02
"""Enough for Hello and Reserve on most machines; on others less happens, and nothing else."""

ids = st.sampled_from(IDS)
RARELY: Final = st.sampled_from([False] * 5 + [True])


class Protocol(RuleBasedStateMachine):
    """What the workers have asked for, what they have heard, and what memory held when."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.place = tempfile.TemporaryDirectory(prefix="sidecars-")
        self.seed = 0
        self.open: set[str] = set()
        self.started: dict[str, int] = {}  # the layers that are ready
        self.finished: set[str] = set()
        self.sent: dict[str, list[bytes]] = {}
        self.at_the_end: dict[str, list[bytes]] = {}  # of leases that ended, until the next one
        self.verified: set[str] = set()

    @initialize(transport=st.sampled_from(["shm", "tcp", "grpc"]), in_threads=st.booleans())
    def begin(self, transport: str, in_threads: bool) -> None:
        """Threads may move these small sequences, as they do large ones."""
        if in_threads:
            movers.AT_ONCE_BYTES = 0  # type: ignore[misc]
        self.runner.run(self._begin(transport))

    async def _begin(self, transport: str) -> None:
        place, taken = Path(self.place.name), list(dict.fromkeys([transport, "grpc"]))
        self.prompt, self.token = Node(place, "p", [transport]), Node(place, "t", taken)
        await self.prompt.start()
        await self.token.start()
        self.channel: Any = grpc.aio.insecure_channel(self.token.address)
        self.bytes_channel: Any = grpc.aio.insecure_channel(self.token.bytes_address)
        self.stub: Any = kv_pb2_grpc.KvPeerStub(self.channel)

    # ---- the token worker ----

    @rule(name=ids, lease_ms=st.sampled_from([5000, 5000, 5000, 20]))
    def open_lease(self, name: str, lease_ms: int) -> None:
        if name not in self.open:
            self.open.add(name)
            self.at_the_end.pop(name, None)
            self.token.worker.open_lease(name, TARGET[name], TOKENS, lease_ms)
        self.turn()

    @rule(name=ids, really=RARELY)
    def close_lease(self, name: str, really: bool) -> None:
        if really:
            self.token.worker.close_lease(name)
            self.turn()

    # ---- the prompt worker ----

    @rule(name=ids, until_done=st.booleans())
    def start(self, name: str, until_done: bool) -> None:
        if name not in self.started:
            self.seed += 1
            self.prompt.worker.fill(SOURCE[name], TOKENS, self.seed)
            self.sent[name] = self.prompt.worker.read(SOURCE[name], TOKENS)
            self.prompt.worker.start_transfer(name, self.token.address, SOURCE[name], TOKENS)
            self.started[name] = 0
            self.turn(until_done)

    @rule(name=ids, count=st.integers(1, LAYERS))
    def layers_ready(self, name: str, count: int) -> None:
        if name in self.started:
            last = min(LAYERS, self.started[name] + count)
            self.prompt.worker.layers_ready(name, self.started[name], last)
            self.started[name] = last
        self.turn()

    @rule(name=ids, until_done=st.booleans())
    def finish(self, name: str, until_done: bool) -> None:
        if name in self.started and name not in self.finished:
            self.finished.add(name)
            self.prompt.worker.finish(name)
            self.turn(until_done)

    @rule(name=ids, really=RARELY)
    def withdraw(self, name: str, really: bool) -> None:
        if really:
            self.prompt.worker.withdraw(name)
            self.turn()

    # ---- anyone who knows the transfer's id ----

    @rule(name=ids, call=st.sampled_from(CALLS), stale=RARELY)
    def call(self, name: str, call: str, stale: bool) -> None:
        """A call that comes twice, too early, too late, or for an earlier worker."""
        self.runner.run(self._call(name, call, self.token.worker.epoch + stale))

    async def _call(self, name: str, call: str, epoch: int) -> None:
        digests = [
            kv_pb2.LayerDigest(layer=layer, xxh3=xxhash.xxh3_64_intdigest(content))
            for layer, content in enumerate(self.sent.get(name, [b""] * LAYERS))
        ]
        request = {
            "Reserve": kv_pb2.ReserveRequest(transfer_id=name, epoch=epoch, num_tokens=TOKENS),
            "Renew": kv_pb2.RenewRequest(transfer_ids=[name], epoch=epoch),
            "Commit": kv_pb2.CommitRequest(transfer_id=name, epoch=epoch, digests=digests),
            "Abort": kv_pb2.AbortRequest(transfer_id=name, epoch=epoch),
        }[call]
        try:
            reply = await getattr(self.stub, call)(request, timeout=CALL_S)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                raise
            return  # a Commit may wait for bytes that are under way
        if epoch != self.token.worker.epoch:
            assert reply.outcome == kv_pb2.STALE_EPOCH

    @rule(name=ids, layers=st.sets(st.integers(0, LAYERS - 1)), damaged=st.booleans())
    def push(self, name: str, layers: set[int], damaged: bool) -> None:
        """Bytes of the transfer beside those of the prompt's sidecar."""
        if name in self.sent:
            self.runner.run(self._push(name, layers, damaged))

    async def _push(self, name: str, layers: set[int], damaged: bool) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            for layer in layers:
                content = bytearray(self.sent[name][layer])
                content[0] ^= damaged
                place = self.token.worker.epoch, len(content), 0, layer
                yield HEADER.pack(wire_id(name), *place) + content

        method: Any = self.bytes_channel.stream_unary(PATH)
        await method(chunks(), timeout=ANSWER_WITHIN_S)

    # ---- what happens to processes ----

    @rule(really=RARELY)
    def token_worker_dies(self, really: bool) -> None:
        if not really:
            return
        self.open.clear()
        self.at_the_end.clear()
        self.verified.update(IDS)  # nobody knows what it had heard
        fresh = KvWorker(GEOMETRY, NUM_BLOCKS, "t2")
        self.runner.run(self.token.replace_worker(fresh))

    @rule(really=RARELY)
    def prompt_worker_dies(self, really: bool) -> None:
        if not really:
            return
        self.started.clear()
        self.finished.clear()
        fresh = KvWorker(GEOMETRY, NUM_BLOCKS, "p2")
        self.runner.run(self.prompt.replace_worker(fresh))

    @rule()
    def time_passes(self) -> None:
        self.turn(until_done=True)

    def turn(self, until_done: bool = False) -> None:
        """The sidecars go on a little, or with all they can: what follows may find it half done."""
        self.runner.run(asyncio.sleep(SOON_S if until_done else 0))

    # ---- what always holds ----

    @invariant()
    def each_end_is_the_only_one(self) -> None:
        """INV-3 and INV-16."""
        if hasattr(self, "prompt"):
            self.runner.run(self._hear())

    async def _hear(self) -> None:
        while not self.token.worker.nothing_came():
            await self._hear_token()
        while not self.prompt.worker.nothing_came():
            ended = await self.prompt.worker.expect("transfer_ended")
            del self.started[ended.transfer_id]  # KeyError: nobody asked, or it had ended
            self.finished.discard(ended.transfer_id)
            if ended.outcome == kv_pb2.OK and self.token.worker.nothing_came():
                assert ended.transfer_id in self.verified

    async def _hear_token(self) -> None:
        message = await self.token.worker.receive()
        kind = message.WhichOneof("kind")
        name = getattr(message, str(kind)).transfer_id
        self.open.remove(name)  # KeyError: nobody asked, or it had ended
        memory = self.token.worker.read(TARGET[name], TOKENS)
        self.at_the_end[name] = memory
        if kind == "lease_verified":
            assert memory == self.sent[name]
            self.verified.add(name)

    @invariant()
    def nothing_is_written_after_the_end(self) -> None:
        """INV-6."""
        for name, memory in self.at_the_end.items():
            assert self.token.worker.read(TARGET[name], TOKENS) == memory

    def teardown(self) -> None:
        movers.AT_ONCE_BYTES = AT_ONCE_BYTES  # type: ignore[misc]
        if hasattr(self, "prompt"):
            self.runner.run(self._end())
        self.runner.close()
        self.place.cleanup()

    async def _end(self) -> None:
        """Nobody wants anything any more: everything ends, and nothing is left."""
        for name in IDS:
            self.prompt.worker.withdraw(name)
            self.token.worker.close_lease(name)
        async with asyncio.timeout(ANSWER_WITHIN_S):
            while self.open or self.started:
                await self._hear()
                await asyncio.sleep(0.001)
        self.nothing_is_written_after_the_end()
        assert self.token.value(LEASES) == 0
        await self.channel.close()
        await self.bytes_channel.close()
        for node in (self.prompt, self.token):
            await node.stop()


TestProtocol = Protocol.TestCase
assert settings.default is not None
TestProtocol.settings = settings(
    max_examples=settings.default.max_examples // 2,
    stateful_step_count=60,
    suppress_health_check=list(HealthCheck),
)
