"""The receiving end of `shm`: copies layers out of the sender's pool as it is told of them."""

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from google.protobuf.message import DecodeError

from splitwise_core.rpc import kv_pb2
from splitwise_sidecar.local_socket import LocalSocket
from splitwise_sidecar.movers import Movers
from splitwise_sidecar.moves import Move
from splitwise_sidecar.pool import Pool, Span, geometry_of, map_pool
from splitwise_sidecar.refusal import Refused
from splitwise_sidecar.transports import FindSink, Sink, lent
from splitwise_sidecar.transports.shm import DATAGRAM_BYTES, NAME
from splitwise_sidecar.transports.shm_counters import Counters, offer

log = logging.getLogger("splitwise.sidecar.shm_receiver")

MAX_COMMITS: Final = 1024
"""Of one peer's that wait for the end of their bytes: no worker has as many prompts under way."""

Commit = Callable[[kv_pb2.CommitRequest], Coroutine[Any, Any, kv_pb2.CommitReply]]


class ShmReceiver:
    """Listens at a path in `directory` that nobody can guess for pushes into the present sink."""

    def __init__(self, directory: Path, movers: Movers, sink: FindSink, commit: Commit) -> None:
        """`commit` answers the Commits that come behind bytes."""
        # As long as the worker's `kv.sock`: whatever has room for one path has it for the other.
        self.path = directory / secrets.token_urlsafe(5)
        self._movers = movers
        self._sink = sink
        self._commit = commit
        self._listener = LocalSocket(self.path, self._connected)
        self._lines: set[_Line] = set()

    def start(self) -> None:
        """Begins to listen. Raises UserError when that is not possible."""
        self._listener.start()

    def stop(self) -> None:
        """Stops listening, and hangs up on everyone."""
        self._listener.stop()
        for line in list(self._lines):
            line.close("the sidecar stops")

    def _connected(self, accepted: socket.socket) -> None:
        line = _Line(accepted, self._movers, self._sink, self._commit, self._lines.discard)
        self._lines.add(line)


