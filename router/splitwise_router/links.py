"""The links between workers as the router knows them, and whom it asks to measure which.

A prompt worker's sidecar measures; every router of the cluster hears what it finds, so that a link
that one has asked for is not due for the others either.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from math import inf
from typing import Final

from splitwise_core.policy.link import Link
from splitwise_core.policy.link_turns import PER_PERIOD, LinkTurns
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


Numbered = dict[int, Session]
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
        self._links: dict[int, dict[int, kv_pb2.Link]] = {}  # by prompt and token worker
        self._turns: dict[int, LinkTurns] = {}  # by prompt worker
        self._seen = set[int]()  # workers that something is known of
        self._failing_since_s: dict[int, float] = {}
        self._visit = 0

    def link(self, prompt: Session, token: Session) -> kv_pb2.Link | None:
        """What was told last of the link between two connected workers; None when nothing was."""
        return self._links.get(_number(prompt), {}).get(_number(token))

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
        before = self.link(prompt, token)
        if fails != (before is not None and before.outcome != kv_pb2.OK):
            fields: dict[str, object] = {"from": prompt.endpoint.pod, "to": token.endpoint.pod}
            if fails:
                why = kv_pb2.Outcome.Name(link.outcome).lower()
                fields |= {"why": why, "detail": link.detail}
                self._log.warning("link fails", extra={"fields": fields})
            else:
                self._log.info("link works again", extra={"fields": fields})
        self._links.setdefault(_number(prompt), {})[_number(token)] = link
        self._note(prompt, token)
        known = Link(link.latency_s, link.bytes_per_s, fails)
        self.known.take(_number(prompt), _number(token), known)

    def _note(self, prompt: Session, token: Session) -> None:
        """A link was told of or asked for now, or a little earlier if it is settled: turns spread.

        It is settled when it works and has a rate, or nobody knows.
        """
        link, at_s = self.link(prompt, token), self._clock()
        is_settled = link is None or (link.outcome == kv_pb2.OK and link.bytes_per_s > 0)
        if is_settled:
            at_s -= self._draw(0.0, JITTER) * self._period_s
        self._turns_of(prompt).note(_number(token), at_s, is_settled)
        self._seen.add(_number(token))

    def _turns_of(self, prompt: Session) -> LinkTurns:
        """Those of a prompt worker; each begins with other token workers."""
        number = _number(prompt)
        if number not in self._turns:
            self._turns[number] = LinkTurns(number, len(self._turns) * PER_PERIOD)
            self._seen.add(number)
        return self._turns[number]

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
            self._ask(prompt, tokens.get(revision_of(prompt), {}))
        self._note_cut_off(sessions)

    def _ask(self, prompt: Session, tokens: Numbered) -> None:
        turns, now_s = self._turns_of(prompt), self._clock()
        for number in turns.due(tokens, now_s, self._period_s, RETRY_S):
            max_age_s = (RETRY_S if turns.is_unsettled(number) else self._period_s) / 2
            self._note(prompt, tokens[number])
            prompt.measure(tokens[number], max_age_s)

    def _forget_all_but(self, numbers: set[int]) -> None:
        for gone in self._seen - numbers:
            self.known.forget(gone)
            self._links.pop(gone, None)
            self._turns.pop(gone, None)
            for links in self._links.values():
                links.pop(gone, None)
            for turns in self._turns.values():
                turns.forget(gone)
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
        for token in tokens.get(revision_of(prompt), {}).values():
            if token is not prompt:
                yield prompt, token


def _sides(sessions: Collection[Session]) -> tuple[list[Session], dict[Revision, Numbered]]:
    """Usable prompt workers, and usable token workers by revision, each in order of their names."""
    usable = sorted((s for s in sessions if s.usable), key=lambda s: s.endpoint.pod)
    tokens: dict[Revision, Numbered] = {}
    for session in usable:
        if session.endpoint.role in TOKEN_ROLES:
            tokens.setdefault(revision_of(session), {})[_number(session)] = session
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
