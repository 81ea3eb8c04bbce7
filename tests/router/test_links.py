"""Links: who is asked to measure which, who hears of it, and where requests go then."""

import asyncio
import logging
from math import inf, nan
from typing import Any

import httpx
import pytest

from splitwise_core.rpc import kv_pb2
from splitwise_core.rpc.worker_pb2 import FromWorker, Load, WorkerInfo
from splitwise_router.discovery import Endpoint
from splitwise_router.fleet import Fleet
from splitwise_router.links import CUT_OFF_S, JITTER, RETRY_S, Links
from splitwise_router.pool_links import by_pools
from splitwise_router.session import Served, Session, revision_of
from tests.router.conftest import Start
from tests.router.support import completion, tokens_of
from tests.support.cluster import eventually
from tests.support.ports import free_port
from tests.support.router import Stack, Worker

OK, PEER_LOST = kv_pb2.OK, kv_pb2.PEER_LOST
PERIOD_S = 60.0


# ---- the rule, without a network ----


class Workers:
    """Sessions that are open, to workers that do as the test says; the test tells the time."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.log = logging.getLogger("test")
        self.is_early = False
        self.links = Links(PERIOD_S, self.log, lambda: self.now_s, self._draw)
        self.sessions: list[Session] = []

    def _draw(self, low: float, high: float) -> float:
        return high if self.is_early else low

    def add(self, name: str, role: str, revision: str = "1") -> Session:
        """A worker that is ready; its pool is its role."""
        endpoint = Endpoint(f"{name}:1", name, role, role)
        served = Served("echo", b"tokenizer")
        session = Session(
            endpoint, served, lambda: None, lambda session: None, self._hear, self.log
        )
        self.sessions.append(session)
        self.restart(session, revision)
        return session

    def _hear(self, session: Session, links: Any) -> None:
        def find(address: str) -> Session | None:
            there = [s for s in self.sessions if s.info and s.info.sidecar == address]
            alike = [s for s in there if revision_of(s) == revision_of(session)]
            return alike[0] if alike else None

        self.links.hear(session, links, find)

    def restart(self, session: Session, revision: str = "1") -> None:
        """The worker's process is another."""
        self._started = getattr(self, "_started", 0) + 1
        info = WorkerInfo(
            worker_id=session.endpoint.pod,
            model="echo",
            revision=revision,
            sidecar=f"{session.endpoint.pod}:2",
            tokenizer_fingerprint=b"tokenizer",
            incarnation=self._started,
        )
        session._receive(FromWorker(info=info, load=Load(ready=True)))

    def asked(self) -> list[tuple[str, str]]:
        """Who was asked to measure the link to whom, in the next tick."""
        self.links.tick(self.sessions)
        found = []
        for session in self.sessions:
            while not session._outbox.empty():
                peer = session._outbox.get_nowait().measure_link.peer
                found.append((session.endpoint.pod, peer.removesuffix(":2")))
        return found

    def told(self, prompt: Session, *tokens: Session, **fields: Any) -> None:
        """A worker says what its links are like."""
        known = {"outcome": OK, "transport": "tcp", "latency_s": 0.001, "bytes_per_s": 1e9}
        links = [
            kv_pb2.Link(peer=f"{t.endpoint.pod}:2", **{**known, **fields})  # type: ignore[arg-type]
            for t in tokens
        ]
        prompt._receive(FromWorker(links=links))


@pytest.fixture
def workers() -> Workers:
    return Workers()


def test_a_pair_is_measured_when_it_is_met_and_again_in_every_period(workers: Workers) -> None:
    prompt, token = workers.add("p", "prompt"), workers.add("t", "token")
    assert workers.asked() == [("p", "t")]
    workers.told(prompt, token)
    workers.now_s = PERIOD_S - 1
    assert workers.asked() == []
    workers.now_s = PERIOD_S
    assert workers.asked() == [("p", "t")]
    assert workers.asked() == [], "it is on its way"


def test_only_pairs_that_may_hand_over_are_measured(workers: Workers) -> None:
    workers.add("p", "prompt")
    workers.add("p2", "prompt", revision="2")
    workers.add("t", "token")
    mixed = workers.add("m", "mixed")
    assert sorted(workers.asked()) == [("m", "t"), ("p", "m"), ("p", "t")]
    workers.restart(mixed, "2")
    assert workers.asked() == [("p2", "m")]


