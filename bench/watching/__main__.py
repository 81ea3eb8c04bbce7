"""`python -m bench.watching`: what metrics and traces cost, against the same programs without both.

Two sets of real processes (a router, a prompt and a token worker, a sidecar beside each) run side
by side and are asked in turn, so that what the machine does meanwhile hits both: one has metrics
and traces at the default sampling, the other has neither (`unwatched`). CPU time is that of all
its processes, in blocks of streams; the time to the first token is of single requests, alternating.
Then a worker is scraped, and /metrics is weighed after 100,000 requests (`sizes`). Prints a table;
the last line is one JSON object.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path

import psutil

from bench.watching.sizes import router_bytes, worker_bytes
from bench.watching.unwatched import programs
from tests.support.house import BIN, House, house
from tests.support.otlp import collecting

ROOT = Path(__file__).parents[2]
MODEL = ROOT / ".cache" / "models" / "tiny"
PROMPT = "codes: the code of teru 7; the code of libe 42; ? libe"
STREAMS, TOKENS = 16, 64
SCRAPES = 50
ONE_THREAD = {"SPLITWISE_CPU_MILLIS": "1000"}
"""Of each worker: threads that wait for each other's turns would be most of what is seen."""
SIZED_REQUESTS = 100_000


def http_request(max_tokens: int) -> bytes:
    """A streamed completion, as it goes over the socket."""
    body = {
        "model": "tiny",
        "prompt": PROMPT,
        "max_tokens": max_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
    }
    content = json.dumps(body).encode()
    head = (
        "POST /v1/completions HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n"
        f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


async def stream(port: int, max_tokens: int) -> float:
    """Reads a stream to its end; the time to its first event, in seconds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    began_s = time.perf_counter()
    writer.write(http_request(max_tokens))
    await reader.readuntil(b"data: ")
    ttft_s = time.perf_counter() - began_s
    rest = await reader.read(-1)
    assert b"[DONE]" in rest
    writer.close()
    return ttft_s


async def block(port: int) -> None:
    """Many streams at once."""
    await asyncio.gather(*(stream(port, TOKENS) for _ in range(STREAMS)))


def cpu_s(built: House) -> float:
    """CPU seconds of all its processes since their start."""
    times = [psutil.Process(process.pid).cpu_times() for process in built.processes]
    return float(sum(one.user + one.system for one in times))


async def cpu_ratios(on: House, off: House, rounds: int) -> tuple[list[float], float]:
    """CPU time with over without, a round; and seconds per token without, of all rounds."""
    ratios, without_s = [], 0.0
    for number in range(rounds):
        used = {}
        for built in (on, off) if number % 2 else (off, on):
            before_s = cpu_s(built)
            await block(built.router)
            used[built] = cpu_s(built) - before_s
        ratios.append(used[on] / used[off])
        without_s += used[off]
    return ratios, without_s / (rounds * STREAMS * TOKENS)


async def ttft_differences(on: House, off: House, pairs: int) -> tuple[list[float], float]:
    """TTFT with minus without, a pair; and the median without, in seconds."""
    differences, without = [], []
    for number in range(pairs):
        took = {}
        for built in (on, off) if number % 2 else (off, on):
            took[built] = await stream(built.router, 2)
        differences.append(took[on] - took[off])
        without.append(took[off])
    return differences, statistics.median(without)


def quartiles(name: str, values: list[float]) -> dict[str, float]:
    """The median, and what half of the values are between."""
    low, middle, high = statistics.quantiles(values, n=4)
    return {name: middle, f"{name}_p25": low, f"{name}_p75": high}


def scrape_s(built: House) -> list[float]:
    """Durations of scrapes of a worker."""
    took = []
    for _ in range(SCRAPES):
        scraper = HTTPConnection("127.0.0.1", built.ports["token-status"])
        began_s = time.perf_counter()
        scraper.request("GET", "/metrics")
        page = scraper.getresponse().read()
        took.append(time.perf_counter() - began_s)
        scraper.close()
        assert b"splitwise_worker_step_seconds" in page, page[:200]
    return took


def processes(rounds: int, pairs: int, is_control: bool) -> dict[str, float]:
    """What is measured on real processes; of a control, both sets are unwatched."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        collector = stack.enter_context(collecting())
        traced = {
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.port}",
        }
        for name in ("on", "off", "programs"):
            (directory / name).mkdir()
        bare = programs(directory / "programs")
        watched = ONE_THREAD if is_control else ONE_THREAD | traced
        real = bare if is_control else BIN
        on = stack.enter_context(house(directory / "on", MODEL, None, watched, real))
        off = stack.enter_context(house(directory / "off", MODEL, None, ONE_THREAD, bare))
        for built in (on, off):
            built.start(measured=False)  # no metric of the unwatched says when it is
            asyncio.run(block(built.router))
        ratios, token_s = asyncio.run(cpu_ratios(on, off, rounds))
        differences, ttft_s = asyncio.run(ttft_differences(on, off, pairs))
        scrapes = scrape_s(on)
        spans = len(collector.spans)
    assert is_control or spans > 0, "nothing was traced"
    return {
        **quartiles("cpu_added_percent", [100 * (ratio - 1) for ratio in ratios]),
        "cpu_us_per_token_without": 1e6 * token_s,
        **quartiles("ttft_added_us", [1e6 * difference for difference in differences]),
        "ttft_ms_without": 1e3 * ttft_s,
        "worker_scrape_ms": 1e3 * statistics.median(scrapes),
        "worker_scrape_ms_most": 1e3 * max(scrapes),
        "spans": float(spans),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.watching", description=__doc__)
    parser.add_argument("--rounds", type=int, default=30, help="blocks of streams of each")
    parser.add_argument("--pairs", type=int, default=400, help="single requests of each")
    parser.add_argument("--control", action="store_true", help="compare two unwatched sets")
    asked = parser.parse_args()
    found = processes(asked.rounds, asked.pairs, asked.control)
    for of, sizes in (
        ("router", router_bytes(SIZED_REQUESTS)),
        ("worker", worker_bytes(SIZED_REQUESTS)),
    ):
        found |= {f"{of}_metrics_{name}_bytes": float(size) for name, size in sizes.items()}
    for label, value in found.items():
        print(f"{label:34} {value:12.2f}")
    print(json.dumps({"bench": "watching"} | vars(asked) | found))


if __name__ == "__main__":
    main()
