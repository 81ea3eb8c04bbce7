"""`python -m tests.soak.drains`: streams while workers of both roles are drained, again and again.

Starts a cluster as a user would, answers every prompt once undisturbed, then asks for streams while
random workers are told to end. The last line is JSON; the exit code is 1 when a promise broke.
"""

import argparse
import asyncio
import json
import os
import random
import re
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
from openai import APIError, AsyncOpenAI

from tests.support.cluster import Cluster, running, write_cluster
from tests.support.ports import free_port
from tests.support.streams import is_last, stream_of, tokens_in

ROLES: Final = ("prompt", "token")
POOLS: Final = [
    {"name": "prompt", "role": "prompt", "replicas": 2, "kvMemory": "256Mi"},
    {"name": "token", "role": "token", "replicas": 3, "kvMemory": "256Mi"},
]
AT_ONCE: Final = 24
PROMPTS: Final = 32
PROMPT_TOKENS: Final = (10, 400)
OUTPUT_TOKENS: Final = (50, 700)
STREAM_S: Final = 300.0
POLL_S: Final = 0.1
TOLD_S: Final = 10.0
"""So often it is said on stderr how far it is."""


@dataclass(frozen=True)
class Asked:
    """One request, the same whenever it is asked."""

    prompt: list[int]
    tokens: int


@dataclass
class Seen:
    """What came of all streams."""

    streams: int = 0
    lost: list[str] = field(default_factory=list)
    short: int = 0
    repeated: int = 0
    mismatched: int = 0

    def note(self, tokens: list[str], expected: list[str], error: str) -> None:
        """One stream that has ended."""
        self.streams += 1
        if error:
            self.lost.append(error)
        elif tokens != expected:
            self.short += len(tokens) < len(expected)
            self.repeated += len(tokens) > len(expected)
            self.mismatched += len(tokens) == len(expected)

    @property
    def is_right(self) -> bool:
        return not (self.lost or self.short or self.repeated or self.mismatched)


