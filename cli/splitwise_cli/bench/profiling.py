"""How long the two phases take on a running cluster, while both of them work.

So many requests are kept under way at a time, first one, which is measured alone, then more. A
prompt that hardly waited tells how long its size takes; the gaps between tokens tell how long a
step takes for as many sequences as decoded then. Workers that share a machine slow each other down,
and a profile of idle ones would not foretell that.
"""

import asyncio
import time
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from statistics import fmean, median
from typing import Final

from splitwise_cli.bench.answers import Answer, Outcome
from splitwise_cli.bench.client import Client
from splitwise_cli.bench.prompts import Prompts
from splitwise_core.errors import UserError
from splitwise_planner.benchmarks import HARDLY_WAITS
from splitwise_planner.phase_times import Shape

STEPS_OF_A_POINT: Final = 25
"""Gaps between tokens whose mean is one measurement of a step. Single ones are mostly noise, and
those of tokens that came in one piece are 0."""

LEAST_STEPS: Final = 5


@dataclass(frozen=True, slots=True)
class Grid:
    """What to measure. `under_way`: so many requests at a time, for each `repeats` of every prompt
    size; answers are of `output_tokens` on average. `token_workers` decode side by side."""

    prompt_tokens: Sequence[int]
    under_way: Sequence[int]
    output_tokens: int
    repeats: int
    token_workers: int = 1


@dataclass(slots=True)
class Measured:
    """Shapes with their times, and what a request costs beside them.

    `request_s`: of the time to the first token, what neither waiting nor computing explains.
    `visible_s`: from the first token until the KV is where it is decoded from, of requests that
    were alone, for others wait for steps and for each other. One value a request.
    """

    shapes: list[Shape] = field(default_factory=list)
    request_s: list[float] = field(default_factory=list)
    visible_s: list[float] = field(default_factory=list)

    def overheads(self) -> dict[str, float]:
        """Their medians, by the names that a machine has them under in the planner's catalogue."""
        found = {"request_s": self.request_s, "transfer_latency_s": self.visible_s}
        return {name: median(values) for name, values in found.items() if values}


@dataclass(frozen=True, slots=True)
class Timed:
    """An answer that was asked for at a time of the client's clock."""

    answer: Answer
    asked_s: float

    @property
    def is_shown(self) -> bool:
        """Whether its tokens had text and came one by one, so that their times are known."""
        return self.answer.ttft_s is not None and sum(self.answer.gaps_s[1:]) > 0

    @property
    def prompt_tokens(self) -> int:
        """That it was asked with."""
        return self.answer.asked.prompt_tokens

    def times_s(self) -> list[float]:
        """When its tokens came."""
        assert self.answer.ttft_s is not None
        times = [self.asked_s + self.answer.ttft_s]
        for gap_s in self.answer.gaps_s:
            times.append(times[-1] + gap_s)
        return times


