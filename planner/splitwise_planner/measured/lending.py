"""Workers that serve the other pool's phase in virtual time: since when, and until when.

Whom a pool borrows is decided by `policy.routing.place`, when a worker has returned by
`policy.duty.Duty`: workers look at it when they choose a step, and while they wait for work. What
lies between two events is looked at once, when it matters.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from splitwise_core.policy.batching import StepKind
from splitwise_core.policy.duty import Duty
from splitwise_core.policy.fleet import Numbers
from splitwise_core.policy.roles import Role
from splitwise_planner.measured.worker import Job, Worker


@dataclass(frozen=True, slots=True)
class Loan:
    """A worker of the pool of this name, prompt or token, served the other phase too, in seconds
    of the trace."""

    worker: int
    pool: str
    from_s: float
    until_s: float


@dataclass(frozen=True, slots=True)
class Lent:
    """How often workers of a pool were borrowed, and the seconds of all those loans."""

    loans: int
    seconds: float


def lent_by_pool(loans: Iterable[Loan]) -> dict[str, Lent]:
    """What each pool has lent; those that have lent nothing are left out."""
    made: dict[str, Lent] = {}
    for loan in loans:
        before = made.get(loan.pool, Lent(0, 0.0))
        made[loan.pool] = Lent(before.loans + 1, before.seconds + loan.until_s - loan.from_s)
    return made


class Lending:
    """Who is borrowed: by what routers have sent there, or by the worker's own word.

    `borrowed` is that column of the router's view, `duties` are the workers' own. `lent` are the
    workers that need looking at.
    """

    def __init__(self, roles: Sequence[Role], borrowed: Numbers, duties: list[Duty]) -> None:
        self.loans: list[Loan] = []
        self.lent: set[int] = set()
        self._roles = roles
        self._borrowed = borrowed
        self._duties = duties
        self._since_s = [0.0] * len(roles)
        self._claims = [0] * len(roles)  # requests of the other phase

    def claim(self, job: Job) -> None:
        """A request was sent to one worker alone, which may be of another pool than it needs."""
        number, role = job.prompt_worker, self._roles[job.prompt_worker]
        if role is Role.TOKEN or (role is Role.PROMPT and job.token_worker == number):
            job.borrows = True
            self._claims[number] += 1
            self.lent.add(number)
            self._borrowed[number] = True

    def prompt_done(self, job: Job) -> None:
        """A prompt is computed: to decode is what a token worker is there for."""
        if self._roles[job.prompt_worker] is Role.TOKEN:
            self.release(job)

    def release(self, job: Job) -> None:
        """A request needs no borrowed worker any more, if it has one."""
        if job.borrows:
            job.borrows = False
            self._claims[job.prompt_worker] -= 1
            self._note(job.prompt_worker)

    def look(self, number: int, worker: Worker, now_s: float) -> None:
        """A worker looks at what it has before it chooses a step."""
        if not worker.is_dead:
            decoding = len(worker.running) + len(worker.joining)
            self._look(number, len(worker.waiting), decoding, now_s)

    def catch_up(self, number: int, worker: Worker, now_s: float) -> None:
        """What a worker has seen until now since it was looked at last: that it has nothing to do,
        or, at each step, that it only decodes. While it computes prompts it looks at nothing."""
        if worker.stretch is None:
            self._look(number, 0, 0, now_s)
        elif worker.stretch.kind is StepKind.TOKEN:
            self._look(number, 0, len(worker.running), now_s)

    def begin_anew(self, number: int, worker: Worker, now_s: float) -> None:
        """The process of a worker ends, and its loan with it."""
        self.catch_up(number, worker, now_s)
        if self._duties[number].is_borrowed:
            self._end(number, now_s)
        self._duties[number] = Duty(self._roles[number])
        self._note(number)

    def end(self) -> None:
        """Nothing more will happen: those that are borrowed return when their time has come."""
        for number in sorted(self.lent):
            if self._duties[number].is_borrowed:
                self._end(number, self._duties[number].returns_s)

    def _look(self, number: int, prompts: int, decoding: int, now_s: float) -> None:
        duty = self._duties[number]
        was_borrowed = duty.is_borrowed
        duty.look(prompts, decoding, now_s)
        if was_borrowed and not duty.is_borrowed:
            self._end(number, duty.returns_s)
        elif duty.is_borrowed and not was_borrowed:
            self._since_s[number] = now_s
        self._note(number)

    def _end(self, number: int, at_s: float) -> None:
        pool = self._roles[number].name.lower()
        self.loans.append(Loan(number, pool, self._since_s[number], at_s))

    def _note(self, number: int) -> None:
        is_lent = self._claims[number] > 0 or self._duties[number].is_borrowed
        self._borrowed[number] = is_lent
        if not is_lent:
            self.lent.discard(number)
