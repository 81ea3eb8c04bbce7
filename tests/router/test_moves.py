"""A worker that drains wants peers for its sequences: streams go on from there. INV-2, INV-18."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.router.conftest import Start
from tests.router.support import WORDS, Stream, completion, read_stream, tokens_of
from tests.support.router import Stack, Worker

PERIODS = 3
ASKS = {"asks_for_peer": 1000, "asks_after_tokens": 5}
"""It sends no token until it hears of a peer."""


def ask(stack: Stack, model: Path, streams: int = 1) -> list[Stream]:
    """The same stream several times at once, each with its whole text."""

    async def at_once() -> list[Stream]:
        async with httpx.AsyncClient(base_url=stack.url, timeout=30) as client:
            prompt = tokens_of(model)
            body = completion(prompt, PERIODS * len(prompt))
            every = (read_stream(client, "/v1/completions", body) for _ in range(streams))
            return await asyncio.gather(*every)

    return asyncio.run(at_once())


def is_whole(stream: Stream) -> bool:
    return (stream.text, stream.finish, stream.done) == (PERIODS * WORDS, "length", True)


def moves(stack: Stack, result: str) -> float:
    return stack.metric(f'splitwise_router_moves_total{{move="{result}"}}')


def retries(stack: Stack) -> float:
    return stack.metric("splitwise_router_retries_total")


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(["p0", "t0", "t1"], id="from one token worker to another"),
        pytest.param(["m0", "m1"], id="from one mixed worker to another"),
        pytest.param(["m0", "p0", "t1"], id="from a mixed worker to a token worker"),
    ],
)
def test_a_stream_goes_on_from_a_peer(start: Start, model: Path, names: list[str]) -> None:
    roles = {"p": "prompt", "t": "token", "m": "mixed"}
    workers = [Worker(name, roles[name[0]], ASKS if name in ("t0", "m0") else {}) for name in names]
    if names == ["m0", "p0", "t1"]:
        workers[2].knobs = {"blocks": 5}  # it has room for what moves, and for nothing else
    with start(workers) as stack:
        (stream,) = ask(stack, model)
        assert is_whole(stream)
        if stream.headers["x-splitwise-token-worker"] in ("t0", "m0"):
            assert moves(stack, "moved") == 1
            assert stack.metric("splitwise_request_move_pause_seconds_count") == 1
            assert stack.metric("splitwise_router_moved_kv_bytes_total") > 0
            _, log = stack.router.stop()
            assert "pause_s=" in log
            assert "kv_bytes=" in log
        assert stream.usage["splitwise"]["transport"] != "", "those of the first placement"


def test_many_streams_of_one_worker_move_and_are_spread(start: Start, model: Path) -> None:
    workers = [Worker("p0", "prompt"), Worker("t0", "token", ASKS)]
    workers += [Worker("t1", "token"), Worker("t2", "token")]
    with start(workers) as stack:
        streams = ask(stack, model, streams=12)
        assert all(is_whole(stream) for stream in streams)
        began = [stream.headers["x-splitwise-token-worker"] for stream in streams]
        assert moves(stack, "moved") == began.count("t0") > 0
        assert retries(stack) == 0


@pytest.mark.parametrize(
    ("source", "peer"),
    [
        pytest.param({"move_outcome": "PEER_LOST"}, {}, id="KV that does not get there"),
        pytest.param(
            {"move_outcome": "OUTCOME_UNSPECIFIED"},
            {"fail_count": 1, "fail_outcome": "NO_CAPACITY"},
            id="a peer that has no room",
        ),
    ],
)
def test_a_move_that_fails_costs_the_stream_nothing(
    start: Start, model: Path, source: dict[str, Any], peer: dict[str, Any]
) -> None:
    workers = [Worker("p0", "prompt"), Worker("t0", "token", ASKS | source)]
    with start([*workers, Worker("t1", "token", peer)]) as stack:
        (stream,) = ask(stack, model)
        assert stream.headers["x-splitwise-token-worker"] == "t0"
        assert is_whole(stream)
        assert (moves(stack, "moved"), moves(stack, "failed")) == (0, 1)
        assert retries(stack) == 0


def test_without_a_peer_the_stream_goes_on_where_it_is(start: Start, model: Path) -> None:
    asks = ASKS | {"asks_for_peer": 3}
    with start([Worker("p0", "prompt"), Worker("t0", "token", asks)]) as stack:
        (stream,) = ask(stack, model)
        assert is_whole(stream)
        assert moves(stack, "moved") == retries(stack) == 0


def test_no_stream_moves_to_another_revision(start: Start, model: Path) -> None:
    """INV-10."""
    asks = ASKS | {"asks_for_peer": 3}
    workers = [Worker("p0", "prompt"), Worker("t0", "token", asks)]
    with start([*workers, Worker("t1", "token", {"revision": "2"})]) as stack:
        (stream,) = ask(stack, model)
        assert is_whole(stream)
        assert moves(stack, "moved") == 0


def test_a_peer_that_dies_after_it_took_over_is_lost_as_any_worker(
    start: Start, model: Path
) -> None:
    workers = [Worker("p0", "prompt"), Worker("t0", "token", ASKS)]
    with start([*workers, Worker("t1", "token", {"die_after_tokens": 4})]) as stack:
        (stream,) = ask(stack, model)
        assert is_whole(stream)
        assert moves(stack, "moved") >= 1
