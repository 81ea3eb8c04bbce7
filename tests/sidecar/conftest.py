"""Sidecars on real sockets in this process, and workers without engines attached to them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import chain
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from splitwise_core.kv import KvGeometry
from splitwise_core.metric import Component
from splitwise_core.telemetry import Telemetry
from splitwise_core.tracing import Recorder
from splitwise_sidecar.config import TRANSPORTS, parse
from splitwise_sidecar.process import Sidecar
from tests.support.flipping_proxy import FlippingProxy
from tests.support.kv_worker import ANSWER_WITHIN_S, KvWorker
from tests.support.sidecar_process import SidecarProcess

GEOMETRY = KvGeometry("tiny", "float16", 4, 2, 64, 16)  # 512 B a token and layer, 8 KiB a block
NUM_BLOCKS = 64


class Node:
    """One worker and its sidecar."""

    def __init__(
        self,
        directory: Path,
        name: str,
        transports: Sequence[str] | None = TRANSPORTS,
        more: Sequence[str] = (),
    ) -> None:
        """`transports` None leaves the choice to the sidecar."""
        self.socket = directory / name / "kv.sock"
        self.telemetry = Telemetry(Component.SIDECAR, role="mixed", pool=name)
        arguments = ["--listen", "127.0.0.1:0", "--status", "127.0.0.1:0"]
        arguments += ["--socket", str(self.socket), "--role", "mixed", "--pool", name]
        arguments += more
        if transports is not None:
            arguments += ["--transports", ",".join(transports)]
        self.recorder = Recorder(1000, 1000)
        self.sidecar = Sidecar(parse(arguments), self.telemetry, self.recorder)
        self.worker = KvWorker(GEOMETRY, NUM_BLOCKS, name)
        self._earlier: list[KvWorker] = []

    async def start(self) -> None:
        """Starts the sidecar and attaches the worker."""
        await self.sidecar.start()
        attached = await self.worker.attach(self.socket)
        assert attached.epoch != 0

    async def replace_worker(self, worker: KvWorker) -> None:
        """The worker dies, and another attaches in its place."""
        self.worker.hang_up()
        self._earlier.append(self.worker)
        self.worker = worker
        while not (await worker.attach(self.socket)).epoch:
            worker.hang_up()  # the old one's end is on its way

    async def stop(self) -> None:
        """Stops both."""
        await self.sidecar.stop()
        for worker in (*self._earlier, self.worker):
            worker.close()

    @property
    def address(self) -> str:
        """Where peers reach this sidecar."""
        return f"127.0.0.1:{self.sidecar.port}"

    @property
    def bytes_address(self) -> str:
        """Where peers push to it over gRPC."""
        return f"127.0.0.1:{self.sidecar.endpoints['grpc']}"

    @property
    def registry(self) -> CollectorRegistry:
        """The sidecar's metrics."""
        return self.telemetry.registry

    def value(self, name: str, **labels: str) -> float:
        """The sum over a metric's series that carry `labels`."""
        return sum(
            sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


class Pair:
    """A prompt node and a token node, with a proxy between them."""

    def __init__(self, transport: str, prompt: Node, token: Node, proxy: FlippingProxy) -> None:
        self.transport = transport
        self.prompt = prompt
        self.token = token
        self.proxy = proxy

    def open(
        self,
        transfer_id: str,
        num_tokens: int = 100,
        source: Sequence[int] | None = None,
        target: Sequence[int] | None = None,
        lease_ms: int = 10_000,
        peer: str | None = None,
        seed: int = 1,
        traceparent: str = "",
    ) -> tuple[Sequence[int], Sequence[int]]:
        """Both workers begin a transfer; the blocks of either side."""
        count = GEOMETRY.blocks_for(num_tokens)
        source = list(range(count)) if source is None else source
        target = list(reversed(range(10, 10 + count))) if target is None else target
        self.prompt.worker.fill(source, num_tokens, seed)
        self.token.worker.open_lease(
            transfer_id, target, num_tokens, lease_ms, traceparent=traceparent
        )
        self.prompt.worker.start_transfer(
            transfer_id, peer or self.proxy.address, source, num_tokens, traceparent=traceparent
        )
        return source, target

    def complete(self, transfer_id: str, output_tokens: Sequence[int] = (7,)) -> None:
        """The prompt worker says that all layers are ready, and what it sampled."""
        self.prompt.worker.layers_ready(transfer_id)
        self.prompt.worker.finish(transfer_id, output_tokens)

    def arrived(self, source: Sequence[int], target: Sequence[int], num_tokens: int = 100) -> bool:
        """Whether the token worker's blocks hold what the prompt worker's do."""
        sent = self.prompt.worker.read(source, num_tokens)
        return sent == self.token.worker.read(target, num_tokens)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Returns once `holds()`, which the other side brings about; fails after a while."""
        async with asyncio.timeout(ANSWER_WITHIN_S):
            while not holds():
                await asyncio.sleep(0.01)


LANES = {"nixl over cma": "tcp,cma", "nixl over tcp": "tcp"}
"""What UCX may use of one machine."""


def use_lanes(monkeypatch: pytest.MonkeyPatch, name: str) -> str:
    """The transport of that name; UCX is told its lanes, and to stay on this machine."""
    if name in LANES:
        pytest.importorskip("nixl_cu13", reason="NIXL is not installed: pip install .[rdma]")
        monkeypatch.setenv("UCX_TLS", LANES[name])
        monkeypatch.setenv("UCX_NET_DEVICES", "lo")
    return name.partition(" ")[0]


@asynccontextmanager
async def joined(tmp_path: Path, transport: str, more: Sequence[str] = ()) -> AsyncIterator[Pair]:
    """Two sidecars with their workers; peers reach the token side through the proxy."""
    async with AsyncExitStack() as stack:
        nodes = []
        for name in ("p", "t"):
            node = Node(tmp_path, name, [transport], more)
            stack.push_async_callback(node.stop)
            await node.start()
            nodes.append(node)
        doors = nodes[1].sidecar.endpoints
        ports = (int(doors[name]) if name in doors else None for name in ("tcp", "grpc"))
        proxy = await FlippingProxy(nodes[1].address, *ports).start()
        stack.push_async_callback(proxy.stop)
        yield Pair(transport, nodes[0], nodes[1], proxy)


@pytest.fixture(params=[*TRANSPORTS, *LANES])
async def pair(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Pair]:
    """A pair that moves KV by one transport, whichever."""
    async with joined(tmp_path, use_lanes(monkeypatch, request.param)) as made:
        yield made


@pytest.fixture(params=["tcp", "grpc"])
async def proxied_pair(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    """A pair whose KV passes through the proxy."""
    async with joined(tmp_path, request.param) as made:
        yield made


ProcessPair = tuple[SidecarProcess, SidecarProcess]


def end_all(pairs: Iterable[ProcessPair]) -> None:
    """Kills those that still run."""
    for sidecar in chain.from_iterable(pairs):
        if sidecar.program.is_running:
            sidecar.kill()


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ProcessPair]]:
    """A prompt and a token sidecar for each transport; they live on from fault to fault."""
    place: Path = tmp_path_factory.mktemp("faults")
    made = {}
    for name in TRANSPORTS:
        prompt, token = (SidecarProcess(place, f"{side}-{name}", [name]) for side in "pt")
        made[name] = prompt, token
    try:
        yield made
    finally:
        end_all(made.values())
