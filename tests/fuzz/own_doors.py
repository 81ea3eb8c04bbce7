"""The doors that a sidecar's own worker uses, and the answers that it gets from peers."""

import array
import asyncio
import os
import random
import socket
import time
from collections.abc import Sequence

from google.protobuf.message import Message

from splitwise_core.rpc import kv_pb2
from splitwise_core.rpc.geometry import geometry_message
from splitwise_sidecar.refusal import label
from tests.fuzz.doors import BLOCKS, LAYERS, TOKENS, Said
from tests.sidecar.conftest import GEOMETRY, NUM_BLOCKS, Node
from tests.support.answering_peer import AnsweringPeer
from tests.support.kv_worker import ANSWER_WITHIN_S, KvWorker

DEADLINE_S = 2.0


class WorkerDoor:
    """Datagrams of an attached worker; it attaches again whenever the sidecar has hung up."""

    name = "worker"

    def __init__(self, node: Node, peer: str) -> None:
        self._node = node
        self._worker = KvWorker(GEOMETRY, NUM_BLOCKS, "fuzz")
        self._peer = peer

    def valid(self, draw: random.Random) -> tuple[str, Message]:
        """Anything that a worker may say."""
        message = kv_pb2.FromWorkerToSidecar()
        name = f"w{draw.randrange(4)}"
        deadline = int((time.time() + DEADLINE_S) * 1000)
        start = kv_pb2.StartTransfer(
            transfer_id=name, peer=self._peer, blocks=BLOCKS, num_tokens=TOKENS
        )
        start.deadline_unix_ms = deadline
        lease = kv_pb2.OpenLease(transfer_id=name, blocks=BLOCKS, num_tokens=TOKENS, lease_ms=50)
        kinds: dict[str, Message] = {
            "open_lease": lease,
            "close_lease": kv_pb2.CloseLease(transfer_id=name),
            "start_transfer": start,
            "layers_ready": kv_pb2.LayersReady(transfer_id=name, count=draw.randrange(LAYERS + 1)),
            "measure_link": kv_pb2.MeasureLink(peer=self._peer, max_age_s=1),
            "finish_transfer": kv_pb2.FinishTransfer(transfer_id=name, output_tokens=[7]),
            "withdraw_transfer": kv_pb2.WithdrawTransfer(transfer_id=name, reason=kv_pb2.CANCELLED),
            "start_probe": kv_pb2.StartProbe(block=3, peer=self._node.address),
        }
        kind = draw.choice(list(kinds))
        getattr(message, kind).CopyFrom(kinds[kind])
        return kind, message

    async def send(self, messages: Sequence[tuple[str, bytes]]) -> Said:
        """One after the other; whether the sidecar hung up on it."""
        said = []
        for _, data in messages:
            if not self._worker.is_attached:
                await self._attach()
            said.append(await self._one(data))
        return said

    async def _attach(self) -> None:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            while not (await self._worker.attach(self._node.socket)).epoch:
                self._worker.hang_up()
                await asyncio.sleep(0)

    async def _one(self, data: bytes) -> str:
        try:
            self._worker.send_raw(data)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            while not self._worker.nothing_came():
                await self._worker.receive()
        except OSError:
            self._worker.hang_up()
            return "hung up"
        return "taken"

    async def close(self) -> None:
        """The worker goes."""
        self._worker.close()


class AttachDoor:
    """First messages of workers, with memory that is none, too."""

    name = "attach"

    def __init__(self, node: Node) -> None:
        self._path = str(node.socket)
        good, open_to_change = KvWorker(GEOMETRY, 8), KvWorker(GEOMETRY, 8, seals=0)
        self._workers = (good, open_to_change)
        self._ends = os.pipe()
        self._null = os.open("/dev/null", os.O_RDWR)
        self._fds = [[good.fd], [good.fd], [open_to_change.fd], [self._ends[0]], [self._null], []]
        self._fds.append([good.fd, good.fd])

    def valid(self, draw: random.Random) -> tuple[str, Message]:
        """Attach, and the number of what goes with it."""
        attach = kv_pb2.Attach(worker_id="x", num_blocks=8, geometry=geometry_message(GEOMETRY))
        message = kv_pb2.FromWorkerToSidecar(attach=attach)
        return str(draw.randrange(len(self._fds))), message

    async def send(self, messages: Sequence[tuple[str, bytes]]) -> Said:
        """One connection each."""
        return [await self._one(self._fds[int(kind)], data) for kind, data in messages]

    async def _one(self, fds: list[int], data: bytes) -> str:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.setblocking(False)
            connection.connect(self._path)
            connection.sendmsg([data], rights)
            async with asyncio.timeout(ANSWER_WITHIN_S):
                answer = await asyncio.get_running_loop().sock_recv(connection, 1 << 17)
            if not answer:
                return "hung up"
            return label(kv_pb2.FromSidecarToWorker.FromString(answer).attached.outcome)

    async def close(self) -> None:
        """Gives everything back."""
        for worker in self._workers:
            worker.close()
        for fd in (*self._ends, self._null):
            os.close(fd)


class AnswerDoor:
    """What peers answer to a prompt side; each message stands in for one answer of a transfer."""

    name = "answers"

    def __init__(self, node: Node, peer: AnsweringPeer) -> None:
        self._node = node
        self._peer = peer
        self._answers = peer.correct_answers(epoch=5)
        self._number = 0

    def valid(self, draw: random.Random) -> tuple[str, bytes]:
        """One of the answers as it should be."""
        kind = draw.choice(list(self._answers))
        return kind, self._answers[kind]

    async def send(self, messages: Sequence[tuple[str, bytes]]) -> Said:
        """A transfer for each; how it ended."""
        return [await self._one(kind, data) for kind, data in messages]

    async def _one(self, kind: str, data: bytes) -> str:
        self._peer.answers = self._answers | {kind: data}
        self._number += 1
        worker, name = self._node.worker, f"a{self._number}"
        deadline = int((time.time() + DEADLINE_S) * 1000)
        worker.start_transfer(name, self._peer.address, [0], TOKENS, deadline)
        worker.layers_ready(name)
        worker.finish(name)
        ended = await worker.expect("transfer_ended")
        assert ended.transfer_id == name, ended
        return label(ended.outcome)

    async def close(self) -> None:
        """Nothing is kept open."""
