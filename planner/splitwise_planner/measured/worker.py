"""A worker in virtual time: its queue, its batch, and the step that it computes.

What the next step is `core.policy.batching` says. While nothing waits, steps of decoding are alike
but for their context, so a run of them until the next sequence ends is one event; whoever comes
meanwhile cuts the run at the end of the step that is being computed.
"""

from collections import deque
from dataclasses import dataclass, field, replace
from enum import IntEnum
from heapq import heappop, heappush
from math import ceil, sqrt
from typing import Final

from splitwise_core.policy.admission import PromptSpeed
from splitwise_core.policy.batching import (
    CHUNK_TOKENS,
    PROMPT_BATCH_TOKENS,
    Preempted,
    StepKind,
    next_step,
)
from splitwise_core.policy.block_pool import BlockPool
from splitwise_planner.measured.rules import Hardware

NOBODY: Final = -1


class Phase(IntEnum):
    """How far an attempt has come."""

    PLACED = 0
    PROMPT_DONE = 1
    THERE = 2  # its KV is where it decodes
    OVER = 3  # ended, or lost with a worker


@dataclass(slots=True, eq=False)
class Job:
    """One attempt of a request. Times are seconds of the trace; those below zero are not known yet.

    `prompt` counts the tokens of earlier attempts in, `output` what is left. `failures` is how many
    attempts there were before. One that `borrows` has work of the other phase on its worker.
    """

    number: int
    arrival_s: float
    prompt: int
    output: int
    to_compute: int  # tokens of its prompt
    found: int = 0  # tokens that were in the cache of its prompt worker
    found_there: int = 0  # and in that of its token worker
    failures: int = 0
    borrows: bool = False
    phase: Phase = Phase.PLACED
    prompt_worker: int = NOBODY
    token_worker: int = NOBODY
    started_s: float = -1.0
    first_token_s: float = -1.0
    decoding_s: float = -1.0
    ended_s: float = -1.0

    def again(self, produced: int) -> "Job":
        """The next attempt, when so many tokens of this one had come to the client."""
        prompt = self.prompt + produced
        return replace(
            self,
            prompt=prompt,
            output=self.output - produced,
            to_compute=prompt,
            failures=self.failures + 1,
            found=0,
            found_there=0,
            phase=Phase.PLACED,
            prompt_worker=NOBODY,
            token_worker=NOBODY,
        )

    @property
    def needed(self) -> tuple[int, ...]:
        """The workers without which it cannot go on."""
        if self.phase is Phase.THERE:
            return (self.prompt_worker if self.stays else self.token_worker,)
        return self.prompt_worker, self.token_worker

    @property
    def stays(self) -> bool:
        """Whether its KV is decoded where it was computed."""
        return self.token_worker in (NOBODY, self.prompt_worker)


@dataclass(slots=True, eq=False)
class Stretch:
    """What is being computed: prompts, a run of decoding steps, or one step of both."""

    kind: StepKind
    began_s: float
    ends_s: float
    steps: int
    jobs: list[Job]  # whose prompts are computed
    tokens: tuple[int, ...]


@dataclass(slots=True)
class Usage:
    """Seconds that a worker computed, `beyond_s` of them for batches larger or smaller than any
    that was measured, and what: whole prompts, steps, and the tokens of both."""

    prompt_s: float = 0.0
    token_s: float = 0.0
    beyond_s: float = 0.0
    prompts: int = 0
    prompt_tokens: int = 0
    steps: int = 0
    step_tokens: int = 0


