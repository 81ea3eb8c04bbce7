"""Blocks are neither lost nor given out twice."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from splitwise_worker.kv.block_pool import BlockPool

TOTAL = 12


class BlockPoolMachine(RuleBasedStateMachine):
    """Any order of allocate, retain and release keeps the books straight."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(TOTAL)
        self.held: list[tuple[int, ...]] = []

    @rule(count=st.integers(1, TOTAL))
    def allocate(self, count: int) -> None:
        if self.pool.can_allocate(count):
            blocks = self.pool.allocate(count)
            in_use = {block for held in self.held for block in held}
            assert len(set(blocks)) == count
            assert not in_use & set(blocks), "a block was given out twice"
            self.held.append(blocks)

    @rule(data=st.data())
    def retain(self, data: st.DataObject) -> None:
        if self.held:
            blocks = data.draw(st.sampled_from(self.held))
            self.pool.retain(blocks)
            self.held.append(blocks)

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        if self.held:
            index = data.draw(st.integers(0, len(self.held) - 1))
            self.pool.release(self.held.pop(index))

    @invariant()
    def every_block_is_free_or_held(self) -> None:
        in_use = {block for held in self.held for block in held}
        assert self.pool.free_blocks + len(in_use) == TOTAL


TestBlockPool = BlockPoolMachine.TestCase
TestBlockPool.settings = settings(max_examples=40, stateful_step_count=40)


def test_a_block_that_is_free_cannot_be_released() -> None:
    pool = BlockPool(2)
    blocks = pool.allocate(1)
    pool.release(blocks)
    with pytest.raises(AssertionError, match="released twice"):
        pool.release(blocks)
