"""Workers that serve both phases: borrowed in a burst, or chosen because it is cheaper."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from splitwise_core.policy.mixing import FIXED, Disaggregation, Mixing
from splitwise_core.policy.routing import Reason
from splitwise_core.rpc.worker_pb2 import Load, ToWorker
from splitwise_router.discovery import Endpoint
from splitwise_router.fleet import Fleet, Found
from splitwise_router.legs import Leg
from splitwise_router.session import Served, Session
from splitwise_router.views import duties
from tests.router.conftest import Start
from tests.router.support import WORDS, completion, read_stream, tokens_of
from tests.support.router import Stack, Worker

BORROWING = Mixing(borrowing=True)
AUTO = Mixing(borrowing=True, disaggregation=Disaggregation.AUTO)
NEVER = Mixing(borrowing=True, disaggregation=Disaggregation.NEVER)
MEASURED = {"ready": True, "free_blocks": 9, "free_sequences": 9, "step_base_s": 0.01}


@asynccontextmanager
async def pair(mixing: Mixing, overflow_tokens: int = 0) -> AsyncIterator[Fleet]:
    """A prompt and a token worker of one revision, both idle; see the fixture `fleet`."""
    served, log = Served("echo", b"tokenizer"), logging.getLogger("test")
    fleet = Fleet(served, overflow_tokens, log, mixing=mixing)
    both = (("p", "prompt"), ("t", "token"))
    fleet.apply([Endpoint(f"127.0.0.1:{pod}", pod, "one", role) for pod, role in both])
    await asyncio.sleep(0)
    try:
        yield fleet
    finally:
        await fleet.close()


def of(fleet: Fleet, pod: str) -> Session:
    return next(session for session in fleet.sessions if session.endpoint.pod == pod)


def find(fleet: Fleet, prompt_tokens: int = 80) -> tuple[str, Reason, bool]:
    """Where a request goes: pods of both phases, why, and whether a role changes for it."""
    found, why = fleet.find(prompt_tokens, 40)
    assert isinstance(found, Found)
    pods = [session.endpoint.pod for session in (found.prompt, found.token or found.prompt)]
    return "".join(pods), why, found.changes_role


def send_prompt(session: Session, sequence: int = 1) -> Leg:
    """A prompt of this router's that the worker has not reported yet."""
    leg = Leg(sequence, lambda update: None, 1, 100, 100)
    session.start(leg, ToWorker())
    return leg


@pytest.mark.usefixtures("fleet")
async def test_a_worker_is_borrowed_before_it_has_said_a_word_and_free_when_it_is_done() -> None:
    async with pair(BORROWING) as fleet:
        assert find(fleet) == ("pt", Reason.SPLIT, False)
        waiting = send_prompt(of(fleet, "p"))
        assert find(fleet) == ("tt", Reason.BORROWED_TOKEN_WORKER, True)
        borrowed = send_prompt(of(fleet, "t"))
        second = send_prompt(of(fleet, "p"), 2)
        assert find(fleet) == ("tt", Reason.BORROWED_TOKEN_WORKER, False), "it has its role already"
        of(fleet, "t").cancel(borrowed)
        of(fleet, "p").cancel(second)
        of(fleet, "p").cancel(waiting)
        assert find(fleet) == ("pt", Reason.SPLIT, False)


@pytest.mark.usefixtures("fleet")
async def test_routers_see_by_a_workers_word_what_others_have_borrowed() -> None:
    async with pair(BORROWING, overflow_tokens=150) as fleet:
        send_prompt(of(fleet, "p"))
        assert find(fleet)[0] == "pt", "a queue below the limit"
        of(fleet, "t")._hear_load(Load(**MEASURED, borrowed=True))
        assert find(fleet) == ("tt", Reason.BORROWED_TOKEN_WORKER, False), "above half of it"
        of(fleet, "t")._hear_load(Load(**MEASURED, borrowed=True, queued_tokens=500))
        assert find(fleet)[0] == "pt", "another router has given it more than waits here"


