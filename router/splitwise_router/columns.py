"""The fleet's sessions as the columns that the placement policy reads.

Kept, not built: a session's row is written when something is other than before, so that a request
that comes to a thousand workers finds them in columns already.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any, Final

import numpy as np

from splitwise_core.policy.admission import is_committed
from splitwise_core.policy.fleet import NOT_READY, NOWHERE, FleetView, Members, Numbers
from splitwise_core.policy.links import LinkView
from splitwise_core.policy.roles import ROLES, Role
from splitwise_core.policy.stages import StageView, stage_view
from splitwise_router.known_links import KnownLinks
from splitwise_router.session import Revision, Session, revision_of

KINDS: Final[Mapping[str, type]] = {
    "role": np.int8,
    "revision": np.int64,  # NOWHERE where the worker is to get nothing
    "pending_prompt_tokens": np.int64,
    "pending_tokens": np.int64,
    "room_tokens": np.int64,
    "borrowed": np.bool_,
    "number": np.uint64,
    "prompt_tokens_per_s": np.float64,  # by this router's clock; a speed of 0 is not known
    "told_tokens_per_s": np.float64,  # by the worker's
    "speed": np.float64,  # the worker's, or this router's
    "step_base_s": np.float64,
    "step_slope_s": np.float64,
    "decoding": np.int64,
    "prompt_share": np.float64,
}
"""The columns, one row a session. See the fields of the policy's views."""


OF_MEMBERS: Final = ("role", "revision", "number")
"""A worker that another process has become is another member."""


