"""The workers as the router knows them: their sessions, and where the next request goes."""

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

from splitwise_core.policy.admission import MAX_QUEUE_S, Speed, backlog_s
from splitwise_core.policy.mixing import FIXED, Disaggregation, Mixing
from splitwise_core.policy.routing import ROLES, Reason, Role, place
from splitwise_core.policy.stages import NO_STAGES
from splitwise_core.rpc import kv_pb2
from splitwise_router.discovery import Endpoint
from splitwise_router.links import Links
from splitwise_router.prefixes import Prefixes
from splitwise_router.session import Revision, Served, Session, revision_of
from splitwise_router.views import fleet_view, link_view, pending, stage_view

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
    ) -> None:
        """`sleeps`: workers come when requests wait for them."""
        self.links = Links(probe_s, log)
        self.prefixes = Prefixes()
        self.changed: Callable[[], None] = lambda: None
        self._served = served
        self._overflow_tokens = overflow_tokens
        self._max_queue_s = max_queue_s
        self._sleeps = sleeps
        self._is_listed = False
        self._mixing = mixing
        self._answers = Speed()  # tokens that were generated, over those that could have been
        self._log = log
        self._sessions: dict[tuple[str, ...], tuple[Session, asyncio.Task[None]]] = {}
        self._leaving: set[tuple[str, ...]] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._strange: frozenset[Endpoint] = frozenset()

    @property
    def sessions(self) -> list[Session]:
        """One session for each worker that is listed or still has work, open or not."""
        return [session for session, _ in self._sessions.values()]

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
            session.leaving = identity in self._leaving
        for endpoint in sorted(known.values(), key=lambda e: e.pod):  # equal queues: the first's
            self._open(endpoint)
        self._news()

    def _open(self, endpoint: Endpoint) -> None:
        if found := self._sessions.get(endpoint.identity):
            found[0].relist(endpoint)
            return
        session = Session(endpoint, self._served, self._news, self._hear, self._log)
        self._sessions[endpoint.identity] = session, asyncio.create_task(session.run())

    def _hear(self, session: Session, links: Sequence[kv_pb2.Link]) -> None:
        self.links.hear(session, links, self.sessions)

    def _news(self) -> None:
        """A worker may have more room, or nothing more to do."""
        for identity in list(self._leaving):
            session, task = self._sessions[identity]
            if session.running == 0:
                self._leaving.remove(identity)
                del self._sessions[identity]
                self._close(task)
        self.changed()

    def _close(self, task: asyncio.Task[None]) -> None:
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        task.cancel()

    async def close(self) -> None:
        """Closes every session."""
        self._leaving.clear()
        for _, task in self._sessions.values():
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
    ) -> tuple[Found | None, Reason]:
        """The workers for a request, none of them in `avoid`, and why; changes nothing.

        With a `revision`, those of that one only. `block_names` are those of its first tokens.
        """
        sessions = [
            s
            for s in self.sessions
            if s.usable and s not in avoid and revision in (None, revision_of(s))
        ]
        view = fleet_view(sessions, self._max_queue_s)
        fixed = self._mixing.disaggregation is Disaggregation.ALWAYS
        stages = NO_STAGES if fixed else stage_view(sessions, self._answers.tokens_per_s or 1.0)
        placement = place(
            view,
            prompt_tokens,
            max_tokens,
            self._overflow_tokens,
            link_view(sessions, self.links),
            self.prefixes.cached(block_names, sessions, prompt_tokens),
            self._mixing,
            stages,
        )
        if placement.prompt is None:
            return None, placement.reason
        one_worker = placement.token is None or placement.token == placement.prompt
        token = None if one_worker or placement.token is None else sessions[placement.token]
        prompt = sessions[placement.prompt]
        changes_role = view.role[placement.prompt] == Role.TOKEN and not view.is_borrowed(
            placement.prompt
        )
        return Found(prompt, token, revision_of(prompt), changes_role), placement.reason

    def answered(self, tokens: int, most_tokens: int) -> None:
        """Learns how long answers are, of what they may be."""
        self._answers.note(tokens, most_tokens)

    def find_peer(self, source: Session, kv_tokens: int, most_left: int) -> Session | None:
        """The worker to go on with a sequence whose KV is at `source`; None where there is no room.

        As for a request whose prompt only `source` could compute: it is as far from each peer.
        """
        peers = [
            s
            for s in self.sessions
            if s.usable and s is not source and s.endpoint.role != "prompt"
            if revision_of(s) == revision_of(source)
        ]
        sessions = [source, *peers]
        view = fleet_view(sessions, self._max_queue_s)
        view = replace(
            view,
            role=[Role.PROMPT, *view.role[1:]],
            pending_prompt_tokens=[0, *view.pending_prompt_tokens[1:]],
            free_blocks=[kv_tokens, *view.free_blocks[1:]],
            free_sequences=[1, *view.free_sequences[1:]],
        )
        links = link_view(sessions, self.links)
        placement = place(view, kv_tokens, most_left, self._overflow_tokens, links)
        return sessions[placement.token] if placement.token else None

    def prompt_pace(self) -> tuple[float, float]:
        """Seconds of prompts queued where it is the least, and tokens a second of all workers.

        Both are 0 as long as there is a worker whose speed is not known.
        """
        every = self._mixing.disaggregation is Disaggregation.NEVER
        prompts = [s for s in self.sessions if s.usable and (every or s.endpoint.role != "token")]
        speeds = [s.load.prompt_tokens_per_s for s in prompts]
        if not all(speeds):
            return 0.0, 0.0
        waits_s = [backlog_s(pending(s), speed) for s, speed in zip(prompts, speeds)]
        return min(waits_s, default=0.0), sum(speeds)

    def lacks_a_phase(self) -> bool:
        """Whether some phase has no worker of whatever revision, nor one that is being met.

        Then waiting is of no use.
        """
        roles = {s.endpoint.role for s in self.sessions if s.usable or s.is_being_met}
        return bool(_missing(roles))

    def why_shut(self) -> str | None:
        """Why no request should come here; None when one could be placed, or held meanwhile."""
        return None if self._sleeps and self._is_listed else self.not_ready()

    def not_ready(self) -> str | None:
        """Why no request could be placed even on idle workers; None when one could."""
        roles: dict[Revision, set[str]] = {}
        for session in self.sessions:
            if session.usable:
                roles.setdefault(revision_of(session), set()).add(session.endpoint.role)
        missing = min(map(_missing, roles.values()), key=len, default=list(PHASES))
        if not missing:
            return None
        wanted = " and no ".join(f"{role} worker" for role in missing)
        others = "" if self.lacks_a_phase() else " of the revision that the others have"
        listed = [session for session in self.sessions if not session.leaving]
        connected = sum(session.info is not None for session in listed)
        counts = [f"{len(listed)} workers listed, {connected} connected"]
        misfits = [f"{s.endpoint.pod} {why}" for s in listed if (why := s.misfit)]
        return f"no {wanted}{others} is ready ({'; '.join(counts + misfits[:3])})"


def _missing(roles: Collection[str]) -> list[str]:
    """The phases that workers of these roles do not serve."""
    return [phase for phase in PHASES if phase not in roles and "mixed" not in roles]