@dataclass(slots=True, eq=False)
class Worker:
    """One worker. `context` are tokens of all sequences in its batch; `steps` it has decoded. What
    `is_dead` computes nothing. One that `has_lost` prompts, with the workers that were to decode
    them, still has them in its queue."""

    hardware: Hardware
    layers: int
    waiting: deque[Job] = field(default_factory=deque)
    running: list[tuple[int, int, Job]] = field(default_factory=list)  # a heap, by last step
    joining: list[Job] = field(default_factory=list)
    context: int = 0
    steps: int = 0
    preempted: Preempted = field(default_factory=Preempted)
    speed: PromptSpeed = field(
        default_factory=lambda: PromptSpeed(min(PROMPT_BATCH_TOKENS, CHUNK_TOKENS))
    )
    stretch: Stretch | None = None
    usage: Usage = field(default_factory=Usage)
    cache: BlockPool | None = None  # of prefixes, where a trace tells of any
    is_dead: bool = False
    has_lost: bool = False
    life: int = 0

    def die(self, now_s: float) -> None:
        """Stops at once; the tokens of steps that had ended were sent."""
        stretch = self.stretch
        if stretch is not None and stretch.kind is StepKind.TOKEN:
            self.steps += self._steps_by(now_s - stretch.began_s, stretch.steps) - 1
        self.stretch = None
        self.is_dead = True

    def produced(self) -> dict[int, int]:
        """By the number of its request: tokens that a sequence in the batch has sent."""
        return {number: job.output - (last - self.steps) for last, number, job in self.running}

    def reborn(self) -> "Worker":
        """A new process on the same hardware: it remembers nothing, but what was used counts on."""
        return Worker(self.hardware, self.layers, usage=self.usage, life=self.life + 1)

    def begin(self, now_s: float) -> Stretch | None:
        """Chooses what is computed now; None when there is nothing to do."""
        if self.is_dead:
            return None
        if self.has_lost:
            self.waiting = deque(job for job in self.waiting if job.phase is not Phase.OVER)
            self.has_lost = False
        for job in self.joining:
            if job.decoding_s < 0:
                job.decoding_s = now_s
            self.context += job.prompt + 1
            heappush(self.running, (self.steps + job.output - 1, job.number, job))
        self.joining.clear()
        step = next_step(self._to_compute(), len(self.running), self.preempted)
        self.preempted = self.preempted.after(step, len(self.running))
        if step.prompt_tokens:
            self.stretch = self._prompts(step.kind, step.prompt_tokens, now_s)
        elif step.kind is StepKind.TOKEN:
            self.stretch = self._decoding(now_s)
        else:
            self.stretch = None
        return self.stretch

    def cut(self, now_s: float) -> Stretch | None:
        """Ends a run of decoding with the step that is computed now; None when it ends then
        anyway."""
        stretch = self.stretch
        if stretch is None or stretch.kind is not StepKind.TOKEN or stretch.steps == 1:
            return None
        steps = self._steps_by(now_s - stretch.began_s, stretch.steps)
        if steps == stretch.steps:
            return None
        ends_s = stretch.began_s + self._seconds_of(steps)
        self.stretch = Stretch(StepKind.TOKEN, stretch.began_s, ends_s, steps, [], ())
        return self.stretch

    def finish(self) -> tuple[list[Job], list[Job]]:
        """Ends what was computed; the jobs whose prompt is done, and those whose last token is."""
        stretch = self.stretch
        assert stretch is not None
        self.stretch = None
        seconds = stretch.ends_s - stretch.began_s
        if stretch.kind is StepKind.TOKEN:
            self.speed.decoded(seconds, bool(self.waiting))
            return [], self._finish_decoding(stretch.steps, seconds)
        self.speed.computed(sum(stretch.tokens), seconds)
        token_s = self._seconds_of(1) if stretch.kind is StepKind.MIXED else 0.0
        prompted = self._finish_prompts(stretch, seconds - token_s)
        return prompted, self._finish_decoding(1, token_s) if token_s else []

    def _finish_decoding(self, steps: int, seconds: float) -> list[Job]:
        self.usage.token_s += seconds
        model, sequences = self.hardware.decode, len(self.running)
        if model.is_extrapolated(sequences, self.context):
            self.usage.beyond_s += seconds
        self.usage.steps += steps
        self.usage.step_tokens += sequences * steps
        self.steps += steps
        self.context += sequences * steps
        done = []
        while self.running and self.running[0][0] <= self.steps:
            job = heappop(self.running)[2]
            self.context -= job.prompt + job.output
            done.append(job)
        return done

    def _to_compute(self) -> list[int]:
        """Tokens of the first prompts that wait: no more of them than one step could take."""
        tokens, total = [], 0
        for job in self.waiting:
            tokens.append(job.to_compute)
            total += job.to_compute
            if total > PROMPT_BATCH_TOKENS:
                break
        return tokens

    def _prompts(self, kind: StepKind, tokens: tuple[int, ...], now_s: float) -> Stretch:
        """A step that computes so many tokens of each of the first prompts.

        One that decodes too reads the weights once for the rows of both (decision 18): each
        sequence is to it a prompt's token more, and the reading of its KV.
        """
        jobs = [self.waiting[i] for i in range(len(tokens))]
        total = sum(tokens)
        length = sum(n * n for n in tokens) / total
        hardware = self.hardware
        beside = len(self.running) if kind is StepKind.MIXED else 0
        seconds = hardware.prompt_slowdown * hardware.prompt.seconds(total + beside, length)
        if any(not job.stays and job.prompt >= hardware.layerwise_min for job in jobs):
            seconds += self.layers * hardware.layer_push_s
        for job in jobs:
            if job.started_s < 0:
                job.started_s = now_s
        if kind is StepKind.MIXED:
            seconds = max(seconds + hardware.decode.token_s * self.context, self._seconds_of(1))
        return Stretch(kind, now_s, now_s + seconds, 1, jobs, tokens)

    def _decoding(self, now_s: float) -> Stretch:
        """A run of steps until a sequence ends."""
        steps = self.running[0][0] - self.steps
        return Stretch(StepKind.TOKEN, now_s, now_s + self._seconds_of(steps), steps, [], ())

    def _finish_prompts(self, stretch: Stretch, seconds: float) -> list[Job]:
        total = sum(stretch.tokens)
        self.usage.prompt_s += seconds
        if self.hardware.prompt.is_extrapolated(total):
            self.usage.beyond_s += seconds
        for job, tokens in zip(stretch.jobs, stretch.tokens):
            job.to_compute -= tokens
        done = [job for job in stretch.jobs if job.to_compute == 0]
        self.usage.prompts += len(done)
        self.usage.prompt_tokens += total
        for _ in done:
            self.waiting.popleft()
        return done

    def _seconds_of(self, steps: int) -> float:
        return self.hardware.decode.seconds_of(steps, len(self.running), self.context)

    def _steps_by(self, elapsed_s: float, most: int) -> int:
        """Steps of a run until one ends no sooner than so many seconds after its begin."""
        sequences = len(self.running)
        first = self.hardware.decode.seconds(sequences, self.context)
        growth = self.hardware.decode.token_s * sequences / 2
        # steps * first + growth * steps * (steps - 1) = elapsed
        if growth > 0:
            linear = first - growth
            root = sqrt(linear * linear + 4 * growth * max(elapsed_s, 0.0))
            steps = ceil((root - linear) / (2 * growth) - 1e-9)
        else:
            steps = ceil(elapsed_s / first - 1e-9)
        return min(max(steps, 1), most)
