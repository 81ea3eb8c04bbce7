"""The columns that placement reads are those of the sessions, whatever has happened to them."""

import logging
from collections.abc import Callable, Collection, Mapping
from itertools import count, product
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitwise_core.policy.link import Link
from splitwise_core.policy.mixing import Disaggregation, Mixing
from splitwise_core.policy.routing import place
from splitwise_core.policy.stages import token_s
from splitwise_core.rpc.worker_pb2 import (
    FINISH_LENGTH,
    FromWorker,
    Load,
    ToWorker,
    Update,
    WorkerInfo,
)
from splitwise_router.columns import KINDS, Columns
from splitwise_router.discovery import Endpoint
from splitwise_router.known_links import KnownLinks
from splitwise_router.legs import Leg
from splitwise_router.prefixes import BLOCK_TOKENS, Prefixes
from splitwise_router.session import Revision, Served, Session, revision_of

SERVED, LOG, MAX_QUEUE_S = Served("echo", b"tokenizer"), logging.getLogger("test"), 1.0

loads = st.builds(
    Load,
    ready=st.sampled_from([True, True, True, False]),
    draining=st.sampled_from([False, False, False, True]),
    queued_tokens=st.integers(0, 200),
    running=st.integers(0, 5),
    running_tokens=st.integers(0, 200),
    free_blocks=st.integers(0, 20),
    free_sequences=st.integers(0, 3),
    sequences=st.one_of(st.none(), st.integers(0, 3)),
    prompt_tokens_per_s=st.sampled_from([0.0, 100.0, 1000.0]),
    step_base_s=st.sampled_from([0.0, 0.01]),
    step_slope_s=st.sampled_from([0.0, 0.001]),
    prompt_share=st.sampled_from([0.0, 0.5]),
    borrowed=st.booleans(),
)
infos = st.builds(
    WorkerInfo,
    model=st.sampled_from(["echo", "echo", "echo", "other"]),
    tokenizer_fingerprint=st.just(b"tokenizer"),
    revision=st.sampled_from("122"),
    num_blocks=st.integers(0, 20),
    max_sequences=st.integers(0, 4),
    block_tokens=st.sampled_from([0, 16]),
    kv_token_bytes=st.just(1000),
    num_layers=st.just(4),
    incarnation=st.integers(1, 1 << 63),
    sidecar=st.sampled_from(["a:1", "b:1"]),
)


class Sessions:
    """Sessions without a network, to which things happen."""

    def __init__(self) -> None:
        self.columns = Columns(MAX_QUEUE_S)
        self.legs: list[tuple[Session, Leg]] = []
        self._numbers = count(1)

    def add(self, role: str) -> None:
        pod = f"w{next(self._numbers)}"
        note = self.columns.note
        endpoint = Endpoint(f"{pod}:1", pod, role, role)
        self.columns.add(Session(endpoint, SERVED, lambda: None, note, lambda *_: None, LOG))

    def relist(self, session: Session, ready: bool) -> None:
        session.relist(Endpoint(*session.endpoint.identity, ready=ready))

    def start(self, session: Session, tokens: int) -> None:
        leg = Leg(next(self._numbers), lambda update: None, 2, tokens, tokens)
        self.legs.append((session, leg))
        session.start(leg, ToWorker())

    def happen(self, event: Any, at: int, load: Load, info: WorkerInfo) -> None:
        """Something happens to the session `at`, or to a leg."""
        sessions = self.columns.sessions
        if not sessions or event == "added":
            self.add(("prompt", "token", "mixed")[at % 3])
            return
        session = sessions[at % len(sessions)]
        worker, leg = self.legs[at % len(self.legs)] if self.legs else (session, None)
        acts: Mapping[str, Callable[[], None]] = {
            "connected": lambda: session._receive(FromWorker(info=info, load=load)),
            "said": lambda: session._receive(FromWorker(load=load)),
            "ready": lambda: self.relist(session, True),
            "not ready": lambda: self.relist(session, False),
            "unlisted": lambda: session.leave(True),
            "listed": lambda: session.leave(False),
            "lost": lambda: session._lose("test"),
            "removed": lambda: self.columns.remove(session),
            "placed": lambda: self.start(session, 10 + at),
            "measured": lambda: session.prompted(100, 1 + at),
        }
        if leg is not None:
            end = FromWorker(updates=[Update(sequence=leg.sequence, finish=FINISH_LENGTH)])
            acts = {
                **acts,
                "computed": lambda: worker.prompt_done(leg),
                "ended": lambda: worker._receive(end),
                "cancelled": lambda: worker.cancel(leg),
            }
        acts.get(event, lambda: None)()


