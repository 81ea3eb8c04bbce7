"""The workers as the router knows them: their sessions, and where the next request goes."""

import asyncio
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from splitwise_core.policy.routing import FleetView, Reason, Role, place
from splitwise_core.rpc.worker_pb2 import WorkerInfo
from splitwise_router.discovery import Endpoint
from splitwise_router.session import Session

ROLES: Final = {"prompt": Role.PROMPT, "token": Role.TOKEN, "mixed": Role.MIXED}


@dataclass(frozen=True, slots=True)
class Found:
    """Where a request goes. `token` is None when one worker serves both phases."""

    prompt: Session
    token: Session | None


class Fleet:
    """A session for each listed worker. `changed` is called when there may be room again."""

    def __init__(self, model: str, overflow_tokens: int, log: logging.Logger) -> None:
        self.changed: Callable[[], None] = lambda: None
        self._model = model
        self._overflow_tokens = overflow_tokens
        self._log = log
        self._sessions: dict[Endpoint, tuple[Session, asyncio.Task[None]]] = {}

    @property
    def sessions(self) -> list[Session]:
        """One session for each listed worker, open or not."""
        return [session for session, _ in self._sessions.values()]

    def apply(self, endpoints: Collection[Endpoint]) -> None:
        """Opens sessions to new workers and closes those of workers that are gone."""
        for endpoint in self._sessions.keys() - set(endpoints):
            self._sessions.pop(endpoint)[1].cancel()
        for endpoint in sorted(endpoints, key=lambda e: e.pod):  # equal queues: the first pod's
            if endpoint.role not in ROLES:
                fields = {"pod": endpoint.pod, "role": endpoint.role}
                self._log.error("a worker of unknown role is left out", extra={"fields": fields})
            elif endpoint not in self._sessions:
                session = Session(endpoint, self._model, lambda: self.changed(), self._log)
                self._sessions[endpoint] = session, asyncio.create_task(session.run())

    async def close(self) -> None:
        """Closes every session."""
        tasks = [task for _, task in self._sessions.values()]
        self._sessions.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def find(
        self, prompt_tokens: int, max_tokens: int, avoid: Collection[Session] = ()
    ) -> tuple[Found | None, Reason]:
        """The workers for a request, none of them in `avoid`, and why; changes nothing."""
        sessions = [s for s in self.sessions if s.usable and s not in avoid]
        placement = place(_view(sessions), prompt_tokens, max_tokens, self._overflow_tokens)
        if placement.prompt is None:
            return None, placement.reason
        one_worker = placement.token is None or placement.token == placement.prompt
        token = None if one_worker or placement.token is None else sessions[placement.token]
        return Found(sessions[placement.prompt], token), placement.reason

    def not_ready(self) -> str | None:
        """Why no request could be placed even on idle workers; None when one could."""
        roles: dict[Revision, set[str]] = {}
        for session in self.sessions:
            if session.usable and session.info is not None:
                roles.setdefault(_revision(session.info), set()).add(session.endpoint.role)
        lacking = [
            [role for role in ("prompt", "token") if not there & {role, "mixed"}]
            for there in roles.values()
        ]
        missing = min(lacking, key=len, default=["prompt", "token"])
        if not missing:
            return None
        listed = len(self._sessions)
        connected = sum(s.info is not None for s in self.sessions)
        wanted = " and no ".join(f"{role} worker" for role in missing)
        return f"no {wanted} is ready ({listed} workers listed, {connected} connected)"


Revision = tuple[str, bytes]
"""KV moves only between workers in which this is the same."""


def _revision(info: WorkerInfo) -> Revision:
    return info.revision, info.geometry_fingerprint


def _view(sessions: list[Session]) -> FleetView:
    """The fleet in columns.

    What this router has sent counts at once, whether the worker has reported it or not: a queue is
    as long as the longer of the two accounts, and room is the smaller of the two.
    """
    infos = [s.info for s in sessions if s.info is not None]
    claims = [s.claims for s in sessions]
    loads = [s.load for s in sessions]
    numbers: dict[Revision, int] = {}
    return FleetView(
        role=[ROLES[s.endpoint.role] for s in sessions],
        revision=[numbers.setdefault(_revision(i), len(numbers)) for i in infos],
        ready=[True] * len(sessions),
        pending_prompt_tokens=[
            max(load.queued_tokens, c.prompt_tokens) for load, c in zip(loads, claims)
        ],
        pending_tokens=[max(load.running_tokens, c.kv_tokens) for load, c in zip(loads, claims)],
        free_blocks=[
            min(load.free_blocks, i.num_blocks - c.blocks)
            for load, i, c in zip(loads, infos, claims)
        ],
        free_sequences=[
            min(load.free_sequences, i.max_sequences - s.running)
            for load, i, s in zip(loads, infos, sessions)
        ],
        block_tokens=[max(1, i.block_tokens) for i in infos],
    )
