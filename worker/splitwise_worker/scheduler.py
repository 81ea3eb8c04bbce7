"""Machine-level bookkeeping: which sequences are here, in which phase, and which blocks they hold.

The rule that picks the next step is `core.policy.batching`; this class only feeds it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from splitwise_core.policy.admission import PromptSpeed
from splitwise_core.policy.batching import (
    CHUNK_TOKENS,
    PROMPT_BATCH_TOKENS,
    Preempted,
    StepKind,
    next_step,
)
from splitwise_core.policy.block_pool import BlockPool
from splitwise_core.policy.decode_limit import DecodeLimit
from splitwise_core.policy.duty import Duty
from splitwise_core.policy.fairness import FairOrder
from splitwise_core.policy.roles import Role
from splitwise_worker.kv.prefix_cache import PrefixCache
from splitwise_worker.sequence import LiveSequence, Phase, SequenceKey


@dataclass(frozen=True, slots=True)
class Work:
    """What a step computes: so many `tokens` of each of `sequences`, the first `prompts` of which
    are prompts, and the others decode."""

    kind: StepKind
    sequences: tuple[LiveSequence, ...]
    tokens: tuple[int, ...]
    prompts: int = 0

    @property
    def prompt_tokens(self) -> int:
        """Of the prompts together."""
        return sum(self.tokens[: self.prompts])

    @property
    def decoding(self) -> int:
        """Sequences that decode."""
        return len(self.sequences) - self.prompts


@dataclass(frozen=True, slots=True)
class Tally:
    """What is in one phase."""

    sequences: int
    tokens: int  # of prompts and outputs; of those that wait, what they have to compute
    blocks: int  # that they did not find in the cache


@dataclass(frozen=True, slots=True)
class Census:
    """Who is here and what is free, counted at one moment: safe to read from any thread."""

    phases: Mapping[Phase, Tally]
    blocks: int  # in all
    free_blocks: int  # those that are cached counted in
    cached_blocks: int
    free_sequences: int
    most_sequences: int  # that may decode together

    @property
    def sequences(self) -> int:
        """Those that have not ended."""
        return sum([t.sequences for phase, t in self.phases.items() if phase is not Phase.CLOSING])


class Scheduler:
    """Every sequence from admission to release.

    Within its phase it stands in order of arrival, and among prompts that wait by its rank.
    """

    def __init__(
        self,
        blocks: BlockPool,
        block_tokens: int,
        max_sequences: int,
        batch_tokens: int = PROMPT_BATCH_TOKENS,
        prefix_key: bytes | None = None,
        chunk_tokens: int = CHUNK_TOKENS,
        max_tbt_s: float | None = None,
        duty: Duty | None = None,
    ) -> None:
        self.blocks = blocks
        self.duty = duty or Duty(Role.MIXED)
        self._block_tokens = block_tokens
        self._prefixes = PrefixCache(blocks, block_tokens, prefix_key)
        self._max_sequences = max_sequences
        self._batch_tokens = batch_tokens
        self._chunk_tokens = chunk_tokens
        self.prompt_speed = PromptSpeed(min(batch_tokens, chunk_tokens))
        self._decode_limit = DecodeLimit(max_sequences, max_tbt_s)
        self._since_token_step_s = 0.0
        self._order = FairOrder()
        self._preempted = Preempted()
        self._phases: dict[Phase, dict[SequenceKey, LiveSequence]] = {p: {} for p in Phase}
        self._held = 0  # all phases together: `len` is asked from other threads, amid a move

    def admit(self, sequence: LiveSequence, tokens: int) -> bool:
        """Takes the sequence in with blocks for `tokens` tokens; False when there is no room.

        What of it stands in the cache is neither computed nor moved: `cached_tokens`.
        """
        need = -(-tokens // self._block_tokens)
        if self.free_sequences == 0 or not self._prefixes.claim(sequence, need):
            return False
        sequence.computed_tokens = max(sequence.computed_tokens, sequence.cached_tokens)
        if sequence.phase is Phase.WAITING:
            sequence.rank = self._order.enter(
                sequence.tenant, sequence.priority, sequence.tokens_to_compute
            )
        self._held += 1
        self._phases[sequence.phase][sequence.key] = sequence
        return True

    def move(self, sequence: LiveSequence, phase: Phase) -> None:
        """Puts the sequence behind the others of its new phase."""
        self._settle(sequence)
        del self._phases[sequence.phase][sequence.key]
        sequence.phase = phase
        self._phases[phase][sequence.key] = sequence

    def keep(self, sequence: LiveSequence) -> None:
        """Lets later sequences find what was computed of this one, and is right."""
        self._prefixes.keep(sequence)

    def release(self, sequence: LiveSequence) -> None:
        """Forgets the sequence and frees its blocks."""
        self._settle(sequence)
        del self._phases[sequence.phase][sequence.key]
        self.blocks.release(sequence.blocks)
        self._held -= 1

    def _settle(self, sequence: LiveSequence) -> None:
        """A prompt waits no more: what of it is not computed was not served."""
        if sequence.phase is Phase.WAITING and sequence.tokens_to_compute > 1:  # 1: the next token
            self._order.withdraw(sequence.tenant, sequence.priority, sequence.tokens_to_compute)

    def find(self, key: SequenceKey) -> LiveSequence | None:
        """The sequence with this key, in whatever phase."""
        return next((found for held in self._phases.values() if (found := held.get(key))), None)

    def waiting(self) -> list[LiveSequence]:
        """Those whose prompt is not computed, the next one first."""
        held = self._phases[Phase.WAITING].values()
        return sorted(held, key=_by_rank)  # stable: equal ranks as they came

    def running(self) -> list[LiveSequence]:
        """Those that decode."""
        return list(self._phases[Phase.RUNNING].values())

    def next_work(self) -> Work:
        """What the engine computes now."""
        waiting, running = self.waiting(), self._phases[Phase.RUNNING]
        step = next_step(
            [sequence.tokens_to_compute for sequence in waiting],
            len(running),
            self._preempted,
            self._batch_tokens,
            self._chunk_tokens,
        )
        self._preempted = self._preempted.after(step, len(running))
        prompts = len(step.prompt_tokens)
        if prompts:
            tenants = len({sequence.tenant for sequence in waiting})
            self._order.served(sum(step.prompt_tokens), tenants)
        decode = step.kind in (StepKind.TOKEN, StepKind.MIXED)
        tokens = tuple(running.values()) if decode else ()
        counts = (*step.prompt_tokens, *(sequence.tokens_to_compute for sequence in tokens))
        return Work(step.kind, (*waiting[:prompts], *tokens), counts, prompts)

    def look(self, now_s: float) -> None:
        """Learns whether what is here is for the worker's own phase alone."""
        decoding = len(self._phases[Phase.RUNNING]) + len(self._phases[Phase.ARRIVING])
        self.duty.look(len(self._phases[Phase.WAITING]), decoding, now_s)

    def computed(self, work: Work, seconds: float) -> None:
        """Learns how long a step has taken."""
        if work.prompts:
            self.prompt_speed.computed(work.prompt_tokens, seconds)
        else:
            self.prompt_speed.decoded(seconds, bool(self._phases[Phase.WAITING]))
        if work.decoding:
            self._decode_limit.stepped(work.decoding, self._since_token_step_s + seconds)
        waited = self._waited_for_a_token(work)
        self._since_token_step_s = self._since_token_step_s + seconds if waited else 0.0

    def _waited_for_a_token(self, work: Work) -> bool:
        """Whether sequences decode that were not part of the step."""
        just_begun = sum([sequence.phase is Phase.RUNNING for sequence in work.sequences])
        return not work.decoding and len(self._phases[Phase.RUNNING]) > just_begun

    @property
    def token_s(self) -> float:
        """What a sequence waits for a token, of late; 0: not known yet."""
        return self._decode_limit.token_s

    def __iter__(self) -> Iterator[LiveSequence]:
        """All sequences; the caller may move and release them meanwhile."""
        return iter([sequence for held in self._phases.values() for sequence in held.values()])

    def __len__(self) -> int:
        """Sequences of all phases. For any thread."""
        return self._held

    @property
    def free_sequences(self) -> int:
        """How many more sequences `admit` could take if there were blocks."""
        by_time = self._decode_limit.sequences - self._to_decode()
        return max(0, min(self._max_sequences - self._held, by_time))

    def _to_decode(self) -> int:
        """Sequences that decode here, now or later."""
        phases = self._phases
        computed_here = sum([not s.hands_over for s in phases[Phase.WAITING].values()])
        return len(phases[Phase.RUNNING]) + len(phases[Phase.ARRIVING]) + computed_here

    def census(self) -> Census:
        """Everything that load and metrics need, in one pass."""
        phases = {
            phase: Tally(
                sequences=len(held),
                tokens=sum([_tokens_of(sequence) for sequence in held.values()]),
                blocks=sum([self._own_blocks(sequence) for sequence in held.values()]),
            )
            for phase, held in self._phases.items()
        }
        pool = self.blocks
        return Census(
            phases,
            pool.num_blocks,
            pool.free_blocks,
            pool.cached_blocks,
            self.free_sequences,
            self._decode_limit.sequences,
        )

    def _own_blocks(self, sequence: LiveSequence) -> int:
        return len(sequence.blocks) - sequence.cached_tokens // self._block_tokens


def _by_rank(sequence: LiveSequence) -> float:
    return sequence.rank


def _tokens_of(sequence: LiveSequence) -> int:
    is_waiting = sequence.phase is Phase.WAITING
    return sequence.tokens_to_compute if is_waiting else sequence.num_tokens