EVENTS = [
    *("added", "connected", "said", "placed") * 3,
    *("ready", "not ready", "unlisted", "listed", "lost", "removed"),
    *("measured", "computed", "ended", "cancelled"),
]
event = st.tuples(st.sampled_from(EVENTS), st.integers(0, 99), loads, infos)
histories = st.lists(event, max_size=40)


def after(history: list[Any]) -> Sessions:
    made = Sessions()
    for number in range(3):
        made.add(("prompt", "token", "mixed")[number])
    for one in history:
        made.happen(*one)
    return made


def rebuilt(sessions: Collection[Session]) -> Columns:
    columns = Columns(MAX_QUEUE_S)
    for session in sessions:
        columns.add(session)
    return columns


def column(columns: Columns, name: str) -> list[Any]:
    """A column; revisions by those who have them, for their numbers are of no meaning."""
    values: list[Any] = columns[name].tolist()
    if name == "revision":
        return [revision_of(s) if n >= 0 else None for n, s in zip(values, columns.sessions)]
    return values


@settings(max_examples=50, deadline=None)
@given(histories)
def test_after_whatever_happened_they_are_as_if_made_anew(history: list[Any]) -> None:
    kept = after(history).columns
    anew = rebuilt(kept.sessions)
    for name in KINDS:
        assert column(kept, name) == column(anew, name), name
    assert (kept["revision"][:, None] == kept["revision"]).tolist() == (
        anew["revision"][:, None] == anew["revision"]
    ).tolist(), "the same ones are alike"
    assert kept.members.role.tolist() == anew.members.role.tolist()
    assert kept.members.revision.tolist() == kept["revision"].tolist()
    for session in kept.sessions:
        if session.info is not None:
            address = session.info.sidecar, revision_of(session)
            assert kept.at(*address) is anew.at(*address)


def placed(columns: Columns, view: Any, **asked: Any) -> Any:
    """The sessions of a placement, and why it is they. Every third worker's links all fail."""
    known = {s.info.incarnation for s in columns.sessions if s.info}
    links = KnownLinks()
    for a, b in product(known, known):
        links.take(a, b, Link(0.001 * ((a + b) % 7), 1e6, a % 3 == 0 or (a + b) % 5 == 0))
    found = place(view, 40, 30, 50, columns.links(links), **asked)
    sessions = [*columns.sessions, None]
    return *(sessions[-1 if w is None else w] for w in (found.prompt, found.token)), found.reason


@settings(max_examples=50, deadline=None)
@given(histories, st.builds(Mixing, st.booleans(), st.sampled_from(Disaggregation)))
def test_whatever_was_placed_before_they_place_as_if_made_anew(
    history: list[Any], mixing: Mixing
) -> None:
    def goes(columns: Columns) -> Any:
        view = columns.view()
        return placed(columns, view, mixing=mixing, stages=columns.stages(view, 0.5))

    made = Sessions()
    for one in history:
        made.happen(*one)
        kept, anew = made.columns, rebuilt(made.columns.sessions)
        assert goes(kept) == goes(anew)
        assert kept.rows == anew.rows


