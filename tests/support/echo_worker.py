"""A worker without a model: speaks the real protocol and answers with the prompt, over and over.

The token at output position p is prompt token p mod length, so any worker can go on where another
has stopped, and a test knows every answer. It keeps books of blocks and slots as a real one does.
"""

import argparse
import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import grpc.aio

from splitwise_core.rpc import kv_pb2
from splitwise_core.rpc.channel import OPTIONS
from splitwise_core.rpc.worker_pb2 import (
    FINISH_FAILED,
    FINISH_HANDED_OVER,
    FINISH_LENGTH,
    FINISH_NONE,
    FINISH_STOP,
    MOVING_FAILED,
    MOVING_WANTED,
    DrainReply,
    DrainRequest,
    FromWorker,
    Load,
    Move,
    Request,
    Stages,
    TokenLogprobs,
    ToWorker,
    Update,
    WorkerInfo,
)
from splitwise_core.rpc.worker_pb2_grpc import WorkerServicer, add_WorkerServicer_to_server

KV_BYTES_PER_TOKEN = 100


@dataclass(eq=False)
class Sequence:
    """One leg."""

    request: Request
    blocks: int
    splits: bool
    computes_prompt: bool
    due_s: float
    produced: int
    here: int = 0  # tokens that this worker has sent
    asks_left: int = 0  # for a peer, once it is time; it sends no token while it asks


@dataclass(eq=False)
class Session:
    """One router's stream."""

    out: asyncio.Queue[FromWorker] = field(default_factory=asyncio.Queue)
    sequences: dict[int, Sequence] = field(default_factory=dict)


