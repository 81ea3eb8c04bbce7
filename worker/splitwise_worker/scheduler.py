"""Machine-level bookkeeping: which sequences are here, in which phase, and which blocks they hold.

The rule that picks the next step is `core.policy.batching`; this class only feeds it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from splitwise_core.policy.batching import PROMPT_BATCH_TOKENS, StepKind, next_step
from splitwise_worker.kv.block_pool import BlockPool
from splitwise_worker.sequence import LiveSequence, Phase, SequenceKey


@dataclass(frozen=True, slots=True)
class Work:
    """What a step computes: prompts or one token each of `sequences`."""

    kind: StepKind
    sequences: tuple[LiveSequence, ...]


@dataclass(frozen=True, slots=True)
class Tally:
    """What is in one phase."""

    sequences: int
    tokens: int  # of prompts and outputs
    blocks: int


@dataclass(frozen=True, slots=True)
class Census:
    """Who is here and what is free, counted at one moment: safe to read from any thread."""

    phases: Mapping[Phase, Tally]
    free_blocks: int
    free_sequences: int


class Scheduler:
    """Every sequence from admission to release, in order of arrival within its phase."""

    def __init__(
        self,
        blocks: BlockPool,
        block_tokens: int,
        max_sequences: int,
        batch_tokens: int = PROMPT_BATCH_TOKENS,
    ) -> None:
        self.blocks = blocks
        self._block_tokens = block_tokens
        self._max_sequences = max_sequences
        self._batch_tokens = batch_tokens
        self._phases: dict[Phase, dict[SequenceKey, LiveSequence]] = {p: {} for p in Phase}
        self._prompt_steps = 0
        self._held = 0  # all phases together: `len` is asked from other threads, amid a move

    def admit(self, sequence: LiveSequence, tokens: int) -> bool:
        """Takes the sequence in with blocks for `tokens` tokens; False when there is no room."""
        need = -(-tokens // self._block_tokens)
        if self.free_sequences == 0 or not self.blocks.can_allocate(need):
            return False
        sequence.blocks = self.blocks.allocate(need)
        self._held += 1
        self._phases[sequence.phase][sequence.key] = sequence
        return True

    def move(self, sequence: LiveSequence, phase: Phase) -> None:
        """Puts the sequence behind the others of its new phase."""
        del self._phases[sequence.phase][sequence.key]
        sequence.phase = phase
        self._phases[phase][sequence.key] = sequence

    def release(self, sequence: LiveSequence) -> None:
        """Forgets the sequence and frees its blocks."""
        del self._phases[sequence.phase][sequence.key]
        self.blocks.release(sequence.blocks)
        self._held -= 1

    def find(self, key: SequenceKey) -> LiveSequence | None:
        """The sequence with this key, in whatever phase."""
        return next((found for held in self._phases.values() if (found := held.get(key))), None)

    def next_work(self) -> Work:
        """What the engine computes now."""
        waiting, running = self._phases[Phase.WAITING], self._phases[Phase.RUNNING]
        step = next_step(
            [sequence.num_tokens for sequence in waiting.values()],
            len(running),
            self._prompt_steps,
            self._batch_tokens,
        )
        if step.kind is StepKind.PROMPT:
            self._prompt_steps += 1
            return Work(step.kind, tuple(waiting.values())[: step.prompts])
        self._prompt_steps = 0
        return Work(step.kind, tuple(running.values()) if step.kind is StepKind.TOKEN else ())

    def __iter__(self) -> Iterator[LiveSequence]:
        """All sequences; the caller may move and release them meanwhile."""
        return iter([sequence for held in self._phases.values() for sequence in held.values()])

    def __len__(self) -> int:
        """Sequences of all phases. For any thread."""
        return self._held

    @property
    def free_sequences(self) -> int:
        """How many more sequences `admit` could take if there were blocks."""
        return self._max_sequences - self._held

    def census(self) -> Census:
        """Everything that load and metrics need, in one pass."""
        phases = {
            phase: Tally(
                sequences=len(held),
                tokens=sum([sequence.num_tokens for sequence in held.values()]),
                blocks=sum([len(sequence.blocks) for sequence in held.values()]),
            )
            for phase, held in self._phases.items()
        }
        return Census(phases, self.blocks.free_blocks, self.free_sequences)
