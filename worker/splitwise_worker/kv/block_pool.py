"""Which KV blocks are free: ids and reference counts, nothing else."""

from collections.abc import Iterable


class BlockPool:
    """Hands out block ids. A block is free when nothing refers to it."""

    def __init__(self, num_blocks: int) -> None:
        assert num_blocks > 0
        self.num_blocks = num_blocks
        self._references = [0] * num_blocks
        self._free = list(range(num_blocks - 1, -1, -1))  # the warmest block goes out first

    @property
    def free_blocks(self) -> int:
        """Blocks that `allocate` could give now."""
        return len(self._free)

    def can_allocate(self, count: int) -> bool:
        """Whether `count` blocks are free. Changes nothing."""
        return count <= len(self._free)

    def allocate(self, count: int) -> tuple[int, ...]:
        """`count` blocks with one reference each. The caller has asked `can_allocate`."""
        assert self.can_allocate(count), f"{count} blocks asked, {len(self._free)} free"
        blocks = tuple(self._free.pop() for _ in range(count))
        for block in blocks:
            self._references[block] = 1
        return blocks

    def retain(self, blocks: Iterable[int]) -> None:
        """One more reference to each block."""
        for block in blocks:
            assert self._references[block] > 0, f"block {block} is free"
            self._references[block] += 1

    def release(self, blocks: Iterable[int]) -> None:
        """One reference less to each block; the last one frees it."""
        for block in blocks:
            assert self._references[block] > 0, f"block {block} is released twice"
            self._references[block] -= 1
            if self._references[block] == 0:
                self._free.append(block)
