"""Bytes over shared memory, for peers on one machine: the receiver copies them out of the pool.

The sender hands over a descriptor that only reads its pool, and says which blocks hold which layer.
Every write is thus the receiver's own: a sender that hangs, or goes on after its lease is over, can
spoil nothing. The receiver's digest is of what it copied, the sender's of what it meant.

A connection to a peer carries any number of pushes.
"""

import asyncio
import logging
import os
import socket
from array import array
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from google.protobuf.message import DecodeError

from splitwise_core.rpc import kv_pb2
from splitwise_core.rpc.geometry import geometry_message
from splitwise_sidecar.local_socket import is_our_user
from splitwise_sidecar.movers import Movers
from splitwise_sidecar.moves import Move, new_move
from splitwise_sidecar.pool import Span
from splitwise_sidecar.refusal import Refused, label
from splitwise_sidecar.transports import STALL_S, Push, wire_id
from splitwise_sidecar.transports.shm_counters import NO_COUNTER, PeersCounters
from splitwise_sidecar.transports.sockets import writable

log = logging.getLogger("splitwise.sidecar.shm")

NAME: Final = "shm"
DATAGRAM_BYTES: Final = 128 << 10


class ShmTransport:
    """Sends to any number of peers of this machine."""

    name = NAME

    def __init__(self, movers: Movers, count_sent: Callable[[int], None]) -> None:
        self._movers = movers
        self._count_sent = count_sent
        self._lines: dict[str, _Line] = {}

    async def connect(self, peer: str, address: str) -> None:
        """Connects to the peer's socket, whose path is `address`. Raises Refused.

        The path was drawn at random, so that one of another machine cannot be there by chance.
        """
        line = _Line(address)
        await self.forget(peer)
        self._lines[peer] = line

    def open_push(self, peer: str, transfer_id: str, epoch: int, timeout_s: float) -> "ShmPush":
        """Begins a push to a peer that `connect` has been to. Raises Refused."""
        line = self._lines[peer]
        if line.is_closed:  # it broke, and this push is not to pay for it
            try:
                line = self._lines[peer] = _Line(line.address)
            except Refused as refused:
                raise Refused(kv_pb2.PEER_LOST, refused.detail) from refused
        return ShmPush(self._movers, line, wire_id(transfer_id), epoch, self._count_sent)

    async def forget(self, peer: str) -> None:
        """Hangs up on this peer."""
        if line := self._lines.pop(peer, None):
            line.close("forgotten")


def _connect(path: str) -> socket.socket:
    try:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except OSError as error:
        raise Refused(kv_pb2.TRANSPORT_FAILED, f"no socket: {error}") from error
    connection.setblocking(False)
    try:
        connection.connect(path)
        if not is_our_user(connection):  # it would be given all of the pool to read
            raise OSError("another user listens there")
    except (OSError, ValueError) as error:
        connection.close()
        raise Refused(kv_pb2.TRANSPORT_FAILED, f"no shared memory by {path!r}: {error}") from error
    return connection


class _Line:
    """The connection to one peer, and the answers that pushes wait for."""

    def __init__(self, address: str) -> None:
        """Connects. Raises Refused."""
        self.address = address
        self._socket = _connect(address)
        self._answers: dict[bytes, asyncio.Future[kv_pb2.Outcome]] = {}
        self._commits: dict[bytes, asyncio.Future[kv_pb2.CommitReply | None]] = {}
        self._closed = ""
        self.counters = PeersCounters()
        asyncio.get_running_loop().add_reader(self._socket, self._readable)

    @property
    def is_closed(self) -> bool:
        """Whether one of both has hung up."""
        return bool(self._closed)

    def expect(self, wire_id: bytes) -> "asyncio.Future[kv_pb2.Outcome]":
        """The answer to a push that is about to begin. Raises Refused."""
        if self._closed:
            raise Refused(kv_pb2.PEER_LOST, self._closed)
        answer = asyncio.get_running_loop().create_future()
        self._answers[wire_id] = answer
        return answer

    def end(self, wire_id: bytes) -> None:
        """Tells the peer that no more layers come, if it takes messages just now."""
        if not self._closed:
            with suppress(OSError):
                self._socket.send(_end(wire_id).SerializeToString())

    async def commit(
        self, wire_id: bytes, request: kv_pb2.CommitRequest
    ) -> kv_pb2.CommitReply | None:
        """The answer to a Commit; None when the peer gives none here."""
        message = kv_pb2.FromShmSender(wire_id=wire_id, commit=request)
        if message.ByteSize() > DATAGRAM_BYTES:
            return None
        answer: asyncio.Future[kv_pb2.CommitReply | None]
        answer = self._commits[wire_id] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(STALL_S):
                await self.send(message)
                reply = await answer
        except (Refused, TimeoutError):
            reply = None
        finally:
            del self._commits[wire_id]
        if reply is None:
            fields = {"transfer": request.transfer_id, "line": self._closed or "silent"}
            log.warning("no answer to a commit behind its bytes", extra={"fields": fields})
        return reply

    def leave(self, wire_id: bytes) -> None:
        """Nobody waits for this answer any more."""
        self._answers.pop(wire_id, None)

    async def send(self, message: kv_pb2.FromShmSender, fd: int | None = None) -> None:
        """Raises Refused."""
        data = message.SerializeToString()
        rights = [] if fd is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [fd]))]
        try:
            async with asyncio.timeout(STALL_S):
                while not self._closed:
                    try:
                        self._socket.sendmsg([data], rights)
                        return
                    except BlockingIOError:
                        await writable(self._socket)
        except TimeoutError as error:
            why = f"the peer took no messages for {STALL_S:.0f} s"
            raise Refused(kv_pb2.TRANSPORT_FAILED, why) from error
        except OSError as error:
            self.close(f"the push broke: {error}")
        raise Refused(kv_pb2.PEER_LOST, self._closed)

    def close(self, why: str) -> None:
        """Hangs up; who waits for an answer hears why."""
        if self._closed:
            return
        self._closed = why
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_result(kv_pb2.PEER_LOST)
        for reply in self._commits.values():
            if not reply.done():
                reply.set_result(None)

    def _readable(self) -> None:
        try:
            data, fds, _, _ = socket.recv_fds(self._socket, DATAGRAM_BYTES, 1)
        except BlockingIOError:
            return
        except OSError as error:
            self.close(f"the push broke: {error}")
            return
        try:
            self._hear(data, fds)
        except DecodeError as error:
            self.close(f"the push broke: {error}")
        finally:
            for fd in fds:
                os.close(fd)

    def _hear(self, data: bytes, fds: Sequence[int]) -> None:
        """Raises DecodeError."""
        message = kv_pb2.ShmAnswer.FromString(data)
        if not data:
            self.close("the peer hung up")
        elif message.HasField("counters"):
            self.counters.offered(fds)
        elif message.HasField("committed"):
            if (reply := self._commits.get(message.wire_id)) and not reply.done():
                reply.set_result(message.committed)
        elif (answer := self._answers.get(message.wire_id)) and not answer.done():
            answer.set_result(message.outcome)


