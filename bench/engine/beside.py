"""`python -m bench.engine.beside`: prompts beside sequences that decode, on one mixed worker.

Eight sequences decode all the while, and long prompts come again and again; the same scheduler and
runner as in a worker, without its process. Steps of prompts and tokens by turns (four of
prompts at most, then two, then one) against steps of both, in turn, several times: figures are
medians, and so are the ratios, each of two runs next to each other. The last line is one JSON
object.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from bench.cluster.model import written
from bench.engine.__main__ import PlainStore
from splitwise_core.policy.batching import Preempted, Step, StepKind, chunks, next_step
from splitwise_core.policy.block_pool import BlockPool
from splitwise_worker import scheduler as scheduling
from splitwise_worker.loaded import BLOCK_TOKENS
from splitwise_worker.model.decoder import Decoder
from splitwise_worker.runner import Runner
from splitwise_worker.sampling import UNFINISHED, SamplingParams
from splitwise_worker.scheduler import Scheduler
from splitwise_worker.sequence import LiveSequence, Phase, SequenceKey

DECODING: Final = 8
CONTEXT: Final = 200  # tokens of their prompts
BLOCKS: Final = 1200
NextStep = Callable[[Sequence[int], int, Preempted, int, int], Step]


def by_turns() -> NextStep:
    """The rule of before: a step is of prompts or of tokens."""
    in_a_row = age = 0

    def step(
        waiting: Sequence[int], running: int, preempted: Preempted, batch: int, chunk: int
    ) -> Step:
        nonlocal in_a_row, age
        if not waiting or not running or in_a_row >= max(1, 4 >> age):
            in_a_row, age = 0, age + 1 if waiting else 0
            return Step(StepKind.TOKEN) if running else next_step(waiting, running, preempted)
        in_a_row += 1
        return Step(StepKind.PROMPT, chunks(waiting, chunk))

    return step


class Worker:
    """A scheduler and a runner, and the times of the tokens that came."""

    def __init__(self, decoder: Decoder, rule: NextStep) -> None:
        scheduling.next_step = rule  # type: ignore[attr-defined, assignment]
        self._runner = Runner(decoder, PlainStore(decoder, BLOCKS), BLOCK_TOKENS, "cpu")
        self._scheduler = Scheduler(BlockPool(BLOCKS), BLOCK_TOKENS, 2 * DECODING)
        self._vocabulary = decoder.config.vocab_size
        self._numbers = 0
        self.decoding = [self.add(CONTEXT, 100_000) for _ in range(DECODING)]
        self.gaps_s: list[float] = []
        self._last_s: dict[SequenceKey, float] = {}
        while any(sequence.phase is Phase.WAITING for sequence in self.decoding):
            self.step()

    def add(self, prompt: int, output: int) -> LiveSequence:
        """A request, taken in; blocks for the answer are taken as far as a run may need them."""
        self._numbers += 1
        made = LiveSequence(
            key=SequenceKey(0, self._numbers),
            request_id=str(self._numbers),
            prompt_tokens=[(7 * i + self._numbers) % self._vocabulary for i in range(prompt)],
            output_tokens=[],
            params=SamplingParams(max_tokens=output, ignore_eos=True),
            phase=Phase.WAITING,
            arrived_s=0.0,
            deadline_s=float("inf"),
        )
        assert self._scheduler.admit(made, prompt + min(output, 1500))
        return made

    def step(self) -> None:
        """One step, and who got a token in it."""
        work = self._scheduler.next_work()
        sampled = self._runner.run(work.sequences, None, work.tokens)
        now_s = time.perf_counter()
        for sequence, token in zip(work.sequences, sampled, strict=True):
            if token is UNFINISHED or token is None:
                continue
            sequence.output_tokens.append(token.token)
            if sequence.phase is Phase.WAITING:
                self._scheduler.move(sequence, Phase.RUNNING)
            if sequence.key in self._last_s:
                self.gaps_s.append(now_s - self._last_s[sequence.key])
            self._last_s[sequence.key] = now_s

    def prompts(self, count: int, tokens: int, pause: int) -> dict[str, float]:
        """Figures of so many prompts of so many tokens, with `pause` steps after each one."""
        ttft_s, began_s, decoded = [], time.perf_counter(), self._decoded()
        self.gaps_s.clear()
        for _ in range(count):
            asked_s, prompt = time.perf_counter(), self.add(tokens, 2)
            while not prompt.output_tokens:
                self.step()
            ttft_s.append(time.perf_counter() - asked_s)
            self._scheduler.release(prompt)
            for _ in range(pause):
                self.step()
        seconds = time.perf_counter() - began_s
        return {
            "ttft_s": median(ttft_s),
            "tbt_p99_s": quantiles(self.gaps_s, n=100)[98],
            "prompt_tokens_per_s": count * tokens / seconds,
            "tokens_per_s": (self._decoded() - decoded) / seconds,
        }

    def _decoded(self) -> int:
        return sum(len(sequence.output_tokens) for sequence in self.decoding)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=6, help="of each run")
    parser.add_argument("--tokens", type=int, default=2048, help="of each prompt")
    parser.add_argument("--pause", type=int, default=3, help="steps without a prompt after each")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cache", type=Path, default=Path(".cache/models"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    model = written(asked.cache / "bench-6m")
    length = max(asked.tokens, CONTEXT) + 1500
    decoder = Decoder.load(model, max_model_len=length, device="cpu", weights="float32")
    rules: dict[str, Callable[[], Any]] = {"turns": by_turns, "both": lambda: next_step}
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in rules}
    for _ in range(asked.repeats):
        for name, rule in rules.items():
            worker = Worker(decoder, rule())
            runs[name].append(worker.prompts(asked.prompts, asked.tokens, asked.pause))
            told = "  ".join(f"{key} {value:8.4g}" for key, value in runs[name][-1].items())
            print(f"{name:6} {told}", flush=True)
    result: dict[str, Any] = {
        name: {key: median(run[key] for run in found) for key in found[0]}
        for name, found in runs.items()
    }
    pairs = list(zip(runs["both"], runs["turns"], strict=True))
    result["ratio"] = {key: median(a[key] / b[key] for a, b in pairs) for key in pairs[0][0]}
    print(json.dumps({"bench": "prompts beside tokens"} | result))


if __name__ == "__main__":
    main()
