"""An engine in the hands of a test: real model, real pool, real socket to a sidecar that listens.

The test turns the loop and tells the time. What the sidecar would say, the test says.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Thread
from typing import Any

import torch

from splitwise_core.kv import KvGeometry
from splitwise_core.metric import Component
from splitwise_core.policy.block_pool import BlockPool
from splitwise_core.policy.duty import Duty
from splitwise_core.rpc import kv_pb2, worker_pb2
from splitwise_core.telemetry import Telemetry
from splitwise_core.tracing import OFF, Recorder
from splitwise_worker import commands
from splitwise_worker.admission import Limits
from splitwise_worker.engine import Engine
from splitwise_worker.engine_metrics import EngineMetrics
from splitwise_worker.estimates import Estimates
from splitwise_worker.handover import Handover
from splitwise_worker.kv.host_pool import HostPool
from splitwise_worker.kv.sidecar_link import SidecarLink
from splitwise_worker.kv.store import HostStore
from splitwise_worker.machine import Machine
from splitwise_worker.model.batch import Span, make_batch
from splitwise_worker.model.decoder import Decoder
from splitwise_worker.model_work import ModelWork
from splitwise_worker.outbox import Outbox, Updates
from splitwise_worker.probe import Probe
from splitwise_worker.runner import Runner
from splitwise_worker.scheduler import Scheduler
from splitwise_worker.sequence import SequenceKey
from splitwise_worker.spans import EngineSpans
from splitwise_worker.switchover import Switchover
from tests.worker.listening_sidecar import ListeningSidecar

LENGTH = 64
PREFIX_KEY = b"this process alone knows it"
LAYERS = 2
VOCAB = 1000
WALL_S = 1_800_000_000.0
LEASE_MS = 10_000
SESSION = 1
PEER = "10.0.0.7:50052"
CAPABILITY = b"as the router gave it"

OK, CANCELLED, EXPIRED = kv_pb2.OK, kv_pb2.CANCELLED, kv_pb2.EXPIRED
INVALID, PEER_LOST, FAILED = kv_pb2.INVALID, kv_pb2.PEER_LOST, kv_pb2.FAILED
NO_CAPACITY, DRAINING, DENIED = kv_pb2.NO_CAPACITY, kv_pb2.DRAINING, kv_pb2.DENIED
STOP, LENGTH_REACHED = worker_pb2.FINISH_STOP, worker_pb2.FINISH_LENGTH
HANDED_OVER, FAILURE = worker_pb2.FINISH_HANDED_OVER, worker_pb2.FINISH_FAILED


def prompt(tokens: int, first: int = 3) -> list[int]:
    """A prompt of `tokens` tokens; another one for another `first`."""
    return [(7 * i + first) % VOCAB for i in range(tokens)]


def request(
    number: int,
    tokens: Sequence[int],
    max_tokens: int = 4,
    output: Sequence[int] = (),
    deadline_s: float = WALL_S + 60,
    **sampling: Any,
) -> worker_pb2.Request:
    """A greedy request, unless `sampling` says otherwise. `deadline_s` is of the wall's clock."""
    neutral = {"top_p": 1.0, "repetition_penalty": 1.0, "ignore_eos": True}
    return worker_pb2.Request(
        sequence=number,
        request_id=f"request-{number}",
        prompt_tokens=tokens,
        output_tokens=output,
        deadline_unix_ms=int(deadline_s * 1000),
        sampling=worker_pb2.Sampling(max_tokens=max_tokens, **(neutral | sampling)),
    )


def greedy(decoder: Decoder, tokens: Sequence[int], count: int) -> list[int]:
    """The decoder's own answer, one sequence at a time and no engine."""
    c = decoder.config
    kv = torch.zeros(1, c.num_layers, 2, LENGTH, c.kv_heads, c.head_dim)
    run, start, answer = list(tokens), 0, list[int]()
    with torch.inference_mode():
        for _ in range(count):
            batch = make_batch([Span(run, start, [0])], LENGTH, "cpu")
            start += len(run)
            run = [int(decoder.forward(batch, kv)[0].argmax())]
            answer += run
    return answer


