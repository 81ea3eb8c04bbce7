"""The workers as the router knows them: their sessions, and where the next request goes."""

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from splitwise_core.placement_record import Record, recorded
from splitwise_core.policy.admission import MAX_QUEUE_S, Speed
from splitwise_core.policy.fleet import NOT_READY
from splitwise_core.policy.mixing import FIXED, Disaggregation, Mixing
from splitwise_core.policy.routing import ROLES, Reason, Role, place
from splitwise_core.policy.stages import NO_STAGES
from splitwise_core.rpc import kv_pb2
from splitwise_router.columns import Columns
from splitwise_router.discovery import Endpoint
from splitwise_router.links import Links
from splitwise_router.prefixes import Prefixes
from splitwise_router.session import Revision, Served, Session, revision_of

PHASES: Final = ("prompt", "token")

PROBE_S: Final = 60.0
"""A link that no request uses is measured this often."""


@dataclass(frozen=True, slots=True)
class Found:
    """Where a request goes. `token` is None when one worker serves both phases.

    `changes_role`: the worker is a token worker that had no prompts until now.
    """

    prompt: Session
    token: Session | None
    revision: Revision
    changes_role: bool = False


class Fleet:
    """A session for each worker. `changed` is called when there may be room again.

    A worker that is listed no more keeps its session until its last leg has ended, or its stream
    breaks: what runs there is not cut, and the requests' own deadlines bound it.
    """

    def __init__(
        self,
        served: Served,
        overflow_tokens: int,
        log: logging.Logger,
        probe_s: float = PROBE_S,
        max_queue_s: float = MAX_QUEUE_S,
        sleeps: bool = False,
        mixing: Mixing = FIXED,
        placed: Callable[[str, list[str], Record], None] | None = None,
    ) -> None:
        """`sleeps`: workers come when requests wait for them. `placed` is told of placements."""
        self.links = Links(probe_s, log)
        self.prefixes = Prefixes()
        self.changed: Callable[[], None] = lambda: None
        self._served = served
        self._overflow_tokens = overflow_tokens
        self._columns = Columns(max_queue_s)
        self._sleeps = sleeps
        self._is_listed = False
        self._mixing = mixing
        self._placed = placed
        self._answers = Speed()  # tokens that were generated, over those that could have been
        self._log = log
        self._sessions: dict[tuple[str, ...], tuple[Session, asyncio.Task[None]]] = {}
        self._leaving: set[tuple[str, ...]] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._strange: frozenset[Endpoint] = frozenset()

    @property
    def sessions(self) -> list[Session]:
        """One session for each worker that is listed or still has work, open or not."""
        return list(self._columns.sessions)

    def apply(self, endpoints: Collection[Endpoint]) -> None:
        """Opens sessions to new workers, and lets those that are listed no more end their work."""
        self._is_listed = True
        known = {e.identity: e for e in endpoints if e.role in ROLES}
        strange = frozenset(e for e in endpoints if e.role not in ROLES)
        for endpoint in strange - self._strange:
            fields = {"pod": endpoint.pod, "role": endpoint.role}
            self._log.error("a worker of unknown role is left out", extra={"fields": fields})
        self._strange = strange
        self._leaving = self._sessions.keys() - known.keys()
        for identity, (session, _) in self._sessions.items():
            session.leave(identity in self._leaving)
        for endpoint in sorted(known.values(), key=lambda e: e.pod):  # equal queues: the first's
            self._open(endpoint)
        self._news()

    def _open(self, endpoint: Endpoint) -> None:
        if found := self._sessions.get(endpoint.identity):
            found[0].relist(endpoint)
            return
        note = self._columns.note
        session = Session(endpoint, self._served, self._news, note, self._hear, self._log)
        self._columns.add(session)
        self._sessions[endpoint.identity] = session, asyncio.create_task(session.run())

    def _hear(self, session: Session, links: Sequence[kv_pb2.Link]) -> None:
        revision, at = revision_of(session), self._columns.at
        self.links.hear(session, links, lambda address: at(address, revision))

    def _news(self) -> None:
        """A worker may have more room, or nothing more to do."""
        for identity in list(self._leaving):
            session, task = self._sessions[identity]
            if session.running == 0:
                self._leaving.remove(identity)
                del self._sessions[identity]
                self._columns.remove(session)
                self._close(task)
        self.changed()

    def _close(self, task: asyncio.Task[None]) -> None:
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        task.cancel()

    async def close(self) -> None:
        """Closes every session."""
        self._leaving.clear()
        for session, task in self._sessions.values():
            self._columns.remove(session)
            self._close(task)
        self._sessions.clear()
        await asyncio.gather(*self._closing, return_exceptions=True)

    def find(
        self,
        prompt_tokens: int,
        max_tokens: int,
        avoid: Collection[Session] = (),
        revision: Revision | None = None,
        block_names: Sequence[bytes] = (),
        request_id: str = "",
    ) -> tuple[Found | None, Reason]:
        """The workers for a request, none of them in `avoid`, and why; changes nothing.

        With a `revision`, those of that one only. `block_names` are those of its first tokens.
        """
        columns = self._columns
        view = columns.view(avoid, revision)
        fixed = self._mixing.disaggregation is Disaggregation.ALWAYS
        answer_share = self._answers.tokens_per_s or 1.0
        seen = (
            view,
            prompt_tokens,
            max_tokens,
            self._overflow_tokens,
            columns.links(self.links.known),
            self.prefixes.cached(block_names, columns.rows, prompt_tokens),
            self._mixing,
            NO_STAGES if fixed else columns.stages(view, answer_share),
        )
        placement = place(*seen)
        if placement.prompt is None:
            return None, placement.reason
        if self._placed is not None:
            names = [session.name for session in columns.sessions]
            self._placed(request_id, names, recorded(*seen, placement))
        prompt, token = columns.sessions[placement.prompt], None
        if placement.token is not None and placement.token != placement.prompt:
            token = columns.sessions[placement.token]
        is_borrowed = view.borrowed[placement.prompt]
        changes_role = view.role(placement.prompt) == Role.TOKEN and not is_borrowed
        return Found(prompt, token, revision_of(prompt), changes_role), placement.reason

    def answered(self, tokens: int, most_tokens: int) -> None:
        """Learns how long answers are, of what they may be."""
        self._answers.note(tokens, most_tokens)

    def find_peer(self, source: Session, kv_tokens: int, most_left: int) -> Session | None:
        """The worker to go on with a sequence whose KV is at `source`; None where there is no room.

        As for a request whose prompt only `source` could compute: it is as far from each peer.
        """
        view = self._columns.peers(source, kv_tokens)
        links = self._columns.links(self.links.known)
        placement = place(view, kv_tokens, most_left, self._overflow_tokens, links)
        return None if placement.token is None else self._columns.sessions[placement.token]

    def prompt_pace(self) -> tuple[float, float]:
        """Seconds of prompts queued where it is the least, and tokens a second of all workers.

        Both are 0 as long as there is a worker whose speed is not known.
        """
        columns = self._columns
        some = columns["room_tokens"] > NOT_READY
        if self._mixing.disaggregation is not Disaggregation.NEVER:
            some &= columns["role"] != Role.TOKEN
        speeds = columns["told_tokens_per_s"][some]
        if not len(speeds) or not speeds.all():
            return 0.0, 0.0
        waits_s = columns["pending_prompt_tokens"][some] / speeds
        return float(waits_s.min()), float(speeds.sum())

    def lacks_a_phase(self) -> bool:
        """Whether some phase has no worker of whatever revision, nor one that is being met.

        Then waiting is of no use.
        """
        members = self._columns.members
        roles = {role for revision in members.revisions for role in members.roles(revision)}
        if not _missing(roles):
            return False
        return bool(
            _missing(roles | {ROLES[s.endpoint.role] for s in self.sessions if s.is_being_met})
        )

    def why_shut(self) -> str | None:
        """Why no request should come here; None when one could be placed, or held meanwhile."""
        return None if self._sleeps and self._is_listed else self.not_ready()

    def not_ready(self) -> str | None:
        """Why no request could be placed even on idle workers; None when one could."""
        members = self._columns.members
        by_revision = [_missing(members.roles(revision)) for revision in members.revisions]
        missing = min(by_revision, key=len, default=list(PHASES))
        if not missing:
            return None
        wanted = " and no ".join(f"{role} worker" for role in missing)
        others = "" if self.lacks_a_phase() else " of the revision that the others have"
        listed = [session for session in self.sessions if not session.leaving]
        connected = sum(session.info is not None for session in listed)
        counts = [f"{len(listed)} workers listed, {connected} connected"]
        misfits = [f"{s.endpoint.pod} {why}" for s in listed if (why := s.misfit)]
        return f"no {wanted}{others} is ready ({'; '.join(counts + misfits[:3])})"


def _missing(roles: Collection[int]) -> list[str]:
    """The phases that workers of these roles do not serve."""
    return [phase for phase in PHASES if not {ROLES[phase], Role.MIXED} & set(roles)]