class EchoWorker(WorkerServicer):
    """See `arguments` for what can be asked of it."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.asked = asked
        self.sessions: set[Session] = set()
        self.free_blocks = asked.blocks
        self.failures_left = asked.fail_count
        self.sent_in_all = 0
        self.wake = asyncio.Event()

    def info(self) -> WorkerInfo:
        asked = self.asked
        return WorkerInfo(
            worker_id=asked.worker_id,
            pool=asked.role,
            role=asked.role,
            revision=asked.revision,
            model=asked.model_name,
            sidecar=asked.listen,
            max_model_len=asked.max_length,
            block_tokens=asked.block_tokens,
            num_blocks=asked.blocks,
            max_sequences=asked.max_sequences,
            incarnation=os.getpid(),
            tokenizer_fingerprint=bytes.fromhex(asked.tokenizer),
            kv_token_bytes=KV_BYTES_PER_TOKEN,
            num_layers=2,
        )

    def load(self) -> Load:
        legs = [leg for session in self.sessions for leg in session.sequences.values()]
        waiting = [leg for leg in legs if leg.computes_prompt and not leg.here]
        return Load(
            ready=True,
            queued_requests=len(waiting),
            queued_tokens=sum(len(leg.request.prompt_tokens) for leg in waiting),
            running=len(legs) - len(waiting),
            running_tokens=sum(len(leg.request.prompt_tokens) + leg.produced for leg in legs),
            free_blocks=self.free_blocks,
            free_sequences=self.asked.max_sequences - len(legs),
            sequences=len(legs),
            prompt_tokens_per_s=self.asked.prompt_tokens_per_s,
        )

    async def Session(
        self, request_iterator: AsyncIterator[ToWorker], context: object
    ) -> AsyncIterator[FromWorker]:
        session = Session()
        self.sessions.add(session)
        reader = asyncio.create_task(self._read(session, request_iterator))
        try:
            yield FromWorker(info=self.info(), load=self.load())
            while True:
                try:
                    yield await asyncio.wait_for(session.out.get(), 1.0)
                except TimeoutError:
                    yield FromWorker(load=self.load())
        finally:
            reader.cancel()
            self.sessions.discard(session)
            self.free_blocks += sum(leg.blocks for leg in session.sequences.values())

    async def Drain(self, request: DrainRequest, context: object) -> DrainReply:
        return DrainReply()

    async def _read(self, session: Session, messages: AsyncIterator[ToWorker]) -> None:
        async for message in messages:
            if message.HasField("cancel"):
                if self._forget(session, message.cancel.sequence):
                    session.out.put_nowait(FromWorker(load=self.load()))
                continue
            if message.HasField("measure_link"):
                self._measure(message.measure_link.peer)
                continue
            if message.HasField("move"):
                self._move(session, message.move)
                continue
            is_prompt = message.HasField("prefill")
            leg = message.prefill if is_prompt else message.decode
            self._admit(session, leg.request, leg.HasField("transfer"), is_prompt)
            self.wake.set()

    def _measure(self, peer: str) -> None:
        """Says of its links what it was told to say; nothing when it was told nothing."""
        if not self.asked.link_bytes_per_s:
            return
        link = kv_pb2.Link(peer=peer, transport="tcp", bytes_per_s=self.asked.link_bytes_per_s)
        link.outcome = kv_pb2.PEER_LOST if peer == self.asked.failing_peer else kv_pb2.OK
        link.latency_s = 0.5 if peer == self.asked.far_peer else 0.001
        for session in self.sessions:
            session.out.put_nowait(FromWorker(links=[link], load=self.load()))

    def _move(self, session: Session, move: Move) -> None:
        """Hands a sequence over, or goes on with it: as it was told to."""
        leg = session.sequences.get(move.sequence)
        if leg is None:
            return
        outcome = kv_pb2.Outcome.Value(self.asked.move_outcome)
        if not move.HasField("transfer"):
            outcome = kv_pb2.CANCELLED
        elif self.asked.move_outcome == "OUTCOME_UNSPECIFIED":
            return  # its peer's word comes first
        if outcome == kv_pb2.OK:
            assert move.num_tokens == len(leg.request.prompt_tokens) + leg.produced - 1
            self._forget(session, move.sequence)
            stages = Stages(kv_bytes=move.num_tokens * KV_BYTES_PER_TOKEN, transport="grpc")
            update = Update(sequence=move.sequence, finish=FINISH_HANDED_OVER, stages=stages)
        else:
            leg.asks_left = 0
            update = Update(sequence=move.sequence, moving=MOVING_FAILED, outcome=outcome)
        session.out.put_nowait(FromWorker(updates=[update], load=self.load()))

    def _admit(self, session: Session, request: Request, splits: bool, is_prompt: bool) -> None:
        tokens = len(request.prompt_tokens) + len(request.output_tokens)
        if not (splits and is_prompt):
            tokens = len(request.prompt_tokens) + request.sampling.max_tokens
        blocks = -(-tokens // self.asked.block_tokens)
        running = sum(len(s.sequences) for s in self.sessions)
        if blocks > self.free_blocks or running >= self.asked.max_sequences:
            self._refuse(session, request.sequence, kv_pb2.NO_CAPACITY)
            return
        self.free_blocks -= blocks
        delay_ms = self.asked.prefill_ms if is_prompt else self.asked.transfer_ms
        done = len(request.output_tokens)
        session.sequences[request.sequence] = Sequence(
            request=request,
            blocks=blocks,
            splits=splits,
            computes_prompt=is_prompt,
            due_s=time.monotonic() + delay_ms / 1000,
            produced=done if is_prompt else done + 1,  # the prompt worker sends the first one
            asks_left=self.asked.asks_for_peer,
        )

    def _refuse(self, session: Session, sequence: int, outcome: int) -> None:
        update = Update(sequence=sequence, finish=FINISH_FAILED, outcome=outcome, detail="asked")
        session.out.put_nowait(FromWorker(updates=[update], load=self.load()))

    def _forget(self, session: Session, sequence: int) -> bool:
        leg = session.sequences.pop(sequence, None)
        if leg is not None:
            self.free_blocks += leg.blocks
        return leg is not None

    async def steps(self) -> None:
        """The engine: a step for all sequences every `step_ms`."""
        while True:
            await self.wake.wait()
            self.wake.clear()
            while any(session.sequences for session in self.sessions):
                began = time.monotonic()
                for session in list(self.sessions):
                    self._step(session)
                spent = time.monotonic() - began
                await asyncio.sleep(max(0.0, self.asked.step_ms / 1000 - spent))

    def _step(self, session: Session) -> None:
        now, updates = time.monotonic(), []
        for leg in list(session.sequences.values()):
            if leg.due_s <= now and leg.here < self.asked.hang_after_tokens:
                updates += self._advance(session, leg)
        if updates:
            session.out.put_nowait(FromWorker(updates=updates, load=self.load()))

    def _advance(self, session: Session, leg: Sequence) -> list[Update]:
        sequence = leg.request.sequence
        if self.failures_left > 0 and leg.here >= self.asked.fail_after_tokens:
            self.failures_left -= 1
            self._forget(session, sequence)
            outcome = kv_pb2.Outcome.Value(self.asked.fail_outcome)
            return [
                Update(sequence=sequence, finish=FINISH_FAILED, outcome=outcome, detail="asked")
            ]
        if leg.asks_left and leg.here >= self.asked.asks_after_tokens:
            leg.asks_left -= 1
            return [Update(sequence=sequence, moving=MOVING_WANTED)]
        count = 1 if leg.computes_prompt and not leg.here else self.asked.tokens_per_step
        update = Update(sequence=sequence)
        for _ in range(count):
            self._token(leg, update)
            if update.finish != FINISH_NONE:
                break
        self._stages(leg, update)
        updates = [update]
        if leg.splits and leg.computes_prompt and update.finish == FINISH_NONE:
            moved = _pushed(leg)
            updates.append(Update(sequence=sequence, finish=FINISH_HANDED_OVER, stages=moved))
        if updates[-1].finish != FINISH_NONE:
            self._forget(session, sequence)
        return updates

    def _token(self, leg: Sequence, update: Update) -> None:
        prompt, sampling = leg.request.prompt_tokens, leg.request.sampling
        token = prompt[leg.produced % len(prompt)]
        update.tokens.append(token)
        if sampling.HasField("logprobs"):
            wanted = range(token, token + sampling.logprobs)
            update.logprobs.append(
                TokenLogprobs(
                    logprob=-0.5, top_tokens=wanted, top_logprobs=[-0.5 - n + token for n in wanted]
                )
            )
        leg.produced += 1
        leg.here += 1
        self.sent_in_all += 1
        if self.sent_in_all > self.asked.die_after_tokens:
            os.kill(os.getpid(), signal.SIGKILL)
        ends = token in sampling.stop_token_ids
        ends = ends or (token == self.asked.eos and not sampling.ignore_eos)
        if ends:
            update.finish = FINISH_STOP
        elif leg.produced >= sampling.max_tokens:
            update.finish = FINISH_LENGTH

    def _stages(self, leg: Sequence, update: Update) -> None:
        if leg.here != len(update.tokens):
            return
        if leg.computes_prompt:
            update.stages.MergeFrom(Stages(queue_s=0.001, prefill_s=0.002))
        else:
            update.stages.MergeFrom(Stages(first_decode_s=0.004))
            if leg.splits:
                update.stages.MergeFrom(_pushed(leg))
                update.stages.transfer_s = 0.003


def _pushed(leg: Sequence) -> Stages:
    """What both workers say of the KV of a prompt."""
    tokens = len(leg.request.prompt_tokens) + len(leg.request.output_tokens)
    return Stages(kv_bytes=tokens * KV_BYTES_PER_TOKEN, transport="grpc")


def arguments() -> argparse.Namespace:
    never = 1 << 60
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", required=True, help="host:port")
    parser.add_argument("--worker-id", required=True)
    parser.add_argument("--role", default="mixed", choices=["prompt", "token", "mixed"])
    parser.add_argument("--revision", default="1")
    parser.add_argument("--model-name", default="echo")
    parser.add_argument("--tokenizer", default="", help="its fingerprint")
    parser.add_argument("--max-length", type=int, default=4096)
    parser.add_argument("--block-tokens", type=int, default=16)
    parser.add_argument("--blocks", type=int, default=100_000)
    parser.add_argument("--max-sequences", type=int, default=1024)
    parser.add_argument("--eos", type=int, default=-1)
    parser.add_argument("--prefill-ms", type=float, default=0)
    parser.add_argument("--prompt-tokens-per-s", type=float, default=0, help="it claims to do")
    parser.add_argument("--transfer-ms", type=float, default=0)
    parser.add_argument("--step-ms", type=float, default=1)
    parser.add_argument("--tokens-per-step", type=int, default=1)
    parser.add_argument("--link-bytes-per-s", type=float, default=0, help="0: silent on links")
    parser.add_argument("--failing-peer", default="", help="host:port")
    parser.add_argument("--far-peer", default="", help="host:port: a link of half a second")
    parser.add_argument("--fail-outcome", default="TRANSPORT_FAILED")
    parser.add_argument("--fail-count", type=int, default=0, help="legs that fail")
    parser.add_argument("--fail-after-tokens", type=int, default=0, help="sent by the leg")
    parser.add_argument("--asks-for-peer", type=int, default=0, help="times, of each leg")
    parser.add_argument("--asks-after-tokens", type=int, default=0, help="sent by the leg")
    parser.add_argument("--move-outcome", default="OK", help="OUTCOME_UNSPECIFIED: says nothing")
    parser.add_argument("--hang-after-tokens", type=int, default=never, help="sent by a leg")
    parser.add_argument("--die-after-tokens", type=int, default=never, help="sent in all")
    return parser.parse_args()


async def serve(asked: argparse.Namespace) -> None:
    worker = EchoWorker(asked)
    server = grpc.aio.server(options=OPTIONS)
    add_WorkerServicer_to_server(worker, server)
    server.add_insecure_port(asked.listen)
    await server.start()
    print("ready", flush=True)
    await worker.steps()


if __name__ == "__main__":
    asyncio.run(serve(arguments()))
