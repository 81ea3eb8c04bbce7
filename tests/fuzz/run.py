"""The fuzzing: what is sent where, what is kept since it reached something new, what must hold."""

import asyncio
import gc
import logging
import os
import random
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, Protocol

from google.protobuf.message import DecodeError, Message

from splitwise_core.rpc import kv_pb2
from splitwise_sidecar.refusal import label
from tests.fuzz.byte_doors import ChunkDoor, FrameDoor, ShmDoor
from tests.fuzz.coverage import new_coverage
from tests.fuzz.doors import BLOCKS, ID, TOKENS, CallDoor, GrpcCallDoor, Inside, Kv, Said
from tests.fuzz.mutate import mutate_bytes, mutate_message
from tests.fuzz.own_doors import AnswerDoor, AttachDoor, WorkerDoor
from tests.sidecar.conftest import Node
from tests.support.answering_peer import AnsweringPeer

AT_ONCE: Final = 32
GROUPS_A_LEASE: Final = 8
KEPT: Final = 512
LEASE_MS: Final = 2000
HANGS_S: Final = 30.0
SETTLE_S: Final = 20.0
GROWTH_BYTES: Final = 64 << 20
GROWTH_DESCRIPTORS: Final = 8
WARM_UP: Final = 2000
"""Messages after which memory is measured first: by then every door has been used."""

PART: Final = {
    "calls": 395,
    "chunks": 250,
    "frames": 150,
    "datagrams": 170,
    "worker": 20,
    "attach": 8,
    "answers": 2,
    "calls over gRPC": 5,
}
"""Of a thousand groups. The last four cost a connection, or as much as a hundred others."""

WATCHED_FIRST: Final = 10_000
WATCHED: Final = 0.04
"""Of the messages after the first: to look for new lines costs more than to send."""


class Door(Protocol):
    """A way to the sidecar."""

    name: str

    def valid(self, draw: random.Random) -> tuple[str, Any]:
        """A kind, and a message or bytes of it."""

    async def send(self, messages: list[tuple[str, bytes]]) -> Said:
        """How each was answered."""

    async def close(self) -> None:
        """Lets go."""


