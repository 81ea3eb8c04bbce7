"""Blocks are neither lost nor given out twice, and found by their names as long as they last."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from splitwise_core.policy.block_pool import BlockPool

TOTAL = 12
NAMES = [bytes([number]) for number in range(5)]


class BlockPoolMachine(RuleBasedStateMachine):
    """Any order of allocate, retain, name and release keeps the books straight."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(TOTAL)
        self.held: list[tuple[int, ...]] = []
        self.named: dict[bytes, int] = {}

    @property
    def in_use(self) -> set[int]:
        return {block for held in self.held for block in held}

    @rule(count=st.integers(1, TOTAL))
    def allocate(self, count: int) -> None:
        if self.pool.can_allocate(count):
            blocks = self.pool.allocate(count)
            assert len(set(blocks)) == count
            assert not self.in_use & set(blocks), "INV-5: a block was given out twice"
            self.held.append(blocks)
            self.named = {n: block for n, block in self.named.items() if block not in blocks}

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

    @rule(data=st.data(), name=st.sampled_from(NAMES))
    def name(self, data: st.DataObject, name: bytes) -> None:
        if self.held:
            blocks = data.draw(st.sampled_from(self.held))
            self.pool.name(blocks[:1], [name])
            if blocks[0] not in self.named.values():
                self.named.setdefault(name, blocks[0])

    @rule(name=st.sampled_from(NAMES))
    def take_what_has_a_name(self, name: bytes) -> None:
        if found := self.pool.find([name]):
            self.pool.retain(found)
            self.held.append(found)

    @invariant()
    def every_block_is_free_or_held(self) -> None:
        assert self.pool.free_blocks + len(self.in_use) == TOTAL

    @invariant()
    def a_name_means_the_block_that_was_given_it(self) -> None:
        for name in NAMES:
            known = (self.named[name],) if name in self.named else ()
            assert self.pool.find([name]) == known

    @invariant()
    def what_is_cached_is_free_and_has_a_name(self) -> None:
        assert self.pool.cached_blocks == len(set(self.named.values()) - self.in_use)


TestBlockPool = BlockPoolMachine.TestCase
TestBlockPool.settings = settings(max_examples=60, stateful_step_count=40)


def test_a_block_that_is_free_cannot_be_released() -> None:
    pool = BlockPool(2)
    blocks = pool.allocate(1)
    pool.release(blocks)
    with pytest.raises(AssertionError, match="released twice"):
        pool.release(blocks)


def named(pool: BlockPool, *names: bytes) -> tuple[int, ...]:
    """A sequence of full blocks with these names, that has come and gone."""
    blocks = pool.allocate(len(names))
    pool.name(blocks, names)
    pool.release(blocks)
    return blocks


def test_the_oldest_goes_first_and_the_end_of_a_prefix_before_its_beginning() -> None:
    pool = BlockPool(5)
    named(pool, b"a1", b"a2")
    named(pool, b"b1", b"b2")
    pool.retain(used := pool.find([b"a1", b"a2"]))
    pool.release(used)
    pool.allocate(1)  # the one that has never had a name
    assert pool.evicted == 0
    lost = []
    for _ in range(4):
        before = {name for name in (b"a1", b"a2", b"b1", b"b2") if pool.find([name])}
        pool.allocate(1)
        lost += [name for name in before if not pool.find([name])]
    assert lost == [b"b2", b"b1", b"a2", b"a1"]
    assert (pool.evicted, pool.cached_blocks) == (4, 0)


def test_what_is_in_use_is_never_taken_from_its_readers() -> None:
    pool = BlockPool(2)
    named(pool, b"a1", b"a2")
    pool.retain(pool.find([b"a1"]))
    assert pool.allocate(1)
    assert not pool.can_allocate(1)
    assert pool.find([b"a1", b"a2"]) == pool.find([b"a1"]) != ()


def test_a_claim_shares_the_beginning_that_is_here_and_takes_the_rest() -> None:
    pool = BlockPool(4)
    kept = named(pool, b"a1", b"a2")
    blocks, found = pool.claim(3, [b"a1", b"a2", b"a3"]) or ((), 0)
    assert (blocks[:2], found, len(blocks)) == (kept, 2, 3)


def test_a_claim_without_room_changes_nothing() -> None:
    pool = BlockPool(3)
    named(pool, b"a1")
    pool.allocate(1)
    assert pool.claim(4, [b"a1"]) is None
    assert (pool.free_blocks, pool.cached_blocks, pool.evicted) == (2, 1, 0)
