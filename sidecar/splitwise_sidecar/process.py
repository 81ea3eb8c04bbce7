"""The sidecar's event loop: the worker's socket, the peers' server, the present attachment."""

import asyncio
import logging
import secrets
import signal
import socket
from collections.abc import Callable
from functools import partial
from typing import Final

import grpc

from splitwise_core.capability import Keys
from splitwise_core.errors import UserError
from splitwise_core.key_file import KeyFile
from splitwise_core.metric import Component
from splitwise_core.rpc import kv_pb2, kv_pb2_grpc, nixl_pb2_grpc
from splitwise_core.rpc.channel import OPTIONS
from splitwise_core.telemetry import Telemetry
from splitwise_core.tracing import OFF, Recorder
from splitwise_sidecar.attachment import Attachment
from splitwise_sidecar.config import SidecarConfig
from splitwise_sidecar.dial import plaintext
from splitwise_sidecar.gate import Gate
from splitwise_sidecar.handshakes import Handshakes
from splitwise_sidecar.local_socket import LocalSocket
from splitwise_sidecar.metrics import SidecarMetrics
from splitwise_sidecar.movers import Movers
from splitwise_sidecar.peer_service import PeerService
from splitwise_sidecar.pool import geometry_of, map_pool
from splitwise_sidecar.probe import Apart
from splitwise_sidecar.refusal import Refused
from splitwise_sidecar.rights import Rights
from splitwise_sidecar.tls import Tls
from splitwise_sidecar.transports import Sink, Transport, grpc_bytes, shm, tcp, ucx
from splitwise_sidecar.transports.grpc_receiver import grpc_receiver
from splitwise_sidecar.transports.nixl import NixlTransport
from splitwise_sidecar.transports.nixl_agent import READERS_NICENESS, NixlAgent
from splitwise_sidecar.transports.nixl_receiver import NixlReceiver
from splitwise_sidecar.transports.shm_receiver import ShmReceiver
from splitwise_sidecar.transports.tcp_receiver import tcp_receiver
from splitwise_sidecar.worker_link import ATTACH_WITHIN_S, Connection

log = logging.getLogger("splitwise.sidecar")

TLS_POLL_S: Final = 2.0
"""Three small files are read so often: a kubelet swaps links, and no notice tells of that."""


