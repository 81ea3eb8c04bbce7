"""Which KV blocks are free, and what stands in them: ids, references and names, nothing else.

Workers keep their memory by it, and simulated ones theirs. Names are those of `core.prefix` there,
here whatever is the same for the same beginning of a prompt.
"""

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Sequence


class BlockPool:
    """Hands out block ids. A block is free when nothing refers to it.

    A block that has a name is read by whoever has it, and written by nobody. When it becomes free
    it can still be found, until its memory is needed: of those, the one that has been free for the
    longest goes first, and any free block without a name before it.
    """

    def __init__(self, num_blocks: int) -> None:
        assert num_blocks > 0
        self.num_blocks = num_blocks
        self.evicted = 0  # named blocks that were given to somebody else, in all
        self._references = [0] * num_blocks
        self._free = list(range(num_blocks - 1, -1, -1))  # the warmest block goes out first
        self._cached: OrderedDict[int, None] = OrderedDict()  # free and named, oldest first
        self._name: list[Hashable | None] = [None] * num_blocks
        self._block: dict[Hashable, int] = {}

    @property
    def free_blocks(self) -> int:
        """Blocks that `allocate` could give now, those that are cached counted in."""
        return len(self._free) + len(self._cached)

    @property
    def cached_blocks(self) -> int:
        """Free blocks that can still be found by their names."""
        return len(self._cached)

    def can_allocate(self, count: int) -> bool:
        """Whether `count` blocks are free. Changes nothing."""
        return count <= self.free_blocks

    def allocate(self, count: int) -> tuple[int, ...]:
        """`count` blocks with one reference each. The caller has asked `can_allocate`."""
        assert self.can_allocate(count), f"{count} blocks asked, {self.free_blocks} free"
        unnamed = min(count, len(self._free))
        blocks = [self._free.pop() for _ in range(unnamed)] + self._evict(count - unnamed)
        for block in blocks:
            self._references[block] = 1
        return tuple(blocks)

    def claim(self, count: int, names: Iterable[Hashable]) -> tuple[tuple[int, ...], int] | None:
        """`count` blocks, and how many of them, the first, are those of the first names that are
        here. None without room, and nothing has changed then."""
        found = self.find(names)
        self.retain(found)
        missing = count - len(found)
        if not self.can_allocate(missing):
            self.release(found)
            return None
        return found + self.allocate(missing), len(found)

    def retain(self, blocks: Iterable[int]) -> None:
        """One more reference to each block, which is in use or cached."""
        for block in blocks:
            if self._references[block] == 0:
                assert block in self._cached, f"block {block} is free"
                del self._cached[block]
            self._references[block] += 1

    def release(self, blocks: Sequence[int]) -> None:
        """One reference less to each block; the last one frees it.

        The later a block stands in a sequence, the fewer others it can serve: it goes first.
        """
        references, names, cached = self._references, self._name, self._cached
        for block in reversed(blocks):
            left = references[block] - 1
            assert left >= 0, f"block {block} is released twice"
            references[block] = left
            if left == 0:
                if names[block] is None:
                    self._free.append(block)
                else:
                    cached[block] = None

    def find(self, names: Iterable[Hashable]) -> tuple[int, ...]:
        """The blocks of the first names, up to the first that is not here. Changes nothing."""
        found = []
        for name in names:
            if (block := self._block.get(name)) is None:
                break
            found.append(block)
        return tuple(found)

    def name(self, blocks: Iterable[int], names: Iterable[Hashable]) -> None:
        """Lets these blocks, which are in use and full, be found. A name is one block's alone."""
        references, named, found = self._references, self._name, self._block
        for block, name in zip(blocks, names, strict=False):
            assert references[block] > 0, f"block {block} is free"
            if named[block] is None and name not in found:
                named[block] = name
                found[name] = block

    def _evict(self, count: int) -> list[int]:
        """The memory of so many cached blocks, of those that were not used for the longest."""
        cached, named, found = self._cached, self._name, self._block
        blocks = [cached.popitem(last=False)[0] for _ in range(count)]
        for block in blocks:
            name = named[block]
            assert name is not None
            del found[name]
            named[block] = None
        self.evicted += count
        return blocks