class Profiler:
    """Measures one cluster, on which nothing else is asked for meanwhile."""

    def __init__(self, client: Client, prompts: Prompts, tell: Callable[[str], None]) -> None:
        self._client = client
        self._prompts = prompts
        self._tell = tell
        self._draw = Random(0)

    async def run(self, grid: Grid) -> Measured:
        """Raises UserError (invalid-benchmark) where a request fails, or tells no stages."""
        await self._ask(grid.prompt_tokens[0], grid.output_tokens)  # pays for what others find
        measured = Measured()
        for under_way in sorted({1, *grid.under_way}):
            sizes = [size for size in grid.prompt_tokens for _ in range(grid.repeats)]
            self._draw.shuffle(sizes)
            answers = await self._closed_loop(sizes, under_way, grid.output_tokens)
            shown = [one for one in answers if one.is_shown]
            measured.request_s += map(_beside_s, shown)
            if under_way == 1:
                measured.visible_s += handed_over_s(shown)
                found = alone(shown)
            else:
                found = [*prompts(shown), *steps(shown, grid)]
            measured.shapes += found
            self._tell(f"{under_way} at a time: {len(shown)} answers, {len(found)} shapes")
        return measured

    async def _closed_loop(
        self, sizes: Sequence[int], under_way: int, output_tokens: int
    ) -> list[Timed]:
        """All requests, each sent when an earlier one has ended; answers differ in length."""
        left = iter(sizes)
        found: list[Timed] = []

        async def one_after_the_other() -> None:
            for size in left:
                output = self._draw.randint(output_tokens // 2, output_tokens * 3 // 2)
                found.append(await self._ask(size, output))

        await asyncio.gather(*(one_after_the_other() for _ in range(under_way)))
        return found

    async def _ask(self, prompt_tokens: int, output_tokens: int) -> Timed:
        answer = Answer(self._prompts.ask(prompt_tokens, output_tokens))
        asked_s = time.perf_counter()
        await self._client.ask(answer)
        if answer.outcome is not Outcome.OK:
            raise UserError(
                "invalid-benchmark",
                where=f"a request of {prompt_tokens} + {output_tokens} tokens",
                wrong=f"ended {answer.outcome}: {answer.detail}",
                fix="measure a cluster that answers, with sizes that fit its model's context",
            )
        return Timed(answer, asked_s)


def alone(answers: Sequence[Timed]) -> list[Shape]:
    """Both phases of requests that were under way one at a time: a shape for each prompt size."""
    return [
        Shape(
            size,
            1,
            round(fmean(one.answer.output_tokens for one in own)),
            tuple(_stage_ms(one, "prefill_ms") for one in own),
            tuple(1000 * fmean(one.answer.gaps_s[1:]) for one in own),
        )
        for size, own in _by_size(answers)
    ]


def prompts(answers: Sequence[Timed]) -> list[Shape]:
    """What prompts took that hardly waited; those computed in one step took it together, and tell
    the same time."""
    together = Counter(_stage_ms(one, "prefill_ms") for one in answers)
    found = []
    for size, own in _by_size(answers):
        took_ms = [(_stage_ms(one, "prefill_ms"), _stage_ms(one, "queue_ms")) for one in own]
        times = [ms for ms, queue in took_ms if queue <= HARDLY_WAITS * ms and together[ms] == 1]
        if times:
            found.append(Shape(size, 1, 1, tuple(times), ()))
    return found


def steps(answers: Sequence[Timed], grid: Grid) -> list[Shape]:
    """What steps took, by how many sequences decoded on a worker, of the length that they had.

    A sequence decodes from its second token on: the first gap has its transfer in it.
    """
    spans = [one.times_s() for one in answers]
    began, ended = sorted(times[1] for times in spans), sorted(times[-1] for times in spans)
    gaps_s: dict[int, list[float]] = defaultdict(list)
    for times in spans:
        for sooner, later in pairwise(times[1:]):
            middle = (sooner + later) / 2
            decoding = bisect_right(began, middle) - bisect_left(ended, middle)
            gaps_s[max(1, round(decoding / grid.token_workers))].append(later - sooner)
    length = round(fmean(one.prompt_tokens + one.answer.output_tokens / 2 for one in answers))
    found = []
    for sequences, own in sorted(gaps_s.items()):
        times_ms = tuple(1000 * fmean(part) for part in _parts(own) if sum(part) > 0)
        if times_ms and len(own) >= LEAST_STEPS:
            found.append(Shape(length, sequences, 1, (), times_ms))
    return found


def _parts(gaps_s: Sequence[float]) -> list[Sequence[float]]:
    """Of about as many gaps each, one after the other; fewer than that are one part."""
    count = max(1, len(gaps_s) // STEPS_OF_A_POINT)
    cuts = [part * len(gaps_s) // count for part in range(count + 1)]
    return [gaps_s[sooner:later] for sooner, later in pairwise(cuts)]


def _by_size(answers: Sequence[Timed]) -> Iterator[tuple[int, list[Timed]]]:
    for size in sorted({one.prompt_tokens for one in answers}):
        yield size, [one for one in answers if one.prompt_tokens == size]


def _beside_s(one: Timed) -> float:
    assert one.answer.ttft_s is not None
    told_ms = _stage_ms(one, "prefill_ms") + _stage_ms(one, "queue_ms")
    return max(0.0, one.answer.ttft_s - told_ms / 1000)


def handed_over_s(answers: Sequence[Timed]) -> Iterator[float]:
    """Of those whose KV was moved: the gap before their second token, but for the step that gave
    it. Where the first one was late on its way, what the sidecars have told of is more than that.
    """
    for one in answers:
        told_ms, step_ms = one.answer.told("transfer_ms"), one.answer.told("first_decode_ms")
        if told_ms is not None and step_ms is not None:
            yield max(told_ms / 1000, one.answer.gaps_s[0] - step_ms / 1000)


def _stage_ms(one: Timed, name: str) -> float:
    """A stage in milliseconds. Raises UserError for a server that tells none."""
    told = one.answer.told(name)
    if told is None:
        raise UserError(
            "invalid-benchmark",
            where=f"usage.splitwise.{name}",
            wrong="the server does not tell how long its stages take",
            fix="measure a cluster of Splitwise; for others use `splitwise profile --benchmark`",
        )
    return told