class ShmPush(Push):
    """One pass over layers that the peer copies as it is told of them."""

    def __init__(
        self,
        movers: Movers,
        line: _Line,
        wire_id: bytes,
        epoch: int,
        count_sent: Callable[[int], None],
    ) -> None:
        self._movers = movers
        self._line = line
        self._wire_id = wire_id
        self._epoch = epoch
        self._count_sent = count_sent
        self._answer: asyncio.Future[kv_pb2.Outcome] | None = None
        self._counter = NO_COUNTER
        self._read_bytes = 0

    async def layers(self, layers: Sequence[int], span: Span) -> list[int]:
        """Lets the peer copy these layers; the xxh3-64 of what is to be read of each.

        Raises Refused.
        """
        if self._answer is None:
            self._answer = self._line.expect(self._wire_id)
            self._counter = self._line.counters.take()
            await self._line.send(self._begin(span), span.pool.fd)
        elif self._answer.done():
            raise _refusal(self._answer.result())
        ready = kv_pb2.ShmLayers(layers=layers)
        await self._line.send(kv_pb2.FromShmSender(wire_id=self._wire_id, layers=ready))
        moves = [new_move(span, layer) for layer in layers]
        await self._movers.run(moves, partial(self._read, moves), span.pool)
        self._count_sent(len(layers) * span.layer_bytes)
        return [move.digest() for move in moves]

    async def finish(self) -> None:
        """Returns when the peer has taken every byte. Raises Refused when it has not."""
        assert self._answer is not None
        await self._line.send(_end(self._wire_id))
        outcome = await self._answer
        self._give_counter()
        if outcome != kv_pb2.OK:
            raise _refusal(outcome)

    async def commit(self, request: kv_pb2.CommitRequest) -> kv_pb2.CommitReply | None:
        """The peer's answer to a Commit behind the bytes; None when it has to be called."""
        return await self._line.commit(self._wire_id, request)

    def cancel(self) -> None:
        """Waits for nothing more. What the peer still copies, its lease does not take."""
        if self._answer is not None:
            if not self._answer.done():
                self._line.end(self._wire_id)
            self._line.leave(self._wire_id)
            self._give_counter()
            self._answer = None

    def _give_counter(self) -> None:
        self._line.counters.give(self._counter)
        self._counter = NO_COUNTER

    def _begin(self, span: Span) -> kv_pb2.FromShmSender:
        begin = kv_pb2.ShmBegin(
            epoch=self._epoch,
            geometry=geometry_message(span.pool.geometry),
            num_blocks=span.pool.num_blocks,
            blocks=span.blocks,
            num_tokens=span.num_tokens,
            counter=self._counter.number,
        )
        return kv_pb2.FromShmSender(wire_id=self._wire_id, begin=begin)

    def _read(self, moves: Sequence[Move]) -> None:
        patience_ms = self._movers.patience_ms(moves)
        taken = self._counter.address if patience_ms else 0
        for move in moves:
            taken = taken if move.read(taken, self._read_bytes, patience_ms) else 0
            self._read_bytes += move.end


def _end(wire_id: bytes) -> kv_pb2.FromShmSender:
    return kv_pb2.FromShmSender(wire_id=wire_id, end=kv_pb2.ShmEnd())


def _refusal(outcome: kv_pb2.Outcome) -> Refused:
    return Refused(outcome, f"the peer copied no more: {label(outcome)}")
