"""The sidecar's event loop: the worker's socket, the doors for peers, the present attachment."""

import asyncio
import logging
import secrets
import signal
import socket
from collections.abc import Callable

from splitwise_core.capability import Keys
from splitwise_core.key_file import KeyFile
from splitwise_core.metric import Component
from splitwise_core.rpc import kv_pb2
from splitwise_core.telemetry import Telemetry
from splitwise_core.tracing import OFF, Recorder
from splitwise_sidecar.attachment import Attachment
from splitwise_sidecar.config import SidecarConfig
from splitwise_sidecar.doors import Doors
from splitwise_sidecar.local_socket import LocalSocket
from splitwise_sidecar.metrics import SidecarMetrics
from splitwise_sidecar.pool import geometry_of, map_pool
from splitwise_sidecar.probe import Apart
from splitwise_sidecar.refusal import Refused
from splitwise_sidecar.rights import Rights
from splitwise_sidecar.worker_link import ATTACH_WITHIN_S, Connection

log = logging.getLogger("splitwise.sidecar")


class Sidecar:
    """One sidecar. `start`, then `stop`; the port that peers reach it at is `port`."""

    def __init__(
        self, config: SidecarConfig, telemetry: Telemetry, recorder: Recorder = OFF
    ) -> None:
        self._config = config
        self._metrics = SidecarMetrics(telemetry, recorder)
        self._probes_metrics = SidecarMetrics(Telemetry(Component.SIDECAR))  # nobody reads these
        path = config.capability_key
        self._key_file = KeyFile(path, self._metrics.key_failed) if path else None
        self._worker_socket = LocalSocket(config.socket, self._connected)
        self._doors = Doors(config, self._metrics, self._present)
        self._connection: Connection | None = None
        self._attachment: Attachment | None = None
        self._pending: set[Connection] = set()
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """Where peers' calls come in."""
        return self._doors.port

    @property
    def endpoints(self) -> dict[str, str]:
        """Where their bytes do, of each transport, as they are told."""
        return self._doors.endpoints

    async def start(self) -> None:
        """Listens to peers and to the worker. Raises UserError when that is not possible."""
        if self._key_file is not None:
            self._key_file.load()
        await self._doors.start()
        self._worker_socket.start()

    async def drain(self, within_s: float) -> None:
        """Takes nothing new and waits for what is under way."""
        if self._attachment is not None:
            self._attachment.draining = True
            await self._attachment.wait_idle(within_s)

    async def stop(self) -> None:
        """Hangs up on the worker and the peers; what is still under way ends."""
        self._worker_socket.stop()
        for connection in [*self._pending, self._connection]:
            if connection is not None:
                connection.close("the sidecar stops")
        await asyncio.gather(*self._ending)
        await self._doors.stop()

    # ---- the worker ----

    def _present(self) -> Attachment | None:
        return self._attachment

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
            transports=self._doors.transports(self._metrics),
            metrics=self._metrics,
            apart=Apart(self._doors.transports(self._probes_metrics), self._probes_metrics),
            rights=Rights(attach.worker_id, self._keys),
            dial=self._doors.dial,
        )

    def _keys(self) -> Keys:
        return self._key_file.keys if self._key_file else ()

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