class _Line:
    """One sender's connection: its pools, mapped, and its pushes."""

    def __init__(
        self,
        connection: socket.socket,
        movers: Movers,
        sink: FindSink,
        commit: Commit,
        closed: Callable[["_Line"], None],
    ) -> None:
        self._socket = connection
        self._movers = movers
        self._sink = sink
        self._commit = commit
        self._closed = closed
        self._is_closed = False
        self._pools: dict[tuple[int, int], Pool] = {}
        self._pulls: dict[bytes, tuple[_Pull, asyncio.Task[kv_pb2.Outcome]]] = {}
        self._commits: set[asyncio.Task[kv_pb2.CommitReply]] = set()
        self._counters: Counters | None = None
        with suppress(OSError):  # without them it is slower, and no more than that
            self._counters = offer(connection)
        asyncio.get_running_loop().add_reader(connection, self._readable)

    def close(self, why: str) -> None:
        """Hangs up; pushes that are under way have ended."""
        log.info("a peer's line closed", extra={"fields": {"reason": why}})
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        self._is_closed = True
        for _, task in self._pulls.values():
            task.cancel()
        for commit in self._commits:
            commit.cancel()
        self._unmap_if_over()
        self._closed(self)

    def _unmap_if_over(self) -> None:
        """Unmaps the sender's pools once nothing reads them."""
        if self._is_closed and not self._pulls:
            for pool in self._pools.values():
                pool.close()
            self._pools.clear()

    def _readable(self) -> None:
        try:
            data, fds, flags, _ = socket.recv_fds(self._socket, DATAGRAM_BYTES, 1)
        except BlockingIOError:
            return
        except OSError as error:
            self.close(f"reading failed: {error.strerror}")
            return
        try:
            if not data or flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise Refused(kv_pb2.INVALID, "it hung up" if not data else "a message too long")
            self._hear(kv_pb2.FromShmSender.FromString(data), fds[0] if fds else None)
        except (Refused, DecodeError) as error:
            self.close(str(error))
        finally:
            for fd in fds:
                os.close(fd)

    def _hear(self, message: kv_pb2.FromShmSender, fd: int | None) -> None:
        """Raises Refused when it makes no sense."""
        kind, wire_id = message.WhichOneof("kind"), message.wire_id
        if kind == "begin" and fd is not None:
            self._begin(wire_id, message.begin, fd)
        elif wire_id in self._pulls and kind == "layers":
            self._pulls[wire_id][0].layers.put_nowait(list(message.layers.layers))
        elif wire_id in self._pulls and kind == "end":
            self._pulls[wire_id][0].layers.put_nowait(None)
        elif kind == "commit":
            self._begin_commit(wire_id, message.commit)
        elif kind not in ("layers", "end"):  # those may cross the answer that a push is refused
            raise Refused(kv_pb2.INVALID, f"a message of kind {kind} has no place here")

    def _begin(self, wire_id: bytes, begin: kv_pb2.ShmBegin, fd: int) -> None:
        if wire_id in self._pulls:
            raise Refused(kv_pb2.INVALID, "a push is begun twice")
        span = self._pool(begin, fd).span(begin.blocks, begin.num_tokens)
        sink = self._sink()
        if sink is None:
            self._answer(kv_pb2.ShmAnswer(wire_id=wire_id, outcome=kv_pb2.STALE_EPOCH))
            return
        taken = self._counters.restart(begin.counter) if self._counters else 0
        pull = _Pull(self._movers, sink, wire_id, begin.epoch, span, taken)
        task = asyncio.create_task(pull.run())
        self._pulls[wire_id] = pull, task
        task.add_done_callback(partial(self._pulled, wire_id))

    def _pulled(self, wire_id: bytes, task: asyncio.Task[kv_pb2.Outcome]) -> None:
        del self._pulls[wire_id]
        if not self._is_closed:
            self._answer(kv_pb2.ShmAnswer(wire_id=wire_id, outcome=task.result()))
        self._unmap_if_over()

    def _begin_commit(self, wire_id: bytes, request: kv_pb2.CommitRequest) -> None:
        if len(self._commits) == MAX_COMMITS:
            raise Refused(kv_pb2.INVALID, f"more than {MAX_COMMITS} commits at once")
        task = asyncio.create_task(self._commit(request))
        self._commits.add(task)
        task.add_done_callback(partial(self._committed, wire_id))

    def _committed(self, wire_id: bytes, task: asyncio.Task[kv_pb2.CommitReply]) -> None:
        self._commits.discard(task)
        if not self._is_closed:
            self._answer(kv_pb2.ShmAnswer(wire_id=wire_id, committed=task.result()))

    def _answer(self, answer: kv_pb2.ShmAnswer) -> None:
        try:
            self._socket.send(answer.SerializeToString())
        except OSError as error:  # a sender that does not read its answers is none
            self.close(f"sending failed: {error.strerror}")

    def _pool(self, begin: kv_pb2.ShmBegin, fd: int) -> Pool:
        """The sender's pool, mapped once. Raises Refused."""
        stat = os.fstat(fd)
        file = stat.st_dev, stat.st_ino
        geometry = geometry_of(begin.geometry)
        known = self._pools.get(file)
        if known is None:
            known = map_pool(fd, geometry, begin.num_blocks, writable=False)
            self._pools[file] = known
        elif known.geometry != geometry:
            raise Refused(kv_pb2.INVALID, "a pool has changed its shape")
        return known


class _Pull:
    """One push, as its receiver sees it: layers to copy, in order."""

    def __init__(
        self, movers: Movers, sink: Sink, wire_id: bytes, epoch: int, source: Span, taken: int
    ) -> None:
        self.wire_id = wire_id
        self._taken = taken
        self.layers: asyncio.Queue[list[int] | None] = asyncio.Queue()  # None: no more will come
        self._movers = movers
        self._sink = sink
        self._epoch = epoch
        self._source = source

    async def run(self) -> kv_pb2.Outcome:
        """Copies until the end, or until the sink refuses."""
        self._sink.push_opened(self.wire_id, NAME)
        try:
            while (layers := await self.layers.get()) is not None:
                await self._copy(layers)
        except Refused as refused:
            return refused.outcome
        finally:
            self._sink.push_closed(self.wire_id)
        return kv_pb2.OK

    async def _copy(self, layers: Sequence[int]) -> None:
        """Raises Refused."""
        length = self._source.layer_bytes
        if any(layer >= self._source.pool.geometry.num_layers for layer in layers):
            raise Refused(kv_pb2.DENIED, f"of layers {layers} one is none")
        parts = [(layer, 0, length) for layer in layers]
        with lent(self._sink, self.wire_id, self._epoch, parts) as loans:
            moves = [loan.move for loan in loans]
            pools = {loan.span.pool for loan in loans} | {self._source.pool}
            await self._movers.run(moves, partial(self._copy_each, moves), *pools)
            if any(move.at < length for move in moves):
                raise Refused(kv_pb2.UNKNOWN_TRANSFER, "the lease ended meanwhile")

    def _copy_each(self, moves: Sequence[Move]) -> None:
        for move in moves:
            move.copy_from(self._source, self._taken)