class Drains:
    """Runs once against a cluster."""

    def __init__(
        self, cluster: Cluster, streams: int, drains: int, minutes: float, seed: int
    ) -> None:
        self._cluster = cluster
        self._streams = streams
        self._drains = drains
        self._over_s = time.monotonic() + minutes * 60
        self._draw = random.Random(seed)
        self._asked = [self._new() for _ in range(PROMPTS)]
        self._seen = Seen()
        self._drained: list[str] = []  # roles, in order
        self._began = 0

    def _new(self) -> Asked:
        prompt = [self._draw.randrange(3, 40) for _ in range(self._draw.randint(*PROMPT_TOKENS))]
        return Asked(prompt, self._draw.randint(*OUTPUT_TOKENS))

    async def run(self) -> dict[str, Any]:
        """What was seen."""
        url = f"{self._cluster.url}/v1"
        async with AsyncOpenAI(
            base_url=url, api_key="none", max_retries=0, timeout=STREAM_S
        ) as client:
            expected = await self._undisturbed(client)
            began_s = time.monotonic()
            async with asyncio.TaskGroup() as group:
                telling = group.create_task(self._tell())
                for _ in range(AT_ONCE):
                    group.create_task(self._client(client, expected))
                await group.create_task(self._chaos())
                telling.cancel()
        return self._report(time.monotonic() - began_s)

    async def _undisturbed(self, client: AsyncOpenAI) -> list[list[str]]:
        slots = asyncio.Semaphore(AT_ONCE)

        async def once(asked: Asked) -> list[str]:
            async with slots:
                tokens, error = await follow(client, asked)
                assert not error, error
                assert len(tokens) == asked.tokens
                return tokens

        return await asyncio.gather(*(once(asked) for asked in self._asked))

    async def _client(self, client: AsyncOpenAI, expected: list[list[str]]) -> None:
        """One stream after the other, as long as there are streams or drains to come."""
        while not self._is_over and (
            self._began < self._streams or len(self._drained) < self._drains
        ):
            self._began += 1
            number = self._draw.randrange(PROMPTS)
            tokens, error = await follow(client, self._asked[number])
            self._seen.note(tokens, expected[number], error)

    @property
    def _is_over(self) -> bool:
        return time.monotonic() > self._over_s

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(TOLD_S)
            print(self._seen, len(self._drained), "drains", file=sys.stderr, flush=True)

    async def _chaos(self) -> None:
        """Drains spread over the streams, never the last ready worker of a role."""
        while len(self._drained) < self._drains and not self._is_over:
            await asyncio.sleep(POLL_S)
            if self._seen.streams < self._streams * len(self._drained) / self._drains:
                continue
            status = await asyncio.to_thread(self._cluster.status)
            ready = [pod for pod in status["pods"] if pod["ready"] and pod["role"] in ROLES]
            self._draw.shuffle(ready)
            for victim in ready:
                if sum(pod["role"] == victim["role"] for pod in ready) > 1:
                    (pid,) = (one["pid"] for one in victim["containers"] if one["name"] == "worker")
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGTERM)
                        self._drained.append(victim["role"])
                        await asyncio.to_thread(_until_gone, pid)
                    break

    def _report(self, took_s: float) -> dict[str, Any]:
        drained = [line for pod in self._cluster.pods() for line in self._log(pod, "drained")]
        moved = list(self._log(self._cluster.pods("router")[0], "a stream's move: moved"))
        seconds = [float(line["seconds"]) for line in drained]
        pauses = sorted((float(line["pause_s"]), int(line["kv_bytes"])) for line in moved)
        metrics = self._cluster.metrics(self._cluster.pods("router")[0])
        ranks = {"median": 0.5, "p99": 0.99, "max": 1.0}
        return {
            "streams": self._seen.streams,
            "lost": len(self._seen.lost),
            "short": self._seen.short,
            "repeated": self._seen.repeated,
            "mismatched": self._seen.mismatched,
            "errors": sorted(set(self._seen.lost))[:5],
            "drains": {role: self._drained.count(role) for role in ROLES},
            "drain_s": {"median": statistics.median(seconds), "max": max(seconds)},
            "stayed": sum(int(line["stays"]) for line in drained),
            "returned": sum(int(line["returns"]) for line in drained),
            "moved": len(moved),
            "moves_failed": metrics.value("splitwise_router_moves_total", move="failed"),
            "retries": metrics.value("splitwise_router_retries_total"),
            "pause_s": {name: _at(pauses, share) for name, share in ranks.items()},
            "moved_kv_bytes": {
                "median": statistics.median(kv for _, kv in pauses) if pauses else 0,
                "max": max((kv for _, kv in pauses), default=0),
            },
            "seconds": round(took_s, 1),
            "is_right": self._seen.is_right,
        }

    def _log(self, pod: dict[str, Any], message: str) -> Iterator[dict[str, str]]:
        """The fields of each line of a pod that says so."""
        for file in self._cluster.state_dir.rglob(f"{pod['name']}.*.log"):
            for line in file.read_text(errors="replace").splitlines():
                if f'msg="{message}"' in line:
                    yield dict(re.findall(r"(\w+)=(\S+)", line))


def _until_gone(pid: int) -> None:
    """Returns when the process has ended, and the cluster's status has had the time to say so."""
    while Path(f"/proc/{pid}").exists():
        time.sleep(POLL_S)
    time.sleep(10 * POLL_S)


def _at(pauses: list[tuple[float, int]], share: float) -> float:
    """The pause that so many of all do not exceed."""
    return pauses[min(len(pauses) - 1, int(share * len(pauses)))][0] if pauses else 0.0


async def follow(client: AsyncOpenAI, asked: Asked) -> tuple[list[str], str]:
    """A stream to its end: its tokens, and what went wrong."""
    tokens: list[str] = []
    finished = False
    try:
        async with stream_of(client, asked.prompt, asked.tokens) as answer:
            async for chunk in answer:
                tokens += tokens_in(chunk)
                finished |= is_last(chunk)
    except (APIError, httpx.HTTPError) as error:
        return tokens, repr(error)
    return tokens, "" if finished else "it ended and said nothing"


def main() -> int:
    """0 when every stream was as if nothing had happened."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.drains", description=__doc__)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--drains", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=60.0, help="at most")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model", type=Path, default=Path(".cache/models/tiny"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="drains-") as place:
        file = write_cluster(Path(place), given.model.absolute(), pools=POOLS)
        with running(file, Path(place) / "state", "--port", str(free_port())) as cluster:
            report = asyncio.run(
                Drains(cluster, given.streams, given.drains, given.minutes, given.seed).run()
            )
    print(json.dumps(report))
    return 0 if report["is_right"] else 1


if __name__ == "__main__":
    sys.exit(main())