@settings(max_examples=50, deadline=None)
@given(
    histories,
    st.sets(st.integers(0, 9)),
    st.sampled_from([None, ("1", b""), ("2", b""), ("3", b"")]),
    st.builds(Mixing, st.booleans(), st.sampled_from(Disaggregation)),
)
def test_who_is_avoided_or_of_another_revision_is_as_if_not_there(
    history: list[Any], avoided: set[int], revision: Revision | None, mixing: Mixing
) -> None:
    every = after(history).columns
    avoid = [session for row, session in enumerate(every.sessions) if row in avoided]
    usable = [s for s in every.sessions if s.usable and s not in avoid]
    some = rebuilt([s for s in usable if revision in (None, revision_of(s))])
    view, other = every.view(avoid, revision), some.view()
    assert placed(every, view, mixing=mixing, stages=every.stages(view, 0.5)) == placed(
        some, other, mixing=mixing, stages=some.stages(other, 0.5)
    )


@settings(max_examples=50, deadline=None)
@given(histories)
def test_a_peer_is_another_worker_of_the_same_revision_that_decodes_and_has_room(
    history: list[Any],
) -> None:
    columns = after(history).columns
    for source in (s for s in columns.sessions if s.info is not None):
        _, peer, _ = placed(columns, columns.peers(source, 40))
        if peer is not None:
            assert peer is not source
            assert peer.usable
            assert peer.endpoint.role != "prompt"
            assert revision_of(peer) == revision_of(source)
            assert columns["room_tokens"][columns.sessions.index(peer)] >= 70


@given(st.lists(loads, max_size=4))
def test_what_a_worker_has_not_measured_is_the_mean_of_those_that_have(told: list[Load]) -> None:
    """A speed of 0, no slope, or steps of 0 s."""
    made = Sessions()
    for row, load in enumerate(told):
        made.add("mixed")
        info = WorkerInfo(model="echo", tokenizer_fingerprint=b"tokenizer", incarnation=1 + row)
        made.columns.sessions[row]._receive(FromWorker(info=info, load=load))
    ready = [load for load in told if load.ready and not load.draining]
    fast = [load.prompt_tokens_per_s for load in ready if load.prompt_tokens_per_s]
    stepped = [load for load in ready if load.step_base_s + load.step_slope_s]
    stages = made.columns.stages(made.columns.view(), 0.5)
    assert stages.known or not fast or not stepped
    if not fast or not stepped:
        return
    base_s, slope_s = (
        fmean(getattr(load, name) for load in stepped) for name in ("step_base_s", "step_slope_s")
    )
    for row, load in enumerate(told):
        assert stages.prompt_tokens_per_s[row] == pytest.approx(
            load.prompt_tokens_per_s or fmean(fast)
        )
        base = load.step_base_s if load.step_base_s + load.step_slope_s else base_s
        share = max(load.prompt_share, fmean(one.prompt_share for one in ready))
        times = base, load.step_slope_s or slope_s, load.running, share
        assert stages.token_s[row] == pytest.approx(token_s(*times))


@given(st.lists(st.integers(0, 5), max_size=8), st.lists(st.integers(0, 7), max_size=12))
def test_what_workers_have_of_a_prompt_is_found_by_their_rows(
    holders: list[int], rows: list[int]
) -> None:
    """Numbers may stand in several rows, and be known of workers that are gone."""
    prefixes = Prefixes()
    names = prefixes.names(range(4 * BLOCK_TOKENS))
    for depth, holder in enumerate(holders):
        prefixes._index.note(holder, names[: 1 + depth % 4])
    depths = prefixes._index.find(names)
    by_number = {number: [r for r, n in enumerate(rows) if n == number] for number in rows}
    found = prefixes.cached(names, by_number, 3 * BLOCK_TOKENS)
    most = 3 * BLOCK_TOKENS - 1
    assert found == {
        row: min(most, depths[holder] * BLOCK_TOKENS)
        for row, holder in enumerate(rows)
        if holder in depths
    }
