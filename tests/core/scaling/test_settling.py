"""A pool that has grown keeps its workers while the load that it grew for may come back."""

from dataclasses import dataclass, field, replace

import pytest

from splitwise_core.policy.scaling import Counts, Pool, State, decide, observe
from splitwise_core.policy.scaling.law import LONG, PATIENCE
from tests.core.scaling.world import LOOK_S, PROMPT, prompts

LAW = replace(PROMPT, down_window_s=60.0)
CALM, PEAK = (0.4, 0.0), (1.6, 2.0)
"""Workers' work that comes, and seconds of it that wait."""


@dataclass
class Watched:
    """A prompt pool that is looked at every two seconds; its workers are there at once."""

    workers: int = 1
    now_s: float = 0.0
    state: State = field(default_factory=State)

    def meets(self, load: tuple[float, float], seconds: float) -> int:
        """How many workers it has when a load has lasted for so long."""
        for _ in range(round(seconds / LOOK_S)):
            self.now_s += LOOK_S
            counts = Counts(self.workers, self.workers)
            said = prompts(self.workers, *load, self.now_s)
            state = observe(self.state, LAW, counts, said, self.now_s)
            pools = {"p": Pool(counts, LAW.role, LAW, state)}
            made, self.state = decide(pools, None, 0, self.now_s)["p"]
            self.workers = made.replicas
        return self.workers

    def windows(self) -> int:
        """In which window of calm it becomes smaller."""
        before, count = self.workers, 1
        while self.meets(CALM, LAW.down_window_s) == before:
            count += 1
            assert count < 200
        return count


@pytest.fixture
def pool() -> Watched:
    return Watched()


def test_after_a_peak_of_a_load_that_stays_it_waits_for_ten_windows(pool: Watched) -> None:
    assert pool.meets(CALM, 60) == 1
    assert pool.meets(PEAK, 4) == 2
    assert pool.windows() == LONG


def test_when_the_load_that_it_grew_for_has_gone_it_waits_for_no_more_than_one(
    pool: Watched,
) -> None:
    assert pool.meets(PEAK, 120) > 2
    assert pool.windows() == 2, "half a minute has to pass before it is known"


def test_when_it_was_smaller_in_vain_it_waits_for_longer(pool: Watched) -> None:
    pool.meets(CALM, 60)
    pool.meets(PEAK, 4)
    pool.windows()
    assert pool.meets(PEAK, 4) == 2, "at once, as ever"
    assert pool.windows() == PATIENCE * LONG


def test_and_forgets_that_when_the_load_has_gone(pool: Watched) -> None:
    pool.meets(CALM, 60)
    for _ in range(2):
        pool.meets(PEAK, 4)
        pool.windows()
    assert pool.meets(PEAK, 120) > 2
    assert pool.windows() == 2
    pool.meets(CALM, 20 * LAW.down_window_s)
    assert pool.workers == 1
    assert pool.meets(PEAK, 4) == 2
    assert pool.windows() == LONG
