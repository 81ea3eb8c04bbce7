"""`python -m tests.soak.worker`: a worker without an engine, told what to do on standard input.

One JSON object a line, in and out. It keeps its own blocks, fills those of its prompts with what
follows from the transfer's number, and holds what is verified against the same.
"""

import asyncio
import json
import os
import random
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from splitwise_core.kv import KvGeometry
from splitwise_core.rpc import kv_pb2
from tests.support.kv_worker import KvWorker

GEOMETRY: Final = KvGeometry("soak", "float16", 4, 2, 64, 16)  # 8 KiB a block
NUM_BLOCKS: Final = 24 * 48
LEASE_MS: Final = 3000
LONGEST_LAYER_S: Final = 0.02
GONE: Final = "gone"
UNATTACHED: Final = "unattached"


@dataclass(frozen=True)
class Held:
    """A transfer's blocks."""

    side: str
    blocks: list[int]
    num_tokens: int
    number: int


def content(num_tokens: int, number: int) -> list[bytes]:
    """The KV of a transfer, layer by layer: the same on either side."""
    source = random.Random(number)
    size = GEOMETRY.sequence_bytes(num_tokens) // GEOMETRY.num_layers
    return [source.randbytes(size) for _ in range(GEOMETRY.num_layers)]


class SoakWorker:
    """Its connection, its blocks, and what it has said."""

    def __init__(self, socket: Path, name: str) -> None:
        self._socket = socket
        self._worker = KvWorker(GEOMETRY, NUM_BLOCKS, name)
        self._free = list(range(NUM_BLOCKS))
        self._held: dict[str, Held] = {}
        self._prompts: dict[str, asyncio.Task[None]] = {}
        self._draw = random.Random(name)

    async def run(self) -> None:
        """Attaches again and again; ends with standard input."""
        listening = asyncio.create_task(self._listen())
        while not listening.done():
            try:
                await self._attach()
                say(event="attached")
                while True:
                    self._hear(await self._worker.receive())
            except TimeoutError:
                continue  # nothing has happened for a while
            except OSError:
                self._lose_all()
                await asyncio.sleep(0.02)

    async def _attach(self) -> None:
        if self._worker.is_attached:
            return
        try:
            attached = await self._worker.attach(self._socket)
        except TimeoutError as error:
            raise ConnectionError("the sidecar hangs") from error
        if not attached.epoch:
            raise ConnectionError("an earlier worker's end is on its way")

    def _lose_all(self) -> None:
        """The sidecar is gone, and with it everyone who could write into the blocks."""
        self._worker.hang_up()
        for transfer_id in list(self._held):
            self._end(transfer_id, GONE)

    # ---- the sidecar ----

    def _hear(self, message: kv_pb2.FromSidecarToWorker) -> None:
        kind = message.WhichOneof("kind")
        if kind == "lease_verified":
            self._end(message.lease_verified.transfer_id, "verified")
        elif kind in ("lease_ended", "transfer_ended"):
            ended = getattr(message, kind)
            self._end(ended.transfer_id, kv_pb2.Outcome.Name(ended.outcome).lower())

    def _end(self, transfer_id: str, outcome: str) -> None:
        held = self._held.pop(transfer_id, None)
        if held is None:
            say(event="twice", id=transfer_id, outcome=outcome)
            return
        if prompt := self._prompts.pop(transfer_id, None):
            prompt.cancel()
        differs = outcome == "verified" and self._worker.read(
            held.blocks, held.num_tokens
        ) != content(held.num_tokens, held.number)
        self._free += held.blocks
        say(event="ended", id=transfer_id, side=held.side, outcome=outcome, differs=differs)

    # ---- standard input ----

    async def _listen(self) -> None:
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
        while line := await reader.readline():
            with suppress(OSError):  # the sidecar is gone, or hangs: its messages' reader finds out
                self._do(json.loads(line))
        os._exit(0)

    def _do(self, order: dict[str, Any]) -> None:
        transfer_id = str(order.get("id"))
        match order["do"]:
            case "open" | "start":
                self._begin(transfer_id, order)
            case "close" if transfer_id in self._held:
                self._worker.close_lease(transfer_id)
            case "withdraw" if transfer_id in self._held:
                self._worker.withdraw(transfer_id)
            case "count":
                say(event="counted", free=len(self._free), total=NUM_BLOCKS)

    def _begin(self, transfer_id: str, order: dict[str, Any]) -> None:
        side = "token" if order["do"] == "open" else "prompt"
        count = GEOMETRY.blocks_for(order["tokens"])
        if not self._worker.is_attached or count > len(self._free):
            say(event="ended", id=transfer_id, side=side, outcome=UNATTACHED, differs=False)
            return
        self._draw.shuffle(self._free)
        blocks, self._free = self._free[:count], self._free[count:]
        held = Held(side, blocks, order["tokens"], order["number"])
        self._held[transfer_id] = held
        try:
            if side == "token":
                self._worker.open_lease(transfer_id, blocks, held.num_tokens, LEASE_MS)
            else:
                self._start(transfer_id, held, order)
        except OSError:  # it was not sent
            self._end(transfer_id, UNATTACHED)

    def _start(self, transfer_id: str, held: Held, order: dict[str, Any]) -> None:
        for layer, kv in enumerate(content(held.num_tokens, held.number)):
            at = 0
            for run in GEOMETRY.layer_runs(layer, held.blocks, held.num_tokens):
                self._worker.memory[run.offset : run.offset + run.length] = kv[at : at + run.length]
                at += run.length
        self._worker.start_transfer(
            transfer_id, order["peer"], held.blocks, held.num_tokens, order["deadline_unix_ms"]
        )
        self._prompts[transfer_id] = asyncio.create_task(self._compute(transfer_id))

    async def _compute(self, transfer_id: str) -> None:
        try:
            for layer in range(GEOMETRY.num_layers):
                await asyncio.sleep(self._draw.uniform(0, LONGEST_LAYER_S))
                self._worker.layers_ready(transfer_id, layer, layer + 1)
            self._worker.finish(transfer_id)
        except OSError:
            return


def say(**event: Any) -> None:
    """One line to whoever started this process."""
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(SoakWorker(Path(sys.argv[1]), sys.argv[2]).run())