def test_a_large_fleet_takes_turns(workers: Workers) -> None:
    for number in range(6):
        workers.add(f"p{number}", "prompt")
    for number in range(30):
        workers.add(f"t{number:02}", "token")
    first = workers.asked()
    assert len(first) == 6 * 4
    assert len({token for _, token in first}) > 20, "and not all with the same token workers"
    workers.now_s = PERIOD_S / 2
    assert workers.asked() == []


def test_what_another_router_asked_for_is_not_asked_again(workers: Workers) -> None:
    prompt, token = workers.add("p", "prompt"), workers.add("t", "token")
    workers.told(prompt, token)
    assert workers.asked() == []


def test_a_link_that_fails_is_tried_sooner_and_heals(
    workers: Workers, caplog: pytest.LogCaptureFixture
) -> None:
    prompt, token = workers.add("p", "prompt"), workers.add("t", "token")
    workers.told(prompt, token, outcome=PEER_LOST, detail="nobody", bytes_per_s=0.0)
    assert workers.links.known.between[1][2].failing
    workers.now_s = RETRY_S
    assert workers.asked() == [("p", "t")]
    workers.told(prompt, token)
    assert not workers.links.known.between[1][2].failing
    said = [record.message for record in caplog.records]
    assert said.count("link fails") == 1


def test_turns_spread_but_no_link_that_fails_comes_sooner_for_it(workers: Workers) -> None:
    workers.is_early = True
    prompt = workers.add("p", "prompt")
    works, fails = workers.add("t0", "token"), workers.add("t1", "token")
    workers.told(prompt, works)
    workers.told(prompt, fails, outcome=PEER_LOST)
    workers.now_s = RETRY_S - 1
    assert workers.asked() == []
    workers.told(prompt, fails)
    workers.now_s = PERIOD_S * (1 - JITTER)
    assert workers.asked() == [("p", "t0")]


def test_a_worker_that_was_started_anew_is_met_anew(workers: Workers) -> None:
    prompt, token = workers.add("p", "prompt"), workers.add("t", "token")
    workers.told(prompt, token, outcome=PEER_LOST)
    workers.restart(token)
    assert workers.asked() == [("p", "t")]
    assert workers.links.known.between == {1: {}}, "nothing is kept of the one that is gone"


def test_a_worker_whose_links_all_fail_is_told_of_and_used_on(
    workers: Workers, caplog: pytest.LogCaptureFixture
) -> None:
    prompts = [workers.add(f"p{n}", "prompt") for n in range(2)]
    token, other = workers.add("t0", "token"), workers.add("t1", "token")
    for prompt in prompts:
        workers.told(prompt, token, outcome=PEER_LOST)
        workers.told(prompt, other)
    workers.links.tick(workers.sessions)
    workers.now_s = CUT_OFF_S - 1
    workers.links.tick(workers.sessions)
    assert workers.links.cut_off == []
    for workers.now_s in (CUT_OFF_S, CUT_OFF_S + 1):
        workers.links.tick(workers.sessions)
        assert workers.links.cut_off == [token]
    said = [record.message for record in caplog.records]
    assert said.count("no KV passes to or from a worker") == 1
    workers.told(prompts[0], token)
    workers.links.tick(workers.sessions)
    assert workers.links.cut_off == []


def test_a_link_to_nobody_and_senseless_numbers_harm_nothing(workers: Workers) -> None:
    prompt, token = workers.add("p", "prompt"), workers.add("t", "token")
    workers.told(prompt, prompt)
    assert workers.links.known.between == {}
    workers.told(
        prompt, token, latency_s=nan, bytes_per_s=inf, measured_unix_ms=1 << 62, transport="x" * 99
    )
    link = workers.links.known.between[1][2]
    assert (link.latency_s, link.bytes_per_s) == (0, 0)
    (pair,) = by_pools(workers.sessions, workers.links)
    assert len(pair.entry()["transport"]) < 99
    workers.told(prompt, token, outcome=999)
    (pair,) = by_pools(workers.sessions, workers.links)
    assert pair.entry()["reason"] == "p to t: failed"


