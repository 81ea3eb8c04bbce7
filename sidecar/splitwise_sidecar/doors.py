"""The doors of a sidecar: where peers' calls and bytes come in, and the ways out to theirs."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Final

import grpc

from splitwise_core.errors import UserError
from splitwise_core.rpc import kv_pb2_grpc, nixl_pb2_grpc
from splitwise_core.rpc.channel import OPTIONS
from splitwise_sidecar.attachment import Attachment
from splitwise_sidecar.config import SidecarConfig
from splitwise_sidecar.dial import plaintext
from splitwise_sidecar.gate import Gate
from splitwise_sidecar.handshakes import Handshakes
from splitwise_sidecar.metrics import SidecarMetrics
from splitwise_sidecar.movers import Movers
from splitwise_sidecar.peer_service import PeerService
from splitwise_sidecar.tls import Tls
from splitwise_sidecar.transports import Sink, Transport, grpc_bytes, shm, tcp, ucx
from splitwise_sidecar.transports.grpc_receiver import grpc_receiver
from splitwise_sidecar.transports.nixl import NixlTransport
from splitwise_sidecar.transports.nixl_agent import READERS_NICENESS, NixlAgent
from splitwise_sidecar.transports.nixl_receiver import NixlReceiver
from splitwise_sidecar.transports.shm_receiver import ShmReceiver
from splitwise_sidecar.transports.tcp_receiver import tcp_receiver

log = logging.getLogger("splitwise.sidecar.doors")

TLS_POLL_S: Final = 2.0
"""Three small files are read so often: a kubelet swaps links, and no notice tells of that."""


class Doors:
    """`start`, then `stop`. `port` is that of calls; `endpoints` tells peers where bytes go."""

    def __init__(
        self,
        config: SidecarConfig,
        metrics: SidecarMetrics,
        present: Callable[[], Attachment | None],
    ) -> None:
        """What comes in is for the attachment that is `present`."""
        self._config = config
        self._metrics = metrics
        self._present = present
        self._tls: Tls | None = None
        if config.tls_dir is not None:
            self._tls = Tls(config.tls_dir, config.tls_name, metrics)
        self._handshakes = Handshakes()
        self._gate: Gate | None = None
        if self._tls is not None:
            refuse = partial(self._refuse, grpc_bytes.NAME)
            self._gate = Gate(self._tls.server_name, self._handshakes, refuse)
        self._tls_watch: asyncio.Task[None] | None = None
        self._movers = Movers()
        self._readers = Movers(READERS_NICENESS)
        self.endpoints: dict[str, str] = {}  # transport -> its address, as peers are told
        self._service = PeerService(present, self.endpoints, metrics)
        self._shm = ShmReceiver(
            config.socket.parent, self._movers, self._sink, self._service.commit
        )
        to_pool = self._movers, self._sink, self._tls
        self._tcp = tcp_receiver(*to_pool, partial(self._refuse, tcp.NAME))
        self._grpc = grpc_receiver(*to_pool, partial(self._refuse, grpc_bytes.NAME))
        self._nixl = NixlReceiver(self._readers, self._sink, metrics.fenced_by_force)
        self._agents: dict[str, NixlAgent] = {}
        self._server: grpc.aio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        """Begins to listen. Raises UserError when that is not possible."""
        if self._tls is not None:
            self._tls.load()
            self._tls_watch = asyncio.create_task(self._keep_watch(self._tls))
        gates = [] if self._gate is None else [self._gate]
        server = grpc.aio.server(interceptors=gates, options=OPTIONS)
        self._start_receivers()
        kv_pb2_grpc.add_KvPeerServicer_to_server(self._service, server)
        nixl_pb2_grpc.add_KvNixlServicer_to_server(self._nixl, server)
        self.port = self._open_port(server)
        self._server = server
        await server.start()

    def _open_port(self, server: grpc.aio.Server) -> int:
        """The port that peers' calls come to. Raises UserError."""
        address = self._config.listen
        try:
            if self._tls is None:
                return server.add_insecure_port(address)
            asked_for = self._tls.server_credentials(self._handshakes.begun)
            return server.add_secure_port(address, asked_for)
        except RuntimeError as error:
            raise UserError(
                "port-taken",
                where=f"--listen {address}",
                wrong="the sidecar cannot listen there",
                fix="stop the process that listens there, or choose another address",
            ) from error

    async def _keep_watch(self, tls: Tls) -> None:
        """Takes new certificates as they come, and counts who was not let in."""
        while True:
            await asyncio.sleep(TLS_POLL_S)
            tls.look()
            if refused := self._handshakes.refused():
                self._refuse(grpc_bytes.NAME, refused)
                log.warning("connections refused", extra={"fields": {"count": refused}})

    def _refuse(self, transport: str, count: int = 1) -> None:
        self._metrics.connections_refused(transport, count)

    def _start_receivers(self) -> None:
        for name in self._config.transports:
            address = ""
            if name == shm.NAME:
                self._shm.start()
                address = str(self._shm.path)
            elif name == tcp.NAME:
                self._tcp.start(self._config.listen_tcp)
                address = str(self._tcp.port)
            elif name == grpc_bytes.NAME:
                self._grpc.start(self._config.listen_grpc)
                address = str(self._grpc.port)
            elif name in ucx.NAMES and not self._start_agent(name):
                continue
            self.endpoints[name] = address

    def _start_agent(self, name: str) -> bool:
        """Whether NIXL can move KV by this transport. Raises UserError when it was named."""
        agent = NixlAgent(name)
        try:
            agent.start()
        except UserError as error:
            if self._config.named:
                raise
            self._metrics.left_out(name)
            log.warning("a transport is left out", extra={"fields": {"not": name, "why": error}})
            return False
        self._agents[name] = agent
        self._nixl.add(agent)
        return True

    async def stop(self) -> None:
        """Hangs up on the peers; what is still under way ends."""
        if self._tls_watch is not None:
            self._tls_watch.cancel()
        self._shm.stop()
        await self._tcp.stop()
        await self._grpc.stop()
        if self._server is not None:
            await self._server.stop(grace=0)
        self._movers.close()
        self._readers.close()
        for agent in self._agents.values():
            agent.stop()

    def _sink(self) -> Sink | None:
        attachment = self._present()
        return attachment.leases.incoming if attachment else None

    # ---- out ----

    def dial(self, address: str, *options: tuple[str, int]) -> grpc.aio.Channel:
        """A channel to the peer at host:port; nothing is opened before its first call."""
        dial = plaintext if self._tls is None else self._tls.dial
        return dial(address, *options)

    def transports(self, metrics: SidecarMetrics) -> dict[str, Transport]:
        """The sending sides that this sidecar may use, cheapest first."""

        def count_sent(transport: str) -> Callable[[int], None]:
            return lambda count: metrics.moved("sent", transport, count)

        known: dict[str, Callable[[Callable[[int], None]], Transport]] = {
            shm.NAME: partial(shm.ShmTransport, self._movers),
            tcp.NAME: partial(tcp.TcpTransport, self._movers, tls=self._tls),
            grpc_bytes.NAME: partial(grpc_bytes.GrpcTransport, dial=self.dial),
        }
        for name, agent in self._agents.items():
            known[name] = partial(NixlTransport, agent, self._readers, self.dial)
        return {name: known[name](count_sent(name)) for name in self.endpoints}
