"""One transfer between two sidecar processes, brought to a step of the protocol and held there."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import grpc

from splitwise_core.rpc import kv_pb2, kv_pb2_grpc
from tests.sidecar.conftest import GEOMETRY, NUM_BLOCKS
from tests.support.flipping_proxy import FlippingProxy
from tests.support.kv_worker import KvWorker
from tests.support.line_proxy import LineProxy
from tests.support.sidecar_process import SidecarProcess

TOKENS: Final = 100
SOURCE: Final = (5, 1, 4, 0, 2, 6, 3)
TARGET: Final = (20, 30, 21, 31, 22, 32, 23)
LEASE_MS: Final = 1000
BOUND_S: Final = 10.0
"""Whatever happens, both workers have their blocks back within this time."""

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
    ) -> None:
        self.prompt = prompt
        self.token = token
        self.proxy = proxy
        self.line: LineProxy | None = None  # between sidecars that share memory
        self.prompt_worker = KvWorker(GEOMETRY, NUM_BLOCKS, "p")
        self.token_worker = KvWorker(GEOMETRY, NUM_BLOCKS, "t")
        self.prompt_end = self.token_end = ""
        self.said: list[str] = []
        self.id = f"t{seed}"
        self._seed = seed
        self._layers_sent = 0
        self._lease_is_open = self._is_finished = False
        self._received_before = 0.0

    async def attach(self) -> None:
        """Both workers attach."""
        await self.prompt.attach(self.prompt_worker)
        await self.token.attach(self.token_worker)
        if path := await shm_path(self.token):
            self.line = LineProxy(path).start()
        self.prompt_worker.fill(SOURCE, TOKENS, self._seed)
        self._received_before = await self.token.value(RECEIVED, direction="received")

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

    @property
    def _proxies(self) -> list[FlippingProxy | LineProxy]:
        return [self.proxy] if self.line is None else [self.proxy, self.line]

    # ---- what the workers do ----

    def open_lease(self) -> None:
        """The token worker keeps blocks."""
        self._lease_is_open = True
        self.token_worker.open_lease(self.id, TARGET, TOKENS, LEASE_MS)

    def start(self) -> None:
        """The prompt worker begins."""
        self.prompt_worker.start_transfer(self.id, self.proxy.address, SOURCE, TOKENS)

    def layers(self, last: int = GEOMETRY.num_layers) -> None:
        """Layers up to, not including, `last` are ready."""
        self.prompt_worker.layers_ready(self.id, self._layers_sent, last)
        self._layers_sent = last

    def finish(self) -> None:
        """The prompt is done."""
        self._is_finished = True
        self.prompt_worker.finish(self.id)

    def go_on(self) -> None:
        """What is left for both workers to do."""
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
        share = GEOMETRY.sequence_bytes(TOKENS) // GEOMETRY.num_layers
        wanted = self._received_before + layers * share
        await self._until(lambda: self.token.value(RECEIVED, direction="received"), wanted)

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
                return kv_pb2.Outcome.Name(message.lease_ended.outcome).lower()
            case "transfer_ended":
                return kv_pb2.Outcome.Name(message.transfer_ended.outcome).lower()
        raise AssertionError(message)

    def arrived(self) -> bool:
        """Whether the token worker has what was meant for it."""
        sent = self.prompt_worker.read(SOURCE, TOKENS)
        return sent == self.token_worker.read(TARGET, TOKENS)


async def until(holds: Callable[[], bool]) -> None:
    """Returns once it holds."""
    async with asyncio.timeout(BOUND_S):
        while not holds():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def scene(prompt: SidecarProcess, token: SidecarProcess, seed: int) -> AsyncIterator[Scene]:
    """The two sidecars, running, with new workers and a new proxy before the token side."""
    for sidecar in (prompt, token):
        if not sidecar.program.is_running:
            sidecar.start()
    proxy = await FlippingProxy(token.address, token.tcp_port).start()
    made = Scene(prompt, token, proxy, seed)
    try:
        await made.attach()
        yield made
    finally:
        await made.close()


async def shm_path(sidecar: SidecarProcess) -> Path | None:
    """Where it takes connections of peers that share its memory; None when it takes none."""
    async with grpc.aio.insecure_channel(sidecar.address) as channel:
        hello: Any = kv_pb2_grpc.KvPeerStub(channel).Hello
        fingerprint = GEOMETRY.fingerprint()
        request = kv_pb2.HelloRequest(geometry_fingerprint=fingerprint, transports=["shm"])
        endpoints = (await hello(request)).endpoints
    return Path(endpoints[0].address) if endpoints else None


# ---- the steps of the protocol, in their order ----


async def hello(s: Scene) -> None:
    """Hello is under way."""
    s.silence()
    s.open_lease()
    s.start()
    await s.proxy.held.wait()


async def reserve(s: Scene) -> None:
    """Reserve waits for the lease."""
    chosen = s.prompt.program.log.read_text().count("transport chosen")
    s.start()
    await until(lambda: s.prompt.program.log.read_text().count("transport chosen") > chosen)


async def renew(s: Scene) -> None:
    """The lease is claimed, and lives on by Renew alone."""
    s.open_lease()
    s.start()
    await s.until_reserved()


async def first_chunk(s: Scene) -> None:
    """One layer of four has arrived."""
    await renew(s)
    s.layers(1)
    await s.until_received(1)


async def middle_chunk(s: Scene) -> None:
    """Two of four."""
    await first_chunk(s)
    s.layers(2)
    await s.until_received(2)


async def last_chunk(s: Scene) -> None:
    """All bytes are there, and the push has not been finished."""
    await middle_chunk(s)
    s.layers()
    await s.until_received(GEOMETRY.num_layers)


async def commit(s: Scene) -> None:
    """The end of the push, or Commit, is under way."""
    await last_chunk(s)
    s.silence()
    s.finish()
    await (s.line or s.proxy).held.wait()


async def reply_to_commit(s: Scene) -> None:
    """The token worker has verified KV, and the prompt side does not know."""
    await last_chunk(s)
    s.hold_answers()
    s.finish()
    await s.end_at_token()
    assert s.token_end == VERIFIED


async def abort(s: Scene) -> None:
    """The prompt worker has withdrawn, and Abort is under way."""
    await last_chunk(s)
    s.silence()
    s.prompt_worker.withdraw(s.id)
    await s.proxy.held.wait()


STEPS: Final = (
    hello,
    reserve,
    renew,
    first_chunk,
    middle_chunk,
    last_chunk,
    commit,
    reply_to_commit,
    abort,
)
