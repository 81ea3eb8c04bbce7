"""The worker's end of the socket to its own sidecar: small datagrams, in order, both ways."""

import logging
import socket
from array import array
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Final

from google.protobuf.message import DecodeError

from splitwise_core.rpc import kv_pb2
from splitwise_core.rpc.geometry import geometry_message
from splitwise_worker.kv.host_pool import HostPool

log = logging.getLogger("splitwise.worker.sidecar_link")

DATAGRAM_BYTES: Final = 128 << 10  # below the kernel's default socket buffer of 208 KiB
SEND_TIMEOUT_S: Final = 5.0
RETRY_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0)


class SidecarLink:
    """Keeps the pool attached. Calls `on_message` and `on_lost` from a thread of its own.

    Every message that could not be delivered is covered by `on_lost`: the sidecar that would have
    acted on it is gone, and with it every transfer and lease that it knew. A sidecar that this end
    gave up may only be slow, and still write: its loss is told once nobody listens there any more,
    or another attachment has begun, which no sidecar allows before it has fenced the one before.
    """

    def __init__(
        self,
        path: Path,
        worker_id: str,
        pool: HostPool,
        on_message: Callable[[kv_pb2.FromSidecarToWorker], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._path = path
        self._worker_id = worker_id
        self._pool = pool
        self._on_message = on_message
        self._on_lost = on_lost
        self._socket: socket.socket | None = None
        self._epoch = 0
        self._send_lock = Lock()
        self._stopped = Event()
        self._gave_up = False  # the present connection ends on our account
        self._loss_untold = False

    @property
    def attached(self) -> bool:
        """Whether a sidecar holds the pool now."""
        return self._socket is not None

    def start(self) -> None:
        """Attaches as soon as there is a sidecar, and again whenever there is a new one."""
        Thread(target=self._run, name="sidecar-link", daemon=True).start()

    def stop(self) -> None:
        """Lets go of the sidecar; it ends whatever is open."""
        self._stopped.set()
        with self._send_lock:
            self._hang_up()

    def send(self, epoch: int, message: kv_pb2.FromWorkerToSidecar) -> bool:
        """Sends to the sidecar of this attachment; False when that is not the present one.

        The epoch keeps a sender that has not yet heard of a loss from speaking to the next sidecar,
        which knows nothing of the leases that the sender has in mind.
        """
        data = message.SerializeToString()
        with self._send_lock:
            connection = self._socket
            if connection is None or epoch != self._epoch:
                return False
            try:
                connection.send(data)
            except OSError as error:
                # The reading thread sees the shutdown, reports the loss and attaches again.
                log.warning("sidecar does not take messages", extra={"fields": {"error": error}})
                self._hang_up()
                return False
        return True

    def _hang_up(self) -> None:
        """Ends the present connection. The lock is held: nobody closes it meanwhile."""
        self._gave_up = True
        if connection := self._socket:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        failures = 0
        while not self._stopped.is_set():
            try:
                connection = self._attach()
            except (OSError, DecodeError) as error:
                if isinstance(error, ConnectionRefusedError | FileNotFoundError):
                    self._tell_loss()  # nobody listens
                wait = RETRY_S[min(failures, len(RETRY_S) - 1)]
                failures += 1
                if failures == len(RETRY_S):
                    log.warning("no sidecar yet", extra={"fields": {"error": error}})
                self._stopped.wait(wait)
                continue
            failures = 0
            self._read(connection)
            with self._send_lock:
                self._socket = None
            connection.close()
            self._loss_untold = True
            if not self._gave_up:
                self._tell_loss()

    def _tell_loss(self) -> None:
        if self._loss_untold and not self._stopped.is_set():
            log.warning("sidecar is gone")
            self._on_lost()
        self._loss_untold = False

    def _attach(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            connection.settimeout(SEND_TIMEOUT_S)
            connection.connect(str(self._path))
            attach = kv_pb2.FromWorkerToSidecar(
                attach=kv_pb2.Attach(
                    worker_id=self._worker_id,
                    geometry=geometry_message(self._pool.geometry),
                    num_blocks=self._pool.num_blocks,
                )
            )
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [self._pool.fd]))]
            connection.sendmsg([attach.SerializeToString()], rights)
            answer = kv_pb2.FromSidecarToWorker.FromString(connection.recv(DATAGRAM_BYTES))
            if answer.attached.outcome != kv_pb2.OK:
                raise ConnectionAbortedError(answer.attached.detail or "the sidecar hung up")
        except BaseException:
            connection.close()
            raise
        log.info("attached", extra={"fields": {"epoch": f"{answer.attached.epoch:x}"}})
        self._tell_loss()
        with self._send_lock:
            self._socket, self._epoch = connection, answer.attached.epoch
            self._gave_up = False
        self._on_message(answer)
        return connection

    def _read(self, connection: socket.socket) -> None:
        connection.settimeout(None)
        connection.setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(SEND_TIMEOUT_S)
        )  # reads wait for ever, sends do not
        while True:
            try:
                data = connection.recv(DATAGRAM_BYTES)
            except OSError:
                return
            if not data:
                return
            try:
                message = kv_pb2.FromSidecarToWorker.FromString(data)
            except DecodeError:
                log.exception("the sidecar's message is senseless")
                self._gave_up = True  # what it meant to say is lost, so all that it knows must end
                return
            self._on_message(message)


def _timeval(seconds: float) -> bytes:
    whole = int(seconds)
    return array("l", [whole, int((seconds - whole) * 1e6)]).tobytes()
