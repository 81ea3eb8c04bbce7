"""What a router logs of requests: nothing, a trace for the planner, or every placement as made."""

import asyncio
import json
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from splitwise_core.errors import UserError
from splitwise_core.placement_record import chosen, replayed
from splitwise_core.policy.placement import Reason
from splitwise_planner.measured import fleet as simulated_router
from splitwise_planner.trace import load_trace
from tests.router.conftest import Start
from tests.router.support import Stream, completion, read_stream
from tests.support.router import Stack, Worker

JSON_LOG = {"SPLITWISE_LOG_FORMAT": "json"}
WORKERS = [("p0", "prompt"), ("p1", "prompt"), ("t0", "token"), ("t1", "token"), ("m0", "mixed")]


async def ask(stack: Stack, sizes: list[tuple[int, int]]) -> list[Stream]:
    """Streams of prompts and answers of these sizes, a few milliseconds apart."""
    draw = Random(3)
    async with httpx.AsyncClient(base_url=stack.url, timeout=30) as client:

        async def one(delay_s: float, prompt: int, output: int) -> Stream:
            await asyncio.sleep(delay_s)
            tokens = draw.choices(range(20, 40), k=prompt)
            return await read_stream(client, "/v1/completions", completion(tokens, output))

        delays = enumerate(sizes)
        return await asyncio.gather(*(one(0.004 * n, *size) for n, size in delays))


def lines(log: str, message: str) -> list[dict[str, Any]]:
    """Records of a log of JSON lines."""
    records = map(json.loads, log.splitlines())
    return [record for record in records if record["message"] == message]


def test_a_recorded_run_is_placed_the_same_by_the_policy_that_is_simulated(start: Start) -> None:
    """What the router saw of a fleet under load, put to the simulator's own policy again."""
    draw = Random(1)
    sizes = [(draw.randrange(1, 400), draw.randrange(1, 40)) for _ in range(60)]
    asked = {"request_log": "placements", "overflow_tokens": 300, "disaggregation": "Auto"}
    workers = [Worker(name, role) for name, role in WORKERS]
    with start(workers, environment=JSON_LOG, **asked) as stack:
        streams = asyncio.run(ask(stack, sizes))
        _, log = stack.router.stop()
    assert all(stream.done for stream in streams)
    placed = lines(log, "placed")
    assert len(placed) >= len(sizes), "each request was placed, a retry again"
    for line in placed:
        assert replayed(line["placement"]) == chosen(line["placement"])
    assert replayed.__globals__["place"] is simulated_router.place
    first = {line["request_id"]: line for line in reversed(placed)}
    for stream in streams:
        line = first[stream.headers["x-request-id"]]
        prompt = chosen(line["placement"]).prompt
        assert prompt is not None
        assert line["workers"][prompt] == stream.headers["x-splitwise-prompt-worker"]
    reasons = {chosen(line["placement"]).reason for line in placed}
    assert len(reasons) > 1, "the load was enough for more than one rule to be used"
    assert Reason.NO_CAPACITY not in reasons


def test_the_log_is_a_trace_of_what_was_asked(start: Start, tmp_path: Path) -> None:
    sizes = [(40, 7), (300, 1), (5, 20)]
    workers = [Worker("p0", "prompt"), Worker("t0", "token")]
    with start(workers, environment=JSON_LOG, request_log="requests") as stack:
        streams = asyncio.run(ask(stack, sizes))
        _, log = stack.router.stop()
    assert not lines(log, "placed")
    by_id = {line["request_id"]: line for line in lines(log, "request")}
    for stream, (prompt, output) in zip(streams, sizes, strict=True):
        line = by_id[stream.headers["x-request-id"]]
        assert (line["prompt_tokens"], line["output_tokens"]) == (prompt, output)
        assert line["outcome"] == "length"
        assert 0 <= line["ttft_s"] <= line["e2e_s"]
        assert line["prompt_worker"] == stream.headers["x-splitwise-prompt-worker"]
    file = tmp_path / "requests.jsonl"
    file.write_text(log)
    trace = load_trace(file)
    assert sorted(zip(trace.prompt_tokens, trace.output_tokens)) == sorted(sizes)
    assert trace.arrival_s[0] == 0


def test_a_request_that_was_broken_off_is_said_to_be(start: Start) -> None:
    workers = [Worker("p0", "prompt", {"step_ms": 50}), Worker("t0", "token", {"step_ms": 50})]
    with start(workers, environment=JSON_LOG, request_log="requests") as stack:
        body = completion([20] * 9, 200, stream=True)
        with httpx.stream("POST", f"{stack.url}/v1/completions", json=body) as answer:
            next(answer.iter_lines())
        _, log = stack.router.stop()
    (line,) = lines(log, "request")
    assert line["outcome"] == "broken"
    assert line["output_tokens"] < 200


def test_nothing_is_logged_of_requests_unless_the_cluster_asks(
    start: Start, tmp_path: Path
) -> None:
    with start([Worker("m0", "mixed")], environment=JSON_LOG) as stack:
        asyncio.run(ask(stack, [(9, 3)]))
        _, log = stack.router.stop()
    assert not lines(log, "request") + lines(log, "placed")
    file = tmp_path / "log.jsonl"
    file.write_text(log)
    with pytest.raises(UserError, match="holds no requests"):
        load_trace(file)
