"""What is known of the links between workers, as placement reads it, by their incarnations.

Kept, not built: a link that is told of changes its own entries, whatever the number of workers.
"""

from collections import Counter

from splitwise_core.policy.link import Link


class KnownLinks:
    """`between[a][b]` is the link from worker `a` to `b`; `failing[a]` are those `b` it fails to.

    `cut_off`: workers that have links, all of which fail, in whichever direction.
    """

    def __init__(self) -> None:
        self.between: dict[int, dict[int, Link]] = {}
        self.failing: dict[int, set[int]] = {}
        self.cut_off: set[int] = set()
        self._working = Counter[int]()  # links from and to a worker
        self._broken = Counter[int]()

    def take(self, prompt: int, token: int, link: Link) -> None:
        """Takes in what is known now of one link."""
        self._drop(prompt, token)
        self.between.setdefault(prompt, {})[token] = link
        if link.failing:
            self.failing.setdefault(prompt, set()).add(token)
        self._count(prompt, token, link, 1)

    def forget(self, worker: int) -> None:
        """Takes out all links of a worker that is gone."""
        for token in list(self.between.get(worker, ())):
            self._drop(worker, token)
        for prompt in self.between:
            self._drop(prompt, worker)
        self.between.pop(worker, None)
        self.failing.pop(worker, None)

    def _drop(self, prompt: int, token: int) -> None:
        link = self.between.get(prompt, {}).pop(token, None)
        if link is not None:
            self.failing.get(prompt, set()).discard(token)
            self._count(prompt, token, link, -1)

    def _count(self, prompt: int, token: int, link: Link, by: int) -> None:
        counts = self._broken if link.failing else self._working
        for worker in (prompt, token):
            counts[worker] += by
            if self._broken[worker] and not self._working[worker]:
                self.cut_off.add(worker)
            else:
                self.cut_off.discard(worker)
            if not counts[worker]:
                del counts[worker]
