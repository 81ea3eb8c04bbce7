"""A worker without an engine: owns a sealed pool and speaks the real protocol to a real sidecar."""

import array
import asyncio
import fcntl
import os
import random
import socket
from collections import deque
from collections.abc import Sequence
from mmap import mmap
from pathlib import Path
from typing import Any

from splitwise_core.kv import KvGeometry
from splitwise_core.rpc import kv_pb2
from splitwise_core.rpc.geometry import geometry_message

DATAGRAM_BYTES = 128 << 10
ANSWER_WITHIN_S = 20.0
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


class KvWorker:
    """The worker's end of the socket, and the memory behind it."""

    def __init__(
        self, geometry: KvGeometry, num_blocks: int, worker_id: str = "w", seals: int = SEALS
    ) -> None:
        self.geometry = geometry
        self.num_blocks = num_blocks
        self.worker_id = worker_id
        self.epoch = 0
        size = num_blocks * geometry.block_bytes
        self.fd = os.memfd_create("test-kv", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, size)
        if seals:
            fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, seals)
        self.memory = mmap(self.fd, size)
        self.links: deque[kv_pb2.Link] = deque()  # told beside all else
        self._socket: socket.socket | None = None

    @property
    def is_attached(self) -> bool:
        """Whether there is a connection, as far as this end knows."""
        return self._socket is not None

    async def attach(self, path: Path) -> kv_pb2.Attached:
        """Attaches and returns the sidecar's answer."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        self._socket.connect(str(path))
        message = kv_pb2.FromWorkerToSidecar(
            attach=kv_pb2.Attach(
                worker_id=self.worker_id,
                num_blocks=self.num_blocks,
                geometry=geometry_message(self.geometry),
            )
        )
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [self.fd]))]
        self._socket.sendmsg([message.SerializeToString()], rights)
        attached = (await self.receive()).attached
        self.epoch = attached.epoch
        return attached

    def send(self, **kind: Any) -> None:
        """Sends one message: `send(close_lease=kv_pb2.CloseLease(...))`."""
        self.send_raw(kv_pb2.FromWorkerToSidecar(**kind).SerializeToString())

    def send_raw(self, data: bytes) -> None:
        """Sends a datagram as it is."""
        assert self._socket is not None
        self._socket.send(data)

    async def receive(self) -> kv_pb2.FromSidecarToWorker:
        """The next message but links; ConnectionError when the sidecar has hung up."""
        while True:
            message = await self._any()
            if message.WhichOneof("kind") != "link":
                return message
            self.links.append(message.link)

    async def link(self) -> kv_pb2.Link:
        """The next link that the worker is told of; nothing else may come before it."""
        if not self.links:
            message = await self._any()
            assert message.WhichOneof("kind") == "link", message
            return message.link
        return self.links.popleft()

    async def _any(self) -> kv_pb2.FromSidecarToWorker:
        assert self._socket is not None
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(ANSWER_WITHIN_S):
            data = await loop.sock_recv(self._socket, DATAGRAM_BYTES)
        if not data:
            raise ConnectionError("the sidecar hung up")
        return kv_pb2.FromSidecarToWorker.FromString(data)

    async def expect(self, kind: str) -> Any:
        """The next message, which has to be of this kind."""
        message = await self.receive()
        assert message.WhichOneof("kind") == kind, message
        return getattr(message, kind)

    def nothing_came(self) -> bool:
        """Whether no message waits to be read, but links."""
        assert self._socket is not None
        try:
            while data := self._socket.recv(DATAGRAM_BYTES, socket.MSG_PEEK):
                message = kv_pb2.FromSidecarToWorker.FromString(data)
                if message.WhichOneof("kind") != "link":
                    return False
                self.links.append(message.link)
                self._socket.recv(DATAGRAM_BYTES)
        except BlockingIOError:
            return True
        return False

    def hang_up(self) -> None:
        """Closes the connection, as the kernel does for a worker that dies."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def close(self) -> None:
        """Gives everything back."""
        self.hang_up()
        self.memory.close()
        os.close(self.fd)

    # ---- the memory ----

    def fill(self, blocks: Sequence[int], num_tokens: int, seed: int) -> None:
        """Random KV in these blocks."""
        source = random.Random(seed)
        for layer in range(self.geometry.num_layers):
            for offset, length in self.geometry.layer_runs(layer, blocks, num_tokens):
                self.memory[offset : offset + length] = source.randbytes(length)

    def read(self, blocks: Sequence[int], num_tokens: int) -> list[bytes]:
        """The KV in these blocks, layer by layer."""
        return [
            b"".join(
                self.memory[offset : offset + length]
                for offset, length in self.geometry.layer_runs(layer, blocks, num_tokens)
            )
            for layer in range(self.geometry.num_layers)
        ]

    # ---- what an engine says ----

    def open_lease(
        self,
        transfer_id: str,
        blocks: Sequence[int],
        num_tokens: int,
        lease_ms: int = 10_000,
        request_id: str = "",
        held_tokens: int = 0,
        traceparent: str = "",
    ) -> None:
        """Token side: lets a transfer land, behind what is held."""
        self.send(
            open_lease=kv_pb2.OpenLease(
                transfer_id=transfer_id,
                blocks=blocks,
                num_tokens=num_tokens,
                lease_ms=lease_ms,
                request_id=request_id,
                held_tokens=held_tokens,
                traceparent=traceparent,
            )
        )

    def close_lease(self, transfer_id: str) -> None:
        """Token side: the request is gone."""
        self.send(close_lease=kv_pb2.CloseLease(transfer_id=transfer_id))

    def start_probe(self, block: int, peer: str) -> None:
        """Lends a block to the sidecar, to be pushed to through `peer`."""
        self.send(start_probe=kv_pb2.StartProbe(block=block, peer=peer))

    def measure_link(self, peer: str, max_age_s: float = 0.0) -> None:
        """Asks what the link to this peer is like."""
        self.send(measure_link=kv_pb2.MeasureLink(peer=peer, max_age_s=max_age_s))

    def start_transfer(
        self,
        transfer_id: str,
        peer: str,
        blocks: Sequence[int],
        num_tokens: int,
        deadline_unix_ms: int = 1 << 50,
        capability: bytes = b"",
        tell_pushed: bool = False,
        traceparent: str = "",
    ) -> None:
        """Prompt side: claims the peer's lease."""
        self.send(
            start_transfer=kv_pb2.StartTransfer(
                transfer_id=transfer_id,
                peer=peer,
                blocks=blocks,
                num_tokens=num_tokens,
                deadline_unix_ms=deadline_unix_ms,
                capability=capability,
                tell_pushed=tell_pushed,
                traceparent=traceparent,
            )
        )

    def layers_ready(self, transfer_id: str, first: int = 0, last: int | None = None) -> None:
        """Prompt side: layers `first` up to, not including, `last` are in the pool."""
        count = (self.geometry.num_layers if last is None else last) - first
        ready = kv_pb2.LayersReady(transfer_id=transfer_id, first=first, count=count)
        self.send(layers_ready=ready)

    def finish(self, transfer_id: str, output_tokens: Sequence[int] = (7,)) -> None:
        """Prompt side: the prompt is done."""
        self.send(
            finish_transfer=kv_pb2.FinishTransfer(
                transfer_id=transfer_id, output_tokens=output_tokens
            )
        )

    def withdraw(self, transfer_id: str, reason: kv_pb2.Outcome = kv_pb2.CANCELLED) -> None:
        """Prompt side: the request is gone."""
        self.send(withdraw_transfer=kv_pb2.WithdrawTransfer(transfer_id=transfer_id, reason=reason))
