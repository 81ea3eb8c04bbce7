"""`python -m bench.router`: the real router in front of echo workers, against a direct call.

Prints a table; the last line is one JSON object. Figures of one run compare with each other, and
with nothing else: another machine, or a busy one, gives other ones.
"""

import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path

import grpc.aio
import psutil

from splitwise_core.rpc.channel import OPTIONS
from splitwise_core.rpc.worker_pb2 import Cancel, Prefill, Request, Sampling, ToWorker
from splitwise_core.rpc.worker_pb2_grpc import WorkerStub
from tests.support.router import Worker, stack
from tests.support.tokenizers import write_tokenizer

TTFT_REQUESTS = 200
STREAMS = 64
TOKENS = 400
STEP_MS = 10.0
PROMPT = list(range(10, 74))


def http_request(max_tokens: int, headers: str = "") -> bytes:
    """A streamed completion, as it goes over the socket."""
    asked = {
        "model": "echo",
        "prompt": PROMPT,
        "max_tokens": max_tokens,
        "stream": True,
        "ignore_eos": True,
    }
    content = json.dumps(asked).encode()
    head = (
        f"POST /v1/completions HTTP/1.1\r\nhost: bench\r\n{headers}"
        f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


async def direct_ttft_ms(port: int) -> list[float]:
    """Time to the first token over a session of our own."""
    times = []
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel:
        call = WorkerStub(channel).Session()
        await call.read()
        for number in range(1, TTFT_REQUESTS + 1):
            sampling = Sampling(max_tokens=1000, ignore_eos=True)
            request = Request(sequence=number, prompt_tokens=PROMPT, sampling=sampling)
            began = time.perf_counter()
            await call.write(ToWorker(prefill=Prefill(request=request)))
            while not any(u.sequence == number for u in (await call.read()).updates):
                pass
            times.append((time.perf_counter() - began) * 1000)
            await call.write(ToWorker(cancel=Cancel(sequence=number)))
        call.cancel()
    return times


async def routed_ttft_ms(port: int) -> list[float]:
    """Time to the first event over HTTP, on a connection that is open already.

    Read as bytes: an HTTP client library would add more to the time than the router does.
    """
    times = []
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(TTFT_REQUESTS):
        began = time.perf_counter()
        writer.write(http_request(3))
        answer = await reader.readuntil(b"data: ")
        times.append((time.perf_counter() - began) * 1000)
        assert b" 200 OK" in answer
        await reader.readuntil(b"[DONE]\n\n\r\n")
        await reader.readuntil(b"0\r\n\r\n")
    writer.close()
    return times


async def read_events(port: int) -> int:
    """Reads a whole stream with as little of our own CPU as may be; its events that bear text."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(http_request(TOKENS, "connection: close\r\n"))
    events = 0
    while data := await reader.read(1 << 16):
        events += data.count(b'"text": "')
    writer.close()
    return events


async def streaming(port: int, pid: int) -> dict[str, float]:
    """Tokens per second, by the clock and by the router's CPU time, with all streams at once."""
    router = psutil.Process(pid)

    def cpu_s() -> float:
        times = router.cpu_times()
        return float(times.user + times.system)

    events = await read_events(port)
    assert events > TOKENS / 2, f"{events} events for {TOKENS} tokens"
    began, cpu_began = time.perf_counter(), cpu_s()
    await asyncio.gather(*(read_events(port) for _ in range(STREAMS)))
    wall_s, used_s = time.perf_counter() - began, cpu_s() - cpu_began
    tokens = STREAMS * TOKENS
    return {"tokens_per_s": tokens / wall_s, "tokens_per_cpu_s": tokens / used_s}


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write_tokenizer(directory / "model")
        one_token = Worker("w0", "mixed", {"step_ms": 1})
        with stack(directory, directory / "model", [one_token]) as running:
            direct = statistics.median(asyncio.run(direct_ttft_ms(one_token.port)))
            routed = statistics.median(asyncio.run(routed_ttft_ms(running.router.port)))
        workers = [Worker("p0", "prompt"), Worker("t0", "token", {"step_ms": STEP_MS})]
        with stack(directory, directory / "model", workers) as running:
            assert running.router.process is not None
            speed = asyncio.run(streaming(running.router.port, running.router.process.pid))
    result = {"ttft_direct_ms": direct, "ttft_router_ms": routed, "ttft_added_ms": routed - direct}
    result |= speed
    for label, value in result.items():
        print(f"{label:20} {value:10.2f}")
    print(json.dumps({"bench": "router", "streams": STREAMS, "tokens": TOKENS} | result))


if __name__ == "__main__":
    main()