class Rig:
    """One engine. Nothing moves but when the test says `turn`, `settle` or `start`."""

    def __init__(
        self,
        decoder: Decoder,
        directory: Path,
        blocks: int = 4,
        sequences: int = 8,
        batch_tokens: int = 2048,
        eos: Sequence[int] = (),
        runner: Any = None,
        block_tokens: int = LENGTH,
        prefix_key: bytes | None = PREFIX_KEY,
        chunk_tokens: int = 512,
        duty: Duty | None = None,
        recorder: Recorder = OFF,
    ) -> None:
        c = decoder.config
        self.geometry = KvGeometry(
            "m", "float32", c.num_layers, c.kv_heads, c.head_dim, block_tokens
        )
        self.pool = HostPool(self.geometry, blocks)
        self.blocks = BlockPool(blocks)
        self.telemetry = Telemetry(Component.WORKER, role="mixed", pool="p")
        self.now = 0.0
        self.load = worker_pb2.Load()
        self.messages: list[Updates] = []  # as routers' streams would get them
        self.deliver: Callable[[Updates, worker_pb2.Load], None] = self._keep
        self.sidecar = ListeningSidecar(directory / "kv.sock")
        store = HostStore(self.pool)
        self.link = SidecarLink(
            directory / "kv.sock",
            "w",
            self.pool,
            on_message=lambda message: self.engine.submit(commands.FromSidecar(message)),
            on_lost=lambda: self.engine.submit(commands.SidecarLost()),
        )
        self.scheduler = Scheduler(
            self.blocks, block_tokens, sequences, batch_tokens, prefix_key, chunk_tokens, duty=duty
        )
        handover = Handover(self.link, block_tokens, LEASE_MS)
        switchover = self.switchover = Switchover(self.geometry)
        spans = EngineSpans(recorder, lambda: self.now, lambda: WALL_S + self.now)
        work = ModelWork.of(c, 4, self.geometry.sequence_bytes(1))
        self.metrics = EngineMetrics(
            self.telemetry,
            lambda: switchover.min_tokens,
            Estimates(self.telemetry, work, Machine(), lambda: self.now),
            self.geometry.block_bytes,
            spans,
        )
        self.engine = Engine(
            scheduler=self.scheduler,
            runner=runner or Runner(decoder, store, block_tokens, "cpu"),
            store=store,
            handover=handover,
            probe=Probe(self.blocks, handover, PEER),
            outbox=Outbox(lambda updates, load: self.deliver(updates, load)),
            metrics=self.metrics,
            switchover=switchover,
            limits=Limits(LENGTH, VOCAB),
            eos_token_ids=frozenset(eos),
            clock=lambda: self.now,
            unix_clock=lambda: WALL_S + self.now,
        )

    def _keep(self, updates: Updates, load: worker_pb2.Load) -> None:
        self.messages.append(updates)
        self.load = load

    def attach(self) -> kv_pb2.Attach:
        """The sidecar takes the worker's pool, its probe passes, and the engine knows."""
        self.link.start()
        said = self.sidecar.attach()
        self.engine.turn(wait=True)
        assert self.told() == ["start_probe"]
        self.probed()
        self.turn()
        return said

    def start(self) -> Thread:
        """Lets the engine run by itself, as in a worker."""
        thread = Thread(target=self.engine.run, daemon=True)
        thread.start()
        return thread

    def close(self) -> None:
        """Gives everything back."""
        self.link.stop()
        self.sidecar.close()
        self.pool.close()

    # ---- what routers say ----

    def prefill(
        self, number: int, tokens: Sequence[int], transfer: str = "", session: int = 1, **more: Any
    ) -> None:
        self.submit_prefill(self.asked(number, tokens, transfer, **more), session)

    def asked(
        self, number: int, tokens: Sequence[int], transfer: str = "", **more: Any
    ) -> worker_pb2.Prefill:
        """The message of `prefill`, for those that change it."""
        message = worker_pb2.Prefill(request=request(number, tokens, **more))
        if transfer:
            message.transfer.CopyFrom(
                worker_pb2.Transfer(transfer_id=transfer, peer=PEER, capability=CAPABILITY)
            )
        return message

    def submit_prefill(self, message: worker_pb2.Prefill, session: int = 1) -> None:
        self.engine.submit(commands.Prefill(session, message))

    def decode(
        self, number: int, tokens: Sequence[int], transfer: str, session: int = 1, **more: Any
    ) -> None:
        message = worker_pb2.Decode(
            request=request(number, tokens, **more),
            transfer=worker_pb2.Transfer(transfer_id=transfer),
        )
        self.engine.submit(commands.Decode(session, message))

    def cancel(self, number: int, session: int = 1) -> None:
        self.engine.submit(commands.Cancel(SequenceKey(session, number)))

    # ---- what the sidecar says ----

    def hear(self, **kind: Any) -> None:
        self.engine.submit(commands.FromSidecar(kv_pb2.FromSidecarToWorker(**kind)))

    def probed(self, outcome: kv_pb2.Outcome = OK, detail: str = "") -> None:
        self.hear(probe_ended=kv_pb2.ProbeEnded(outcome=outcome, detail=detail))

    def verified(self, transfer: str, tokens: Sequence[int] = (9,)) -> None:
        told = kv_pb2.LeaseVerified(
            transfer_id=transfer,
            output_tokens=tokens,
            kv_bytes=99,
            transport="grpc",
            visible_s=0.5,
        )
        self.hear(lease_verified=told)

    def lease_ended(self, transfer: str, outcome: kv_pb2.Outcome = CANCELLED) -> None:
        ended = kv_pb2.LeaseEnded(transfer_id=transfer, outcome=outcome, detail="so it is")
        self.hear(lease_ended=ended)

    def transfer_ended(self, transfer: str, outcome: kv_pb2.Outcome = OK) -> None:
        ended = kv_pb2.TransferEnded(
            transfer_id=transfer, outcome=outcome, kv_bytes=99, visible_s=0.5, transport="grpc"
        )
        self.hear(transfer_ended=ended)

    # ---- what happens ----

    def turn(self) -> bool:
        """One round of the loop; whether it computed."""
        return self.engine.turn(wait=False)

    def settle(self) -> None:
        """Turns until nothing more can be computed."""
        while self.turn():
            pass

    def told(self) -> list[str]:
        """What the sidecar was told since the last call: kinds of messages, layers by number."""
        return [
            _layers(message.layers_ready)
            if message.WhichOneof("kind") == "layers_ready"
            else str(message.WhichOneof("kind"))
            for message in self.sidecar.heard()
        ]

    def updates(self, number: int, session: int = 1) -> list[worker_pb2.Update]:
        """All that the router was told of this sequence."""
        news = [update for message in self.messages for update in message.get(session, ())]
        return [update for update in news if update.sequence == number]

    def tokens(self, number: int, session: int = 1) -> list[int]:
        return [token for update in self.updates(number, session) for token in update.tokens]

    def end(self, number: int, session: int = 1) -> tuple[int, int]:
        """The finish and the outcome; there is exactly one, and nothing after it."""
        found = self.updates(number, session)
        assert [bool(update.finish) for update in found] == [False] * (len(found) - 1) + [True]
        return found[-1].finish, found[-1].outcome

    def sample(self, name: str, **labels: str) -> float:
        """A metric's value; 0 when it was never touched."""
        return (
            self.telemetry.registry.get_sample_value(name, {"role": "mixed", "pool": "p"} | labels)
            or 0.0
        )


def _layers(ready: kv_pb2.LayersReady) -> str:
    last = ready.first + ready.count - 1
    return f"layer {last}" if ready.count == 1 else f"layers {ready.first} to {last}"