class Columns:
    """Sessions and their rows, in the order in which they were added."""

    def __init__(self, max_queue_s: float) -> None:
        """`max_queue_s`: for how long a request may wait; see `policy.admission.is_committed`."""
        self.sessions: list[Session] = []
        self._max_queue_s = max_queue_s
        self._rows: dict[Session, int] = {}
        self._revisions: dict[Revision, int] = {}
        self._numbers = count()
        self._table: dict[str, Numbers] = {name: np.empty(0, kind) for name, kind in KINDS.items()}
        self._last: list[dict[str, Any]] = []  # the rows, as they were written
        self._members: Members | None = None
        self._kv: tuple[int, int] | None = None  # bytes of a token, and layers
        self._at: dict[tuple[str, Revision], Session] | None = None  # by sidecars' addresses
        self._rows_of: dict[int, list[int]] | None = None  # by incarnations

    def __getitem__(self, name: str) -> Numbers:
        """A column of `KINDS`, to be read only."""
        return self._table[name]

    @property
    def members(self) -> Members:
        """The workers that may get work."""
        if self._members is None:
            self._members = Members(self["role"].copy(), self["revision"].copy())
        return self._members

    @property
    def rows(self) -> Mapping[int, Sequence[int]]:
        """Rows by their `number`: mostly one, and those of all that have not connected by 0."""
        if self._rows_of is None:
            self._rows_of = {}
            for row, number in enumerate(self["number"].tolist()):
                self._rows_of.setdefault(number, []).append(row)
        return self._rows_of

    def add(self, session: Session) -> None:
        """Gives a session its row, the last one."""
        self._rows[session] = len(self.sessions)
        self.sessions.append(session)
        self._table = {name: np.append(old, KINDS[name](0)) for name, old in self._table.items()}
        self._last.append(dict.fromkeys(KINDS, 0))
        self._forget_members()
        self.note(session)

    def remove(self, session: Session) -> None:
        """Takes a session out; those after it move up."""
        row = self._rows[session]
        del self.sessions[row], self._last[row]
        self._rows = {session: number for number, session in enumerate(self.sessions)}
        self._table = {name: np.delete(old, row) for name, old in self._table.items()}
        self._forget_members()
        kept = set(self["revision"].tolist())
        self._revisions = {key: number for key, number in self._revisions.items() if number in kept}

    def _forget_members(self) -> None:
        """What follows from `OF_MEMBERS` is looked up anew."""
        self._members = self._kv = self._at = self._rows_of = None

    def note(self, session: Session) -> None:
        """Writes the row of a session that is other than before; nothing of one that has none."""
        row = self._rows.get(session)
        if row is None:
            return
        before, now = self._last[row], self._row(session)
        for name, value in now.items():
            if value != before[name]:
                self._table[name][row] = value
        if any(now[name] != before[name] for name in OF_MEMBERS):
            self._forget_members()
        self._last[row] = now

    def view(self, avoid: Collection[Session] = (), revision: Revision | None = None) -> FleetView:
        """The fleet, with no room on those to `avoid`, nor on others than of `revision`, if any."""
        room = self["room_tokens"]
        if revision is not None:
            number = self._revisions.get(revision, NOWHERE)
            room = np.where(self["revision"] == number, room, NOT_READY)
        if avoid:
            room = room.copy()
            room[[self._rows[session] for session in avoid if session in self._rows]] = NOT_READY
        return FleetView(
            self.members,
            self["pending_prompt_tokens"],
            self["pending_tokens"],
            room,
            self["borrowed"],
        )

    def peers(self, source: Session, kv_tokens: int) -> FleetView:
        """The fleet as a sequence at `source` sees it, whose KV is of so many tokens.

        As if it were a prompt that only `source` could compute: it is as far from each peer.
        """
        view, row = self.view((source,), revision_of(source)), self._rows[source]
        role, pending = self["role"].copy(), view.pending_prompt_tokens.copy()
        room = np.where(role == Role.PROMPT, NOT_READY, view.room_tokens)
        revision = self._revisions.get(revision_of(source), NOWHERE)
        role[row], pending[row], room[row] = Role.PROMPT, 0, kv_tokens
        revisions = np.where(room > NOT_READY, revision, NOWHERE)
        return replace(
            view,
            members=Members(role, revisions),
            pending_prompt_tokens=pending,
            room_tokens=room,
        )

    def at(self, sidecar: str, revision: Revision) -> Session | None:
        """The worker of a revision whose sidecar has this address."""
        if self._at is None:
            connected = ((s, s.info) for s in self.sessions)
            self._at = {(i.sidecar, revision_of(s)): s for s, i in connected if i is not None}
        return self._at.get((sidecar, revision))

    def links(self, links: KnownLinks) -> LinkView:
        """The links between the members; KV is of one size for all of them."""
        if self._kv is None:
            infos = [s.info for s in self.sessions if s.info is not None and s.usable]
            sizes = [info.kv_token_bytes for info in infos], [info.num_layers for info in infos]
            self._kv = max(sizes[0], default=0), max(sizes[1], default=1)
        return LinkView(
            self["number"],
            self["prompt_tokens_per_s"],
            links.between,
            *self._kv,
            links.failing,
        )

    def stages(self, view: FleetView, answer_share: float) -> StageView:
        """What the stages take on the workers of `view`; nothing while none has measured any."""
        return stage_view(
            self["role"],
            view.room_tokens > NOT_READY,
            self["speed"],
            self["step_base_s"],
            self["step_slope_s"],
            self["decoding"],
            self["prompt_share"],
            answer_share,
        )

    def _row(self, session: Session) -> dict[str, Any]:
        """What placement goes by.

        What this router has sent counts at once, whether the worker has reported it or not: a queue
        is as long as the longer of the two accounts, and room is the smaller of the two.
        """
        info, load, claims = session.info, session.load, session.claims
        role = ROLES[session.endpoint.role]
        prompts = max(load.queued_tokens, claims.prompt_tokens)
        lent = {Role.TOKEN: claims.prompt_tokens, Role.PROMPT: claims.decoding}
        is_usable = info is not None and session.usable
        return {
            "role": role,
            "revision": self._number(revision_of(session)) if is_usable else NOWHERE,
            "pending_prompt_tokens": prompts,
            "pending_tokens": max(load.running_tokens, claims.kv_tokens),
            "room_tokens": self._room_tokens(session, prompts) if is_usable else NOT_READY,
            "borrowed": load.borrowed or lent.get(role, 0) > 0,
            "number": info.incarnation if info else 0,
            "prompt_tokens_per_s": session.prompt_tokens_per_s,
            "told_tokens_per_s": load.prompt_tokens_per_s,
            "speed": load.prompt_tokens_per_s or session.prompt_tokens_per_s,
            "step_base_s": load.step_base_s,
            "step_slope_s": load.step_slope_s,
            "decoding": max(load.running, claims.decoding),
            "prompt_share": load.prompt_share,
        }

    def _number(self, revision: Revision) -> int:
        number = self._revisions.get(revision)
        if number is None:
            number = self._revisions[revision] = next(self._numbers)
        return number

    def _room_tokens(self, session: Session, prompts: int) -> int:
        """Tokens that a usable worker may still reserve; with enough prompts, none.

        On a mixed one they would go before what decodes.
        """
        info, load = session.info, session.load
        assert info is not None
        seen = load.sequences if load.HasField("sequences") else session.running
        on_the_way = max(0, session.running - seen)
        free = min(load.free_sequences - on_the_way, info.max_sequences - session.running)
        if free <= 0 or is_committed(prompts, load.prompt_tokens_per_s, self._max_queue_s):
            return 0
        blocks = min(load.free_blocks, info.num_blocks - session.claims.blocks)
        return max(0, blocks) * max(1, info.block_tokens)