class Fuzz:
    """One run: the same seed draws the same messages as long as the same lines are reached."""

    def __init__(self, directory: Path, seed: int) -> None:
        self._directory = directory
        self._draw = random.Random(seed)
        self._coverage = new_coverage()
        self._kv = Kv(self._draw)
        self._corpus: dict[str, list[tuple[str, bytes]]] = {name: [] for name in PART}
        self._doors: dict[str, Door] = {}
        self._bugs = _Bugs()
        self._inside = Inside()
        self._sent = 0
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.leases: Counter[str] = Counter()
        self.violations: list[str] = []

    async def run(self, messages: int, seconds: float, *, tell: bool = False) -> dict[str, Any]:
        """Sends so many messages, or for so long; what was seen."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._bugs.escaped)
        logging.getLogger().addHandler(self._bugs)
        began = told = time.monotonic()
        async with AsyncExitStack() as stack:
            with self._inside.looking():
                token = await self._node(stack, "t")
            own, prompt = await self._node(stack, "o", attach=False), await self._node(stack, "p")
            attached_to = await self._node(stack, "a", attach=False)
            peer = await AnsweringPeer().start()
            stack.push_async_callback(peer.stop)
            idle = await self._settled()
            calls = self._open_doors(token, own, prompt, attached_to, peer)
            memory = 0
            while self._sent < messages and time.monotonic() - began < seconds:
                await self._with_a_lease(token, calls)
                if not memory and self._sent >= min(WARM_UP, messages // 2):
                    memory = _own_memory()
                if tell and time.monotonic() - told > 10:
                    told = time.monotonic()
                    self._tell(told - began)
            await self._check(token, prompt, idle, memory)
        logging.getLogger().removeHandler(self._bugs)
        self.violations += self._bugs.seen
        return self._report(time.monotonic() - began)

    async def _node(self, stack: AsyncExitStack, name: str, *, attach: bool = True) -> Node:
        node = Node(self._directory, name)
        stack.push_async_callback(node.stop)
        if attach:
            await node.start()
        else:
            await node.sidecar.start()
        return node

    def _open_doors(
        self, token: Node, own: Node, prompt: Node, attached_to: Node, peer: AnsweringPeer
    ) -> CallDoor:
        calls = CallDoor(token, self._kv, self._inside)
        doors: list[Door] = [
            calls,
            GrpcCallDoor(token, self._kv),
            FrameDoor(token, self._kv),
            ShmDoor(token, self._kv),
            ChunkDoor(token, self._kv),
            WorkerDoor(own, token.address),
            AttachDoor(attached_to),
            AnswerDoor(prompt, peer),
        ]
        self._doors = {door.name: door for door in doors}
        return calls

    # ---- messages ----

    async def _with_a_lease(self, token: Node, calls: CallDoor) -> None:
        """Groups of messages until one of them has ended the lease; it ends once, fail-closed."""
        worker, size = token.worker, token.worker.geometry.block_bytes
        for block in BLOCKS:
            worker.memory[block * size : (block + 1) * size] = bytes(size)
        worker.open_lease(ID, BLOCKS, TOKENS, LEASE_MS)
        await asyncio.sleep(0)
        await calls.reserve()
        for _ in range(GROUPS_A_LEASE):
            name = self._draw.choices(list(PART), list(PART.values()))[0]
            await self._group(self._doors[name])
            if not worker.nothing_came():
                break
        else:
            worker.close_lease(ID)
        async with asyncio.timeout(HANGS_S):
            ended = await worker.receive()
        if ended.WhichOneof("kind") == "lease_verified":
            self.leases["verified"] += 1
            if worker.read(BLOCKS, TOKENS) != self._kv.layers:
                self.violations.append("KV was verified that was not sent")
        else:
            self.leases[label(ended.lease_ended.outcome)] += 1
        if not worker.nothing_came():
            self.violations.append(f"a second end: {await worker.receive()}")

    async def _group(self, door: Door) -> None:
        messages = [self._message(door) for _ in range(self._draw.randint(1, AT_ONCE))]
        self._sent += len(messages)
        watched = self._sent < WATCHED_FIRST or self._draw.random() < WATCHED
        before = self._coverage.lines
        if watched:
            self._coverage.start()
        try:
            async with asyncio.timeout(HANGS_S):
                said = await door.send(messages)
        except TimeoutError:
            self.violations.append(f"{door.name} hangs: {messages!r:.2000}")
            return
        finally:
            if watched:
                self._coverage.stop()
        if self._coverage.lines > before:
            kept = self._corpus[door.name]
            kept += messages
            while len(kept) > KEPT:
                del kept[self._draw.randrange(len(kept))]
        self.outcomes.update((door.name, answer) for answer in said)

    def _message(self, door: Door) -> tuple[str, bytes]:
        """A valid message, or one with something wrong, or a kept one with something more."""
        draw, corpus = self._draw, self._corpus[door.name]
        kind, valid = door.valid(draw)
        data: bytes
        if isinstance(valid, Message):
            message = type(valid)()
            message.CopyFrom(valid)
            for _ in range(draw.choice((0, 1, 1, 2))):
                mutate_message(draw, message)
            data = message.SerializeToString()
        else:
            data = valid
        if corpus and draw.random() < 0.4:
            kind, data = draw.choice(corpus)
        if draw.random() < (0.2 if isinstance(valid, Message) else 0.5):
            data = mutate_bytes(draw, data, [other for _, other in corpus[:16]])
        return kind, data

    # ---- what must hold ----

    async def _check(self, token: Node, prompt: Node, idle: tuple[int, int], memory: int) -> None:
        """No lease, task, descriptor or memory is left over, and KV moves as before."""
        await self._a_good_transfer(prompt, token)
        for door in self._doors.values():
            await door.close()
        tasks, descriptors = await self._settled(idle)
        grown = _own_memory() - memory
        if leases := token.value("splitwise_kv_leases"):
            self.violations.append(f"{leases} leases are left")
        if tasks > idle[0] + GROWTH_DESCRIPTORS:
            self.violations.append(f"tasks: {idle[0]} before, {tasks} after")
        if descriptors > idle[1] + 2 * GROWTH_DESCRIPTORS:
            self.violations.append(f"descriptors: {idle[1]} before, {descriptors} after")
        if grown > GROWTH_BYTES:
            self.violations.append(f"memory grew by {grown >> 20} MiB")

    async def _a_good_transfer(self, prompt: Node, token: Node) -> None:
        blocks = [1, 2]
        prompt.worker.fill(blocks, 20, seed=3)
        token.worker.open_lease("good", blocks, 20)
        prompt.worker.start_transfer("good", token.address, blocks, 20)
        prompt.worker.layers_ready("good")
        prompt.worker.finish("good")
        ended = await prompt.worker.expect("transfer_ended")
        if ended.outcome != kv_pb2.OK:
            self.violations.append(f"no transfer is possible any more: {ended}")
            return
        await token.worker.expect("lease_verified")
        if token.worker.read(blocks, 20) != prompt.worker.read(blocks, 20):
            self.violations.append("the last transfer brought other bytes")

    async def _settled(self, idle: tuple[int, int] = (0, 0)) -> tuple[int, int]:
        """Tasks and descriptors, once both are as few as when idle, or some time has passed."""
        until = time.monotonic() + (SETTLE_S if idle[0] else 0)
        while True:
            gc.collect()
            now = len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd"))
            if time.monotonic() >= until or (now[0] <= idle[0] and now[1] <= idle[1]):
                return now
            await asyncio.sleep(0.2)

    # ---- what is said ----

    def _tell(self, seconds: float) -> None:
        kept = sum(map(len, self._corpus.values()))
        rate = self._sent / seconds
        print(
            f"{self._sent:,} messages, {rate:,.0f}/s, {self._coverage.lines} lines, {kept} kept",
            flush=True,
        )

    def _report(self, seconds: float) -> dict[str, Any]:
        doors: dict[str, dict[str, int]] = {}
        for (door, answer), count in sorted(self.outcomes.items()):
            doors.setdefault(door, {})[answer] = count
        return {
            "messages": self._sent,
            "seconds": round(seconds, 1),
            "lines_reached": self._coverage.lines,
            "kept": {name: len(kept) for name, kept in self._corpus.items()},
            "doors": doors,
            "leases": dict(self.leases),
            "violations": self.violations,
        }


class _Bugs(logging.Handler):
    """Every exception that escaped, wherever it is told."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: list[str] = []

    def escaped(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What the event loop calls with an exception that nobody took."""
        self._add(f"{context.get('message')}: {context.get('exception')!r}")

    def emit(self, record: logging.LogRecord) -> None:
        """An error in a log, except bytes that do not parse: gRPC refuses and tells of these."""
        error = record.exc_info and record.exc_info[1]
        hung_up = type(error).__name__ == "ExecuteBatchError"  # gRPC could not send its refusal
        is_a_refusal = isinstance(error, DecodeError) or hung_up
        if record.name != "grpc._common" and not is_a_refusal:
            self._add(f"{record.name}: {record.getMessage()} {record.exc_info}")

    def _add(self, text: str) -> None:
        if len(self.seen) < 20:
            self.seen.append(text)


def _own_memory() -> int:
    """This process's own resident memory in bytes: without shared memory and files."""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) << 10


def fuzz(seed: int, messages: int, seconds: float) -> dict[str, Any]:
    """One process's part."""
    logging.getLogger("grpc").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
        run = Fuzz(Path(place), seed).run(messages, seconds, tell=True)
        return asyncio.run(run)