class Sidecar:
    """One sidecar. `start`, then `stop`; the port that peers reach it at is `port`."""

    def __init__(
        self, config: SidecarConfig, telemetry: Telemetry, recorder: Recorder = OFF
    ) -> None:
        self._config = config
        self._metrics = SidecarMetrics(telemetry, recorder)
        self._tls: Tls | None = None
        if config.tls_dir is not None:
            self._tls = Tls(config.tls_dir, config.tls_name, self._metrics)
        self._handshakes = Handshakes()
        self._gate: Gate | None = None
        if self._tls is not None:
            refuse = partial(self._refuse, grpc_bytes.NAME)
            self._gate = Gate(self._tls.server_name, self._handshakes, refuse)
        self._tls_watch: asyncio.Task[None] | None = None
        self._probes_metrics = SidecarMetrics(Telemetry(Component.SIDECAR))  # nobody reads these
        path = config.capability_key
        self._key_file = KeyFile(path, self._metrics.key_failed) if path else None
        self._worker_socket = LocalSocket(config.socket, self._connected)
        self._movers = Movers()
        self._readers = Movers(READERS_NICENESS)
        self.endpoints: dict[str, str] = {}  # transport -> its address, as peers are told
        self._service = PeerService(self._present, self.endpoints, self._metrics)
        self._shm = ShmReceiver(
            config.socket.parent, self._movers, self._present_sink, self._service.commit
        )
        to_pool = self._movers, self._present_sink, self._tls
        self._tcp = tcp_receiver(*to_pool, partial(self._refuse, tcp.NAME))
        self._grpc = grpc_receiver(*to_pool, partial(self._refuse, grpc_bytes.NAME))
        self._nixl = NixlReceiver(self._readers, self._present_sink, self._metrics.fenced_by_force)
        self._agents: dict[str, NixlAgent] = {}
        self._connection: Connection | None = None
        self._attachment: Attachment | None = None
        self._pending: set[Connection] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._server: grpc.aio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        """Listens to peers and to the worker. Raises UserError when that is not possible."""
        if self._key_file is not None:
            self._key_file.load()
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
        self._worker_socket.start()

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

    async def drain(self, within_s: float) -> None:
        """Takes nothing new and waits for what is under way."""
        if self._attachment is not None:
            self._attachment.draining = True
            await self._attachment.wait_idle(within_s)

    async def stop(self) -> None:
        """Hangs up on the worker and the peers; what is still under way ends."""
        if self._tls_watch is not None:
            self._tls_watch.cancel()
        self._worker_socket.stop()
        for connection in [*self._pending, self._connection]:
            if connection is not None:
                connection.close("the sidecar stops")
        await asyncio.gather(*self._ending)
        self._shm.stop()
        await self._tcp.stop()
        await self._grpc.stop()
        if self._server is not None:
            await self._server.stop(grace=0)
        self._movers.close()
        self._readers.close()
        for agent in self._agents.values():
            agent.stop()

    # ---- the worker ----

    def _present(self) -> Attachment | None:
        return self._attachment

    def _present_sink(self) -> Sink | None:
        return self._attachment.leases.incoming if self._attachment else None

    def _connected(self, accepted: socket.socket) -> None:
        connection = Connection(accepted, self._hung_up)
        self._pending.add(connection)
        loop = asyncio.get_running_loop()
        give_up = loop.call_later(ATTACH_WITHIN_S, connection.close, "it did not attach")

        def hear(message: kv_pb2.FromWorkerToSidecar, fd: int | None) -> None:
            if connection is self._connection and self._attachment is not None:
                self._attachment.hear(message)
            else:
                give_up.cancel()
                self._attach(connection, message, fd)

        connection.start(hear)

    def _attach(
        self, connection: Connection, message: kv_pb2.FromWorkerToSidecar, fd: int | None
    ) -> None:
        try:
            attachment = self._attachment_for(connection, message, fd)
        except Refused as refused:
            answer = kv_pb2.Attached(outcome=refused.outcome, detail=refused.detail)
            connection.send(kv_pb2.FromSidecarToWorker(attached=answer))
            raise
        self._pending.discard(connection)
        self._connection, self._attachment = connection, attachment
        self._metrics.attached(True)
        self._metrics.show_oldest_lease(attachment.leases.oldest_age_s)
        log.info("worker attached", extra={"fields": {"worker": attachment.worker_id}})
        answer = kv_pb2.Attached(outcome=kv_pb2.OK, epoch=attachment.epoch)
        connection.send(kv_pb2.FromSidecarToWorker(attached=answer))

    def _attachment_for(
        self, connection: Connection, message: kv_pb2.FromWorkerToSidecar, fd: int | None
    ) -> Attachment:
        if message.WhichOneof("kind") != "attach" or fd is None:
            raise Refused(kv_pb2.INVALID, "the first message is Attach, with the pool's descriptor")
        if self._attachment is not None:
            raise Refused(kv_pb2.DENIED, f"{self._attachment.worker_id} is attached")
        attach = message.attach
        pool = map_pool(fd, geometry_of(attach.geometry), attach.num_blocks)
        return Attachment(
            worker_id=attach.worker_id,
            epoch=secrets.randbits(63) + 1,  # 0 says "not attached"
            pool=pool,
            send=connection.send,
            transports=self._transports(self._metrics),
            metrics=self._metrics,
            apart=Apart(self._transports(self._probes_metrics), self._probes_metrics),
            rights=Rights(attach.worker_id, self._keys),
            dial=self._dial,
        )

    def _keys(self) -> Keys:
        return self._key_file.keys if self._key_file else ()

    def _dial(self, address: str, *options: tuple[str, int]) -> grpc.aio.Channel:
        dial = plaintext if self._tls is None else self._tls.dial
        return dial(address, *options)

    def _transports(self, metrics: SidecarMetrics) -> dict[str, Transport]:
        """The sending sides that this sidecar may use, cheapest first."""

        def count_sent(transport: str) -> Callable[[int], None]:
            return lambda count: metrics.moved("sent", transport, count)

        known: dict[str, Callable[[Callable[[int], None]], Transport]] = {
            shm.NAME: partial(shm.ShmTransport, self._movers),
            tcp.NAME: partial(tcp.TcpTransport, self._movers, tls=self._tls),
            grpc_bytes.NAME: partial(grpc_bytes.GrpcTransport, dial=self._dial),
        }
        for name, agent in self._agents.items():
            known[name] = partial(NixlTransport, agent, self._readers, self._dial)
        return {name: known[name](count_sent(name)) for name in self.endpoints}

    def _hung_up(self, connection: Connection) -> None:
        self._pending.discard(connection)
        if connection is not self._connection or self._attachment is None:
            return
        log.info("worker gone", extra={"fields": {"worker": self._attachment.worker_id}})
        ending = asyncio.create_task(
            self._attachment.end(kv_pb2.PEER_LOST, "the prompt worker is gone")
        )
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        self._connection = self._attachment = None
        self._metrics.attached(False)
        self._metrics.show_oldest_lease(lambda: 0.0)


async def serve(
    config: SidecarConfig, telemetry: Telemetry, recorder: Recorder, ready: Callable[[bool], None]
) -> None:
    """Serves until SIGTERM, drains and returns. Raises UserError when it cannot start."""
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    sidecar = Sidecar(config, telemetry, recorder)
    try:
        await sidecar.start()
        ready(True)
        log.info("ready", extra={"fields": {"listen": config.listen, "socket": config.socket}})
        await over.wait()
        ready(False)
        await sidecar.drain(config.drain_seconds)
    finally:
        await sidecar.stop()
    log.info("stopped")
