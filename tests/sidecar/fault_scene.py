"""One transfer between two sidecar processes, brought to a step of the protocol and held there."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc

from splitwise_core.kv import KvGeometry
from splitwise_core.rpc import kv_pb2, kv_pb2_grpc
from tests.sidecar.conftest import GEOMETRY, NUM_BLOCKS
from tests.support.flipping_proxy import FlippingProxy
from tests.support.kv_worker import KvWorker
from tests.support.line_proxy import LineProxy
from tests.support.sidecar_process import SidecarProcess


@dataclass(frozen=True, slots=True)
class Sequence:
    """What is moved: its shape, and its blocks in the pools of both workers."""

    geometry: KvGeometry
    num_blocks: int
    tokens: int
    source: tuple[int, ...]
    target: tuple[int, ...]


SMALL: Final = Sequence(
    GEOMETRY, NUM_BLOCKS, 100, (5, 1, 4, 0, 2, 6, 3), (20, 30, 21, 31, 22, 32, 23)
)
LARGE: Final = Sequence(
    KvGeometry("large", "float16", 4, 8, 128, 16),
    256,
    4096,
    tuple(range(256)),
    tuple(reversed(range(256))),
)
"""16 MiB a layer: threads move it, and take long enough to be struck meanwhile."""

LEASE_MS: Final = 1000
BOUND_S: Final = 10.0
"""Whatever happens, both workers have their blocks back within this time."""

SAMPLES: Final = 256

TRANSFERS: Final = "splitwise_kv_transfers_total"
RECEIVED: Final = "splitwise_kv_transfer_bytes_total"
LEASES: Final = "splitwise_kv_leases"

GONE: Final = "its sidecar is gone"
DEAD: Final = "it died"
NOTHING: Final = "it had asked for nothing"
VERIFIED: Final = "verified"


class Scene:
    """The two sidecars, their workers, and what lies between them."""

    def __init__(
        self,
        prompt: SidecarProcess,
        token: SidecarProcess,
        proxy: FlippingProxy,
        seed: int,
        sequence: Sequence,
    ) -> None:
        self.prompt = prompt
        self.token = token
        self.proxy = proxy
        self.line: LineProxy | None = None  # between sidecars that share memory
        self.caught: SidecarProcess | None = None  # stopped in the middle, until all goes on
        self.sequence = sequence
        self.prompt_worker = KvWorker(sequence.geometry, sequence.num_blocks, "p")
        self.token_worker = KvWorker(sequence.geometry, sequence.num_blocks, "t")
        self.prompt_end = self.token_end = ""
        self.said: list[str] = []
        self.id = f"t{seed}"
        self._seed = seed
        self._layers_sent = 0
        self._lease_is_open = self._is_finished = False
        self._received_before = 0.0
        self._at_the_end: list[list[bytes]] = []  # memory, if the lease has ended without KV

    async def attach(self) -> None:
        """Both workers attach."""
        await self.prompt.attach(self.prompt_worker)
        await self.token.attach(self.token_worker)
        if "shm" in self.token.transports:
            path = await shm_path(self.token, self.sequence.geometry)
            self.line = LineProxy(path).start()
        self.prompt_worker.fill(self.sequence.source, self.sequence.tokens, self._seed)
        self._received_before = await self.token.value(RECEIVED, direction="received")

    def begin_anew(self) -> None:
        """The same workers are about to move the next sequence."""
        self.id = f"{self.id}+"
        self.prompt_end = self.token_end = ""
        self._layers_sent = 0
        self._lease_is_open = self._is_finished = False
        self._at_the_end = []

    async def close(self) -> None:
        """Both workers go, and what lies between."""
        self.prompt_worker.close()
        self.token_worker.close()
        await self.proxy.stop()
        if self.line is not None:
            await self.line.stop()

    # ---- what lies between ----

    def silence(self) -> None:
        """From now on nothing passes, and nobody is told."""
        for proxy in self._proxies:
            proxy.may_pass.clear()

    def silence_bytes(self) -> None:
        """From now on no KV passes, nor what the transport says of it."""
        self.proxy.bulk_may_pass.clear()
        if self.line is not None:
            self.line.may_pass.clear()

    def hold_answers(self) -> None:
        """From now on nobody is answered."""
        self.proxy.answers_may_pass.clear()
        if self.line is not None:
            self.line.answers_may_pass.clear()

    def cut(self) -> None:
        """All connections break."""
        for proxy in self._proxies:
            proxy.cut()

    def slow_down(self, pause_s: float) -> None:
        """Each piece that passes takes so long."""
        for proxy in self._proxies:
            proxy.pause_s = pause_s

    def release(self) -> None:
        """All passes again, at once."""
        for proxy in self._proxies:
            proxy.release()
        self._let_go()

    async def heal(self) -> None:
        """Whoever connects gets through again."""
        await self.proxy.heal()
        if self.line is not None:
            self.line.heal()

    @property
    def _proxies(self) -> list[FlippingProxy | LineProxy]:
        return [self.proxy] if self.line is None else [self.proxy, self.line]

    # ---- what becomes of the sidecars ----

    def catch(self, sidecar: SidecarProcess) -> None:
        """Stops it where it is, until all goes on."""
        sidecar.freeze()
        self.caught = sidecar

    def hang(self, sidecar: SidecarProcess) -> None:
        """It hangs, for however long all else goes on."""
        sidecar.freeze()
        if self.caught is sidecar:
            self.caught = None

    def _let_go(self) -> None:
        if self.caught is not None and self.caught.program.is_running:
            self.caught.thaw()
        self.caught = None

    # ---- what the workers do ----

    def open_lease(self) -> None:
        """The token worker keeps blocks."""
        self._lease_is_open = True
        sequence = self.sequence
        self.token_worker.open_lease(self.id, sequence.target, sequence.tokens, LEASE_MS)

    def start(self) -> None:
        """The prompt worker begins."""
        sequence = self.sequence
        self.prompt_worker.start_transfer(
            self.id, self.proxy.address, sequence.source, sequence.tokens
        )

    def layers(self, last: int = GEOMETRY.num_layers) -> None:
        """Layers up to, not including, `last` are ready."""
        self.prompt_worker.layers_ready(self.id, self._layers_sent, last)
        self._layers_sent = last

    def finish(self) -> None:
        """The prompt is done."""
        self._is_finished = True
        self.prompt_worker.finish(self.id)

    def go_on(self) -> None:
        """All goes on, with what is left for both workers to do."""
        self._let_go()
        if not self._lease_is_open:
            self.open_lease()
        if not self._is_finished:
            self.layers()
            self.finish()

    # ---- what has become of it ----

    async def until_reserved(self) -> None:
        """The lease is claimed."""
        await self._until(lambda: self.token.value(LEASES, state="reserved"), 1)

    async def until_received(self, layers: int) -> None:
        """So many layers are at the token side."""
        geometry = self.sequence.geometry
        share = geometry.sequence_bytes(self.sequence.tokens) // geometry.num_layers
        wanted = self._received_before + layers * share
        await self._until(lambda: self.token.value(RECEIVED, direction="received"), wanted)

    async def until_bytes_arrive(self) -> None:
        """The first bytes of the sequence are in the token worker's memory."""
        memory = self.token_worker.memory
        at = self.sequence.target[0] * self.sequence.geometry.block_bytes
        async with asyncio.timeout(BOUND_S):
            while not any(memory[at : at + 16]):
                await asyncio.sleep(0)  # a whole sequence takes a few milliseconds

    def has_all_bytes(self) -> bool:
        """Whether the last bytes of the sequence, and so all of them, have arrived."""
        *_, last = self.sequence.geometry.layer_runs(
            self.sequence.geometry.num_layers - 1, self.sequence.target, self.sequence.tokens
        )
        end = last.offset + last.length
        return any(self.token_worker.memory[end - 16 : end])

    async def until_no_lease(self) -> None:
        """No lease is left at the token side."""
        await self._until(lambda: self.token.value(LEASES), 0)

    async def _until(self, read: Callable[[], Awaitable[float]], wanted: float) -> None:
        async with asyncio.timeout(BOUND_S):
            while await read() != wanted:
                await asyncio.sleep(0.01)

    async def end_at_prompt(self) -> None:
        """Takes note of how the transfer ended for the prompt worker."""
        if not self.prompt_end:
            self.prompt_end = await self._end(self.prompt_worker)

    async def end_at_token(self) -> None:
        """Takes note of how the lease ended for the token worker."""
        if not self.token_end:
            self.token_end = await self._end(self.token_worker) if self._lease_is_open else NOTHING

    async def _end(self, worker: KvWorker) -> str:
        """The next message, in a word; GONE when there is nobody to send one."""
        try:
            message = await worker.receive()
        except OSError:
            return GONE
        self.said.append(str(message))
        match message.WhichOneof("kind"):
            case "lease_verified":
                return VERIFIED
            case "lease_ended":
                self._at_the_end = [self._sampled(), self._received()]
                return kv_pb2.Outcome.Name(message.lease_ended.outcome).lower()
            case "transfer_ended":
                return kv_pb2.Outcome.Name(message.transfer_ended.outcome).lower()
        raise AssertionError(message)

    def arrived(self) -> bool:
        """Whether the token worker has what was meant for it."""
        return self.prompt_worker.read(self.sequence.source, self.sequence.tokens) == (
            self._received()
        )

    def is_as_it_was_at_the_end(self) -> bool:
        """Whether nothing has been written since the token worker had its blocks back."""
        return not self._at_the_end or self._at_the_end == [self._sampled(), self._received()]

    def _sampled(self) -> list[bytes]:
        """A little of every part, looked at sooner than a thread copies the next one."""
        step = len(self.token_worker.memory) // SAMPLES
        return [self.token_worker.memory[at : at + 16] for at in range(0, SAMPLES * step, step)]

    def _received(self) -> list[bytes]:
        return self.token_worker.read(self.sequence.target, self.sequence.tokens)


async def until(holds: Callable[[], bool]) -> None:
    """Returns once it holds."""
    async with asyncio.timeout(BOUND_S):
        while not holds():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def scene(
    prompt: SidecarProcess, token: SidecarProcess, seed: int, sequence: Sequence = SMALL
) -> AsyncIterator[Scene]:
    """The two sidecars, running, with new workers and a new proxy before the token side."""
    for sidecar in (prompt, token):
        if not sidecar.program.is_running:
            sidecar.start()
    proxy = await FlippingProxy(token.address, token.tcp_port, token.grpc_port).start()
    made = Scene(prompt, token, proxy, seed, sequence)
    try:
        await made.attach()
        yield made
    finally:
        await made.close()


async def shm_path(sidecar: SidecarProcess, geometry: KvGeometry) -> Path:
    """Where it takes connections of peers that share its memory."""
    async with grpc.aio.insecure_channel(sidecar.address) as channel:
        hello: Any = kv_pb2_grpc.KvPeerStub(channel).Hello
        fingerprint = geometry.fingerprint()
        request = kv_pb2.HelloRequest(geometry_fingerprint=fingerprint, transports=["shm"])
        endpoints = (await hello(request)).endpoints
    return Path(endpoints[0].address)
