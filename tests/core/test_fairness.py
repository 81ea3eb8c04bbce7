"""Who is next: fair shares, priorities, first come first served, and nobody starves."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from splitwise_core.policy.fairness import HEAD_START_TOKENS, FairOrder, Priority

LOW, NORMAL, HIGH = Priority


@dataclass
class Waits:
    """A request in the queue."""

    number: int
    tenant: int
    priority: Priority
    tokens: int
    rank: float


class Queue:
    """A queue as worker and router keep theirs: sorted by rank, equal ranks as they came."""

    def __init__(self) -> None:
        self.order = FairOrder()
        self.waiting: list[Waits] = []
        self._came = 0

    def come(self, tenant: int, tokens: int = 100, priority: Priority = NORMAL) -> None:
        rank = self.order.enter(tenant, priority, tokens)
        self.waiting.append(Waits(self._came, tenant, priority, tokens, rank))
        self._came += 1

    def serve(self) -> Waits:
        first = min(self.waiting, key=lambda request: (request.rank, request.number))
        self.order.served(first.tokens, len({request.tenant for request in self.waiting}))
        self.waiting.remove(first)
        return first

    def drain(self) -> Iterator[Waits]:
        while self.waiting:
            yield self.serve()


requests = st.tuples(st.integers(0, 3), st.integers(1, 3000), st.sampled_from(Priority))


@given(st.lists(st.one_of(requests, st.none()), max_size=60))
def test_within_a_client_and_a_priority_first_come_is_first_served(
    events: list[tuple[int, int, Priority] | None],
) -> None:
    queue, served = Queue(), list[Waits]()
    for event in events:
        if event is not None:
            queue.come(*event)
        elif queue.waiting:
            served.append(queue.serve())
    served += queue.drain()
    lines = defaultdict(list)
    for request in served:
        lines[request.tenant, request.priority].append(request.number)
    assert all(numbers == sorted(numbers) for numbers in lines.values())
    assert sum(map(len, lines.values())) == sum(event is not None for event in events)


@given(st.lists(st.integers(2, 5), min_size=1, max_size=4), st.integers(1, 500))
def test_clients_that_all_wait_get_the_same_tokens_whoever_sends_more(
    per_client: list[int], tokens: int
) -> None:
    queue = Queue()
    for tenant, factor in enumerate(per_client):
        for _ in range(20 * factor):
            queue.come(tenant, tokens)
    got = Counter[int]()
    for _ in range(20 * len(per_client)):
        request = queue.serve()
        got[request.tenant] += request.tokens
        assert max(got.values()) - min(got[t] for t in range(len(per_client))) <= tokens


def test_a_client_that_comes_late_does_not_wait_behind_the_pile_of_another() -> None:
    queue = Queue()
    for _ in range(1000):
        queue.come(tenant=1)
    for _ in range(10):
        queue.serve()
    queue.come(tenant=2)
    assert 2 in [queue.serve().tenant for _ in range(3)]


def test_time_in_which_a_client_asked_nothing_is_no_credit() -> None:
    queue = Queue()
    for _ in range(50):
        queue.come(tenant=1)
        queue.serve()
    for _ in range(10):
        queue.come(tenant=1)
        queue.come(tenant=2)
    first = Counter(queue.serve().tenant for _ in range(10))
    assert abs(first[1] - first[2]) <= 1


def test_a_higher_priority_goes_first() -> None:
    queue = Queue()
    for priority in (LOW, NORMAL, HIGH, LOW, HIGH):
        queue.come(1, priority=priority)
    assert [request.priority for request in queue.drain()] == [HIGH, HIGH, NORMAL, LOW, LOW]


@given(st.integers(1, 4), st.integers(100, 4000), st.sampled_from([(NORMAL, LOW), (HIGH, LOW)]))
def test_nobody_starves_whatever_keeps_coming_with_a_higher_priority_or_a_new_key(
    at_once: int, tokens: int, priorities: tuple[Priority, Priority]
) -> None:
    above, below = priorities
    queue = Queue()
    queue.come(0, tokens, below)
    work, fresh = 0, 1
    while True:
        while len(queue.waiting) <= at_once:
            queue.come(fresh, tokens, above)  # each time another client
            fresh += 1
        if queue.serve().tenant == 0:
            break
        work += tokens
        bound = (above - below) * HEAD_START_TOKENS * (at_once + 1) + tokens * (at_once + 1)
        assert work <= bound, "overtaken by more than the head start"


@given(st.integers(1, 2000))
def test_who_leaves_unserved_is_not_charged(tokens: int) -> None:
    order = FairOrder()
    before = order.rank(1, NORMAL)
    order.enter(1, NORMAL, tokens)
    order.withdraw(1, NORMAL, tokens)
    assert order.rank(1, NORMAL) == before


def test_clients_that_are_gone_are_forgotten() -> None:
    queue = Queue()
    for tenant in range(5000):
        queue.come(tenant)
        queue.serve()
    assert len(queue.order._ends) < 300