def test_pools_are_told_of_by_their_middle_link_and_their_failures(workers: Workers) -> None:
    prompt = workers.add("p", "prompt")
    tokens = [workers.add(f"t{number}", "token") for number in range(5)]
    for token, rate in zip(tokens[:3], (1e9, 2e9, 9e9)):
        workers.told(prompt, token, bytes_per_s=rate, measured_unix_ms=1_700_000_000_000)
    workers.told(prompt, tokens[3], outcome=PEER_LOST, measured_unix_ms=1_700_000_000_000)
    (pair,) = by_pools(workers.sessions, workers.links)
    assert pair.entry() == {
        "from": "prompt",
        "to": "token",
        "transport": "tcp",
        "bytesPerSecond": 2_000_000_000,
        "latencySeconds": 0.001,
        "measuredAt": "2023-11-14T22:13:20Z",
        "pairs": 5,
        "measured": 4,
        "failing": 1,
        "reason": "p to t3: peer_lost",
    }


async def test_the_fleet_places_by_what_it_hears(fleet: Fleet) -> None:
    """`fleet` has sessions whose workers' revision is their pool, so all are of one pool here."""
    fleet.apply(frozenset(Endpoint(f"{n}:1", n, "all", "mixed") for n in ("a", "b")))
    await asyncio.sleep(0)
    for session, number in zip(fleet.sessions, (7, 8)):
        assert session.info is not None
        session.info.incarnation, session.info.sidecar = number, f"{session.endpoint.pod}:2"
    first, second = fleet.sessions
    first._receive(FromWorker(links=[kv_pb2.Link(peer="b:2", outcome=OK, bytes_per_s=5.0)]))
    assert fleet.links.known.between[7][8].bytes_per_s == 5
    assert fleet.links.link(second, first) is None


# ---- real sessions ----


def entries(stack: Stack) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = httpx.get(f"{stack.url}/transfer").json()["transfer"]
    return found


def chosen(stack: Stack, requests: int = 3) -> set[str]:
    """The token workers of some requests, one after the other."""
    prompt = tokens_of(stack.model)
    answers = [
        httpx.post(f"{stack.url}/v1/completions", json=completion(prompt, 4), timeout=30)
        for _ in range(requests)
    ]
    assert [answer.status_code for answer in answers] == [200] * requests
    return {answer.headers["x-splitwise-token-worker"] for answer in answers}


def trio(knob: str) -> list[Worker]:
    """A prompt worker and two token workers; `knob` says what its link to the first is like."""
    first, second = (free_port() for _ in range(2))
    links = {"link_bytes_per_s": 1e9, knob: f"127.0.0.1:{first}"}
    tokens = [Worker("t0", "token", port=first), Worker("t1", "token", port=second)]
    return [Worker("p0", "prompt", links), *tokens]


@pytest.mark.parametrize(
    ("knob", "failing"),
    [
        pytest.param("failing_peer", 1, id="a link that fails is not used"),
        pytest.param("far_peer", 0, id="a far link is not used while the nearer is free"),
    ],
)
def test_requests_go_where_their_kv_gets(start: Start, knob: str, failing: int) -> None:
    with start(trio(knob)) as stack:
        eventually(
            lambda: [e["measured"] for e in entries(stack)] == [2], 20, lambda: str(entries(stack))
        )
        (entry,) = entries(stack)
        assert (entry["from"], entry["to"], entry["transport"]) == ("prompt", "token", "tcp")
        assert (entry["pairs"], entry["failing"]) == (2, failing)
        assert chosen(stack) == {"t1"}
        assert stack.metric('splitwise_router_links{from_pool="prompt",state="failing"') == failing
        assert stack.metric("splitwise_router_link_bytes_per_second") == 1e9


def test_a_worker_that_cannot_be_reached_serves_when_it_is_the_only_one(start: Start) -> None:
    prompt, token, _ = trio("failing_peer")
    with start([prompt, token]) as stack:
        eventually(lambda: [e["failing"] for e in entries(stack)] == [1], 20, lambda: "")
        assert chosen(stack) == {"t0"}
        assert entries(stack)[0]["reason"] == "p0 to t0: peer_lost"


def test_workers_that_say_nothing_of_links_are_used_as_before(start: Start) -> None:
    with start([Worker("p0", "prompt"), Worker("t0", "token")]) as stack:
        assert chosen(stack) == {"t0"}
        assert entries(stack) == []