@pytest.mark.usefixtures("fleet")
@pytest.mark.parametrize(
    ("mixing", "prompt_tokens", "pods", "why"),
    [
        pytest.param(FIXED, 80, "pt", Reason.SPLIT, id="off means off"),
        pytest.param(NEVER, 80, "tt", Reason.ONE_WORKER, id="never is one worker"),
        pytest.param(AUTO, 20, "tt", Reason.SHORT_PROMPT, id="unmeasured, a short prompt stays"),
        pytest.param(AUTO, 80, "tt", Reason.CHEAPER_TOGETHER, id="so does what is cheaper"),
    ],
)
async def test_modes(mixing: Mixing, prompt_tokens: int, pods: str, why: Reason) -> None:
    async with pair(mixing, overflow_tokens=0 if mixing is FIXED else 1000) as fleet:
        for pod, speed in (("p", 50.0), ("t", 1000.0)):
            measured = 0.0 if why is Reason.SHORT_PROMPT else speed
            of(fleet, pod)._hear_load(Load(**MEASURED, prompt_tokens_per_s=measured))
        send_prompt(of(fleet, "p"))
        assert find(fleet, prompt_tokens)[:2] == (pods, why)


@pytest.mark.usefixtures("fleet")
async def test_a_token_pool_that_is_full_borrows_the_prompt_worker() -> None:
    async with pair(BORROWING) as fleet:
        of(fleet, "t")._hear_load(Load(ready=True))
        assert find(fleet) == ("pp", Reason.BORROWED_PROMPT_WORKER, False)


@pytest.mark.usefixtures("fleet")
async def test_who_is_borrowed_and_who_is_misplaced_is_told() -> None:
    async with pair(BORROWING) as fleet:
        token = of(fleet, "t")
        assert [w["borrowedSeconds"] for w in duties(fleet.sessions)] == [None, None]
        token._hear_load(Load(**MEASURED, borrowed=True, should_change=True))
        prompt, told = duties(fleet.sessions)
        assert (prompt["borrowedSeconds"], prompt["misplaced"]) == (None, False)
        assert (told["pod"], told["role"], told["misplaced"]) == ("t", "token", True)
        assert told["borrowedSeconds"] >= 0
        token._hear_load(Load(**MEASURED))
        assert duties(fleet.sessions)[1]["borrowedSeconds"] is None


# ---- a real router ----


def test_a_burst_borrows_the_token_worker_and_a_refusal_costs_no_request(
    start: Start, model: Path
) -> None:
    prompt = tokens_of(model)

    async def burst(stack: Stack) -> set[tuple[str, str]]:
        async with httpx.AsyncClient(base_url=stack.url, timeout=60) as client:
            body = completion(prompt, len(prompt))
            asked = (read_stream(client, "/v1/completions", body) for _ in range(8))
            streams = await asyncio.gather(*asked)
        assert [stream.text for stream in streams] == [WORDS] * 8
        names = ("x-splitwise-prompt-worker", "x-splitwise-token-worker")
        return {(stream.headers[names[0]], stream.headers[names[1]]) for stream in streams}

    slow = {"prefill_ms": 500}  # all of a burst are placed before
    refuses = {"fail_count": 2, "fail_outcome": "NO_CAPACITY"}
    workers = [Worker("p0", "prompt", slow), Worker("t0", "token", slow | refuses)]
    with start(workers, overflow_tokens=0) as stack:
        assert ("t0", "t0") in asyncio.run(burst(stack))
        assert stack.metric("splitwise_router_retries_total") == 2
        assert stack.metric("splitwise_request_role_change_seconds_count") >= 1
        placed = "splitwise_router_placements_total"
        assert stack.metric(f'{placed}{{reason="{Reason.BORROWED_TOKEN_WORKER}"}}') >= 1
        told = httpx.get(f"{stack.url}/workers").json()["workers"]
        assert [worker["pod"] for worker in told] == ["p0", "t0"]
