"""What of prompts stands in the caches of workers in virtual time, and what the router takes to.

A worker keeps and evicts blocks by `policy.block_pool`, and a router remembers where prompts went
by `policy.prefixes`, as in production. A trace names beginnings of 512 tokens each: prompts that
begin alike share whole ones of those. What is added to a prompt by its answer has no names there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from splitwise_core.policy.block_pool import BlockPool
from splitwise_core.policy.prefixes import MAX_NAMES, ROUTED_TOKENS, PrefixIndex
from splitwise_core.prefix import most_cached
from splitwise_planner.measured.rules import BLOCK_TOKENS, blocks_for
from splitwise_planner.measured.worker import NOBODY, Job, Worker
from splitwise_planner.prefix_ids import PREFIX_TOKENS
from splitwise_planner.trace import Trace

ID_BLOCKS: Final = PREFIX_TOKENS // BLOCK_TOKENS
"""KV blocks of what an id names."""


@dataclass(slots=True)
class Hits:
    """Tokens that were looked for in caches, and those that were found: of prompts that were to be
    computed, and of such that were to be sent. `evicted_blocks` were named, and given to others."""

    compute_tokens: int = 0
    compute_found: int = 0
    transfer_tokens: int = 0
    transfer_found: int = 0
    evicted_blocks: int = 0

    @property
    def compute_share(self) -> float:
        """Of the tokens that would have been computed, those that were not."""
        return self.compute_found / self.compute_tokens if self.compute_tokens else 0.0

    @property
    def transfer_share(self) -> float:
        """Of the tokens that would have been sent, those that were not."""
        return self.transfer_found / self.transfer_tokens if self.transfer_tokens else 0.0


@dataclass(slots=True)
class _Held:
    """The blocks of one attempt, the names of those that its prompt fills, and whose they are."""

    names: Sequence[int]
    computing: tuple[BlockPool, tuple[int, ...]]
    decoding: tuple[BlockPool, tuple[int, ...]] | None = None


class Prefixes:
    """The caches of all workers, and what their router knows of them."""

    def __init__(self, trace: Trace, workers: Sequence[Worker]) -> None:
        self.hits = Hits()
        self._ids = trace.prefix_ids
        self._tokens: list[int] = trace.prompt_tokens.tolist()
        self._workers = workers
        self._index = PrefixIndex(MAX_NAMES // ID_BLOCKS)  # as many tokens as a router's
        self._held: dict[int, _Held] = {}

    def expected(self, job: Job) -> Mapping[int, int]:
        """By worker: tokens of a prompt that the router takes it to have."""
        most = min(self._named(job) * BLOCK_TOKENS, job.prompt - 1)
        found = {}
        for incarnation, depth in self._index.find(self._routed(job)).items():
            life, number = divmod(incarnation, len(self._workers))
            if self._workers[number].life == life:
                found[number] = min(depth * PREFIX_TOKENS, most)
        return found

    def sent(self, job: Job) -> None:
        """The router has sent a prompt to its workers."""
        for number in dict.fromkeys((job.prompt_worker, job.token_worker)):
            if number != NOBODY:
                incarnation = self._workers[number].life * len(self._workers) + number
                self._index.note(incarnation, self._routed(job))

    def arrive(self, job: Job) -> None:
        """Both workers of a request reserve its blocks: what they have is not computed, or sent."""
        ids = self._ids[job.number]
        names = [one * ID_BLOCKS + block for one in ids for block in range(ID_BLOCKS)]
        del names[self._named(job) :]
        total = job.prompt + job.output
        pool, blocks, job.found = self._claim(
            job.prompt_worker, job, total if job.stays else job.prompt, names
        )
        held = self._held[job.number] = _Held(names, (pool, blocks))
        job.to_compute -= job.found
        self.hits.compute_tokens += job.prompt
        self.hits.compute_found += job.found
        if not job.stays:
            pool, blocks, job.found_there = self._claim(job.token_worker, job, total, names)
            held.decoding = pool, blocks
            self.hits.transfer_tokens += job.prompt
            self.hits.transfer_found += job.found_there

    def prompt_done(self, job: Job) -> None:
        """A prompt is computed, and can be found where it was."""
        held = self._held[job.number]
        pool, blocks = held.computing
        pool.name(blocks, held.names)

    def handed_over(self, job: Job) -> None:
        """The KV of a prompt is where it decodes, and can be found there."""
        held = self._held[job.number]
        pool, blocks = held.computing
        pool.release(blocks)
        assert held.decoding is not None
        held.computing, held.decoding = held.decoding, None
        pool, blocks = held.computing
        pool.name(blocks, held.names)

    def release(self, job: Job) -> None:
        """An attempt has ended, in whichever way."""
        held = self._held.pop(job.number, None)
        if held is None:  # it was lost on its way
            return
        for pool, blocks in filter(None, (held.computing, held.decoding)):
            pool.release(blocks)

    def _claim(
        self, number: int, job: Job, tokens: int, names: Sequence[int]
    ) -> tuple[BlockPool, tuple[int, ...], int]:
        """Blocks of a worker for so many tokens, and how many tokens of the prompt are in them."""
        worker = self._workers[number]
        if worker.cache is None:
            worker.cache = BlockPool(worker.hardware.blocks)
        evicted = worker.cache.evicted
        findable = names[: most_cached(job.prompt, BLOCK_TOKENS)]
        claimed = worker.cache.claim(blocks_for(tokens), findable)
        assert claimed is not None, "a request goes where there is room"
        self.hits.evicted_blocks += worker.cache.evicted - evicted
        blocks, found = claimed
        return worker.cache, blocks, found * BLOCK_TOKENS

    def _named(self, job: Job) -> int:
        """Full KV blocks of a prompt that have names: not those of an earlier attempt's tokens."""
        ids = self._ids[job.number]
        return min(self._tokens[job.number] // BLOCK_TOKENS, len(ids) * ID_BLOCKS)

    def _routed(self, job: Job) -> Sequence[int]:
        return self._ids[job.number][: ROUTED_TOKENS // PREFIX_TOKENS]
