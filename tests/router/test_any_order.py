"""Whatever comes in whatever order, the router places each request once and forgets none.

Sessions without a network: requests come, hang up and end, workers drain, report and are lost.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from splitwise_core.metric import Component
from splitwise_core.policy.fairness import Priority
from splitwise_core.policy.mixing import Mixing
from splitwise_core.rpc.worker_pb2 import FromWorker, Load, Sampling, WorkerInfo
from splitwise_core.telemetry import Telemetry
from splitwise_router.admission import Admission
from splitwise_router.api.errors import ApiError
from splitwise_router.attempt import Attempt
from splitwise_router.caller import Caller
from splitwise_router.discovery import Endpoint
from splitwise_router.fleet import Fleet
from splitwise_router.generation import Generation
from splitwise_router.minting import no_capability
from splitwise_router.session import Served, Session

ROLES = ("prompt", "token", "mixed")
BLOCKS, SEQUENCES, BLOCK_TOKENS = 5, 2, 16
"""Room for a request of any size here, and seldom for three."""

MOST_QUEUED = 6
PATIENCE_S = 600.0

TOLD = ("no_capacity", "no_workers")
"""What one is told that cannot be served: too many wait, or all workers of a phase drain."""

DID = st.sampled_from([*["come"] * 6, *["end"] * 3, *["report"] * 3, "hang up", "drain", "lose"])
EVENT = st.tuples(DID, st.integers(0, 99), st.sampled_from(Priority))
EVENTS = st.lists(EVENT, min_size=10, max_size=80)


async def _open(session: Session) -> None:
    """In place of a session's stream."""
    await asyncio.Event().wait()


@dataclass
class Crowd:
    """The requests so far, and the workers that are asked to serve them."""

    borrowing: bool
    asked: list[tuple[Generation, asyncio.Task[Attempt]]] = field(default_factory=list)
    over: set[int] = field(default_factory=set)  # requests whose attempt has ended

    def __post_init__(self) -> None:
        log = logging.Logger("test", logging.CRITICAL)
        mixing = Mixing(self.borrowing)
        self.fleet = Fleet(Served("echo", b""), 64, log, max_queue_s=PATIENCE_S, mixing=mixing)
        telemetry = Telemetry(Component.ROUTER)
        self.admission = Admission(self.fleet, MOST_QUEUED, PATIENCE_S, telemetry, no_capability)
        self.fleet.apply([Endpoint("", f"w{n}", role, role) for n, role in enumerate(ROLES)])
        for session in self.fleet.sessions:
            self.report(session, is_new=True)

    def report(self, session: Session, is_new: bool = False, draining: bool = False) -> None:
        """A worker says what its books say: what it has of this router."""
        load = Load(
            ready=True,
            draining=draining,
            free_blocks=BLOCKS - session.claims.blocks,
            free_sequences=SEQUENCES - session.running,
            sequences=session.running,
        )
        info = WorkerInfo(
            worker_id=session.endpoint.pod,
            model="echo",
            num_blocks=BLOCKS,
            max_sequences=SEQUENCES,
            block_tokens=BLOCK_TOKENS,
        )
        session._receive(FromWorker(info=info if is_new else None, load=load))

    def come(self, number: int, priority: Priority) -> None:
        """Another request, of a size that follows from its number."""
        tokens = 1 + 7 * number % 50
        sampling = Sampling(max_tokens=1 + 5 * number % 30)
        caller = Caller(number % 3, priority)
        made = Generation(str(len(self.asked)), [1] * tokens, sampling, 0.0, caller)
        self.asked.append((made, asyncio.create_task(self.admission.start(made))))

    def running(self) -> list[tuple[int, Attempt]]:
        """Requests that were placed and have not ended, by their numbers."""
        done = ((n, task) for n, (_, task) in enumerate(self.asked) if task.done())
        fine = ((n, t) for n, t in done if not t.cancelled() and t.exception() is None)
        return [(n, task.result()) for n, task in fine if n not in self.over]

    def end(self, number: int) -> None:
        """One of those that run has had its last token."""
        if running := self.running():
            index, attempt = running[number % len(running)]
            self.over.add(index)
            attempt.end()

    def hang_up(self, number: int) -> None:
        """One of those that wait, or that was placed in this moment."""
        if waiting := [task for _, task in self.asked if not task.done()]:
            waiting[number % len(waiting)].cancel()

    def worker(self, number: int) -> Session:
        return self.fleet.sessions[number % len(ROLES)]

    async def does(self, what: str, number: int, priority: Priority) -> None:
        """One event, and what follows from it."""
        if what == "come":
            self.come(number, priority)
        elif what == "end":
            self.end(number)
        elif what == "hang up":
            self.hang_up(number)
        elif what == "lose":
            self.worker(number)._lose("test")
            self.report(self.worker(number), is_new=True)
        else:
            self.report(self.worker(number), draining=what == "drain")
        await self.settle()

    async def settle(self) -> None:
        """All that is to happen now has happened."""
        for _ in range(5):
            await asyncio.sleep(0)

    def check(self) -> None:
        """No request is at two places, and no worker has more than it has room for."""
        legs = Counter(
            (leg.sequence, session.endpoint.pod)
            for session in self.fleet.sessions
            for leg in session._legs.values()
        )
        assert all(count == 1 for count in legs.values())
        attempts = Counter(sequence for sequence, _ in legs)
        assert all(count <= 2 for count in attempts.values()), "a worker for each phase"
        assert len(attempts) <= len(self.running()), "one attempt for each that runs"
        for session in self.fleet.sessions:
            assert session.claims.blocks <= BLOCKS
            assert session.running <= SEQUENCES

    async def end_all(self) -> None:
        """Every worker is well, and all that runs ends, until nothing runs."""
        is_over = False
        while not is_over:
            self.end(0)
            for session in self.fleet.sessions:
                self.report(session)
            await self.settle()
            self.check()
            is_over = not self.running()


@settings(max_examples=60, deadline=None)
@given(EVENTS, st.booleans())
def test_each_request_is_placed_once_or_told_why_not_and_leaves_nothing(
    events: Sequence[tuple[str, int, Priority]], borrowing: bool
) -> None:
    """No double placement, and no starvation: INV-1, INV-4, INV-7."""

    async def go() -> None:
        crowd = Crowd(borrowing)
        for event in events:
            await crowd.does(*event)
            crowd.check()
        await crowd.end_all()
        assert all(task.done() for _, task in crowd.asked), "nobody waits while all are idle"
        for _, task in crowd.asked:
            refused = None if task.cancelled() else task.exception()
            assert refused is None or (isinstance(refused, ApiError) and refused.code in TOLD)
        for session in crowd.fleet.sessions:
            assert session.running == 0
            claims = session.claims
            assert (claims.blocks, claims.prompt_tokens, claims.kv_tokens) == (0, 0, 0)
        assert crowd.admission.waiting()["requests"] == 0
        await crowd.fleet.close()

    with patch.object(Session, "run", _open):
        asyncio.run(go())
