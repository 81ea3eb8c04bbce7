"""The links between workers as the router knows them, and whom it asks to measure which.

A prompt worker's sidecar measures; every router of the cluster hears what it finds, so that a link
that one has asked for is not due for the others either.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Final

from splitwise_core.policy.link import Link
from splitwise_core.policy.links import PER_PERIOD, to_measure
from splitwise_core.rpc import kv_pb2
from splitwise_router.known_links import KnownLinks
from splitwise_router.session import Revision, Session, revision_of

TICK_S: Final = 1.0
VISITED: Final = 32
"""Prompt workers that are looked at in one tick: a tick of a thousand of them would be felt."""

RETRY_S: Final = 5.0
"""A link that fails, or has no rate yet, is measured again so soon; never two of them at once."""

JITTER: Final = 0.2
"""Part of the period by which a link's next turn may come earlier."""

CUT_OFF_S: Final = 60.0
"""A worker all of whose links fail for longer is told of: its pool is smaller than it looks."""

MAX_NAME: Final = 16
"""Characters of a transport's name."""

OUTCOMES: Final = frozenset(kv_pb2.Outcome.values())
PROMPT_ROLES: Final = ("prompt", "mixed")
TOKEN_ROLES: Final = ("token", "mixed")


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of one link. `at_s`: when it was asked for, or told of."""

    at_s: float = -inf
    link: kv_pb2.Link | None = None

    @property
    def is_settled(self) -> bool:
        """Whether it needs no other measurement soon: it works and has a rate, or nobody knows."""
        link = self.link
        return link is None or (link.outcome == kv_pb2.OK and link.bytes_per_s > 0)


UNHEARD: Final = Record()

Pairs = Iterator[tuple[Session, Session]]


class Links:
    """All links. `known` is what placement reads."""

    def __init__(
        self,
        period_s: float,
        log: logging.Logger,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.known = KnownLinks()
        self.cut_off: list[Session] = []
        self._period_s = period_s
        self._log = log
        self._clock = clock
        self._draw = draw
        self._records: dict[int, dict[int, Record]] = {}
        self._seen = set[int]()  # workers that there are records of
        self._failing_since_s: dict[int, float] = {}
        self._visit = 0

    def record(self, prompt: Session, token: Session) -> Record:
        """What is known of the link between two connected workers."""
        return self._records.get(_number(prompt), {}).get(_number(token), UNHEARD)

    def hear(
        self, prompt: Session, links: Sequence[kv_pb2.Link], find: Callable[[str], Session | None]
    ) -> None:
        """Takes what a worker has told of its links to others that are here.

        `find`: who of its revision has a sidecar at an address.
        """
        for link in links:
            token = find(link.peer)
            if token is not None and token is not prompt:
                self._take(prompt, token, _sane(link))

    def _take(self, prompt: Session, token: Session, link: kv_pb2.Link) -> None:
        fails = link.outcome != kv_pb2.OK
        before = self.record(prompt, token).link
        if fails != (before is not None and before.outcome != kv_pb2.OK):
            fields: dict[str, object] = {"from": prompt.endpoint.pod, "to": token.endpoint.pod}
            if fails:
                why = kv_pb2.Outcome.Name(link.outcome).lower()
                fields |= {"why": why, "detail": link.detail}
                self._log.warning("link fails", extra={"fields": fields})
            else:
                self._log.info("link works again", extra={"fields": fields})
        self._note(prompt, token, self._made(link))
        known = Link(link.latency_s, link.bytes_per_s, fails)
        self.known.take(_number(prompt), _number(token), known)

    def _note(self, prompt: Session, token: Session, record: Record) -> None:
        self._records.setdefault(_number(prompt), {})[_number(token)] = record
        self._seen.update((_number(prompt), _number(token)))

    async def keep_measured(self, sessions: Callable[[], Collection[Session]]) -> None:
        """Has links measured when they are due, for ever."""
        while True:
            self.tick(sessions())
            await asyncio.sleep(TICK_S)

    def tick(self, sessions: Collection[Session]) -> None:
        """Asks some workers to measure what is due, and forgets workers that are gone."""
        self._forget_all_but({_number(s) for s in sessions if s.info is not None})
        prompts, tokens = _sides(sessions)
        for _ in range(min(VISITED, len(prompts))):
            self._visit = (self._visit + 1) % len(prompts)
            prompt = prompts[self._visit]
            others = [t for t in tokens.get(revision_of(prompt), ()) if t is not prompt]
            self._ask(prompt, others, self._visit * PER_PERIOD)
        self._note_cut_off(sessions)

    def _ask(self, prompt: Session, tokens: Sequence[Session], first: int) -> None:
        if not tokens:
            return
        now_s = self._clock()
        known = self._records.get(_number(prompt), {})
        records = [known.get(_number(token), UNHEARD) for token in tokens]
        ages_s = [now_s - record.at_s for record in records]
        unsettled = [not record.is_settled for record in records]
        for index in to_measure(ages_s, unsettled, self._period_s, RETRY_S, first):
            record = self._made(records[index].link)
            self._note(prompt, tokens[index], record)
            max_age_s = (RETRY_S if unsettled[index] else self._period_s) / 2
            prompt.measure(tokens[index], max_age_s)

    def _made(self, link: kv_pb2.Link | None) -> Record:
        """A record of now; one that is settled is a little older, so that turns spread."""
        made = Record(self._clock(), link)
        if not made.is_settled:
            return made
        return replace(made, at_s=made.at_s - self._draw(0.0, JITTER) * self._period_s)

    def _forget_all_but(self, numbers: set[int]) -> None:
        for gone in self._seen - numbers:
            self.known.forget(gone)
            self._records.pop(gone, None)
            for records in self._records.values():
                records.pop(gone, None)
        self._seen &= numbers

    def _note_cut_off(self, sessions: Collection[Session]) -> None:
        """Which workers have had nothing but failing links for a while; said once of each."""
        now_s, since_s = self._clock(), self._failing_since_s
        self._failing_since_s = {n: since_s.get(n, now_s) for n in self.known.cut_off}
        before, self.cut_off = self.cut_off, []
        for session in sessions if self._failing_since_s else ():
            since = self._failing_since_s.get(_number(session), inf)
            if session.info is None or now_s - since < CUT_OFF_S:
                continue
            self.cut_off.append(session)
            if session not in before:
                fields = {"pod": session.endpoint.pod, "seconds": int(now_s - since)}
                self._log.error("no KV passes to or from a worker", extra={"fields": fields})


def pairs(sessions: Collection[Session]) -> Pairs:
    """Every prompt worker with every token worker that it may hand KV to."""
    prompts, tokens = _sides(sessions)
    for prompt in prompts:
        for token in tokens.get(revision_of(prompt), ()):
            if token is not prompt:
                yield prompt, token


def _sides(sessions: Collection[Session]) -> tuple[list[Session], dict[Revision, list[Session]]]:
    """Usable prompt workers, and usable token workers by revision, each in order of their names."""
    usable = sorted((s for s in sessions if s.usable), key=lambda s: s.endpoint.pod)
    tokens: dict[Revision, list[Session]] = {}
    for session in usable:
        if session.endpoint.role in TOKEN_ROLES:
            tokens.setdefault(revision_of(session), []).append(session)
    return [s for s in usable if s.endpoint.role in PROMPT_ROLES], tokens


def _sane(link: kv_pb2.Link) -> kv_pb2.Link:
    """What a worker has said, as far as it can be."""
    made = kv_pb2.Link()
    made.CopyFrom(link)
    if link.outcome not in OUTCOMES:
        made.outcome = kv_pb2.FAILED
    made.transport = link.transport[:MAX_NAME]
    made.latency_s = link.latency_s if 0 <= link.latency_s < inf else 0.0
    made.bytes_per_s = link.bytes_per_s if 0 <= link.bytes_per_s < inf else 0.0
    made.measured_unix_ms = max(0, min(link.measured_unix_ms, int(time.time() * 1000)))
    return made


def _number(session: Session) -> int:
    return session.info.incarnation if session.info is not None else 0
