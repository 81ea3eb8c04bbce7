"""`python -m bench.router.placement`: what it costs a router to decide where a request goes.

Sessions without a network, of 10 to 1,000 workers that all have something to do, in each mode of
placement. Before each request a worker reports its load. Prints microseconds of CPU time, for other
processes share the machine: the median and the 99th percentile of the decision alone
(`policy.routing.place`), and of all that the router does for it (`Fleet.find`). The last line is
one JSON object.
"""

import asyncio
import json
import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import median, quantiles
from typing import Any

from splitwise_core.policy.mixing import FIXED, OVERFLOW_TOKENS, Disaggregation, Mixing
from splitwise_core.policy.routing import place
from splitwise_core.rpc import kv_pb2
from splitwise_core.rpc.worker_pb2 import FromWorker, Load, WorkerInfo
from splitwise_router import fleet as router
from splitwise_router.discovery import Endpoint
from splitwise_router.fleet import Fleet
from splitwise_router.session import Served, Session

WORKERS = 10, 100, 1000
REQUESTS = 1000
LINKS = 64
"""That a prompt worker has told of: in a large fleet each measures a few a minute, and those in
use."""

PROMPT = list(range(2000))
MAX_TOKENS = 200
BORROWING = Mixing(borrowing=True)


@dataclass(frozen=True)
class Scene:
    """What of a fleet makes a difference to a decision."""

    mixing: Mixing = FIXED
    links: bool = True
    cut_off: int = 0  # prompt workers with nothing to do, whose links all fail
    mixed: bool = False  # a fifth of the workers
    crowded: bool = False  # every prompt worker
    cached: bool = False  # on as many workers as are remembered
    measured: bool = False
    revisions: int = 1


SCENES = {
    "queues alone": Scene(links=False),
    "links": Scene(),
    "a mixed pool": Scene(mixed=True),
    "two revisions": Scene(revisions=2),
    "a cached prefix": Scene(cached=True),
    "borrowing, calm": Scene(BORROWING),
    "borrowing, crowded": Scene(BORROWING, crowded=True),
    "Auto, measured": Scene(Mixing(True, Disaggregation.AUTO), measured=True),
    "Never, measured": Scene(Mixing(True, Disaggregation.NEVER), measured=True),
    "two workers cut off": Scene(cut_off=2),
}


class Timed:
    """A function that notes how long each of its calls takes, in microseconds of CPU time."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.times: list[float] = []
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        began = time.thread_time()
        result = self._function(*arguments)
        self.times.append(1e6 * (time.thread_time() - began))
        return result

    def figures(self, name: str) -> dict[str, float]:
        return {
            f"{name}_us": round(median(self.times), 1),
            f"{name}_p99_us": round(quantiles(self.times, n=100)[98], 1),
        }


async def wait(session: Session) -> None:
    """In place of a session's stream."""
    await asyncio.Event().wait()


def load(draw: random.Random, scene: Scene, role: str) -> Load:
    """What a busy worker says."""
    crowd = OVERFLOW_TOKENS if scene.crowded and role == "prompt" else 0
    return Load(
        ready=True,
        queued_tokens=crowd + draw.randrange(100, 8000) * (role != "token"),
        running=draw.randrange(30),
        running_tokens=draw.randrange(90_000),
        free_blocks=draw.randrange(1000),
        free_sequences=30,
        prompt_tokens_per_s=8000.0 * scene.measured,
        step_base_s=0.03 * scene.measured,
        step_slope_s=0.0002 * scene.measured,
        prompt_share=0.2,
    )


def connect(session: Session, number: int, said: Load, scene: Scene) -> None:
    info = WorkerInfo(
        model="echo",
        revision=str(number // 5 % scene.revisions),
        sidecar=f"{session.endpoint.pod}:2",
        num_blocks=1000,
        max_sequences=64,
        block_tokens=32,
        kv_token_bytes=131072,
        num_layers=32,
        incarnation=1 + number,
    )
    session._receive(FromWorker(info=info, load=said))
    session.prompted(8000, 1.0)


def tell_links(
    fleet: Fleet, cut_off: Sequence[Session], draw: random.Random, known: int = LINKS
) -> None:
    """Every worker of prompts tells of `known` of its links, and one that is cut off of all."""
    tokens = [session for session in fleet.sessions if session.endpoint.role != "prompt"]
    for session in fleet.sessions:
        if session.endpoint.role != "token":
            fails = session in cut_off
            links = [
                kv_pb2.Link(
                    peer=f"{other.endpoint.pod}:2",
                    outcome=kv_pb2.PEER_LOST if fails else kv_pb2.OK,
                    latency_s=0.0005,
                    bytes_per_s=1e10,
                )
                for other in (tokens if fails else draw.sample(tokens, min(known, len(tokens))))
            ]
            session._receive(FromWorker(links=links))


async def measure(workers: int, scene: Scene) -> dict[str, float]:
    """Times of REQUESTS decisions, and of the reports between them."""
    draw = random.Random(7)
    log = logging.Logger("bench", logging.CRITICAL)
    fleet = Fleet(Served("echo", b""), OVERFLOW_TOKENS, log, mixing=scene.mixing)
    pool = ("prompt", "token", "token", "prompt", "mixed" if scene.mixed else "token")
    fleet.apply([Endpoint("", f"w{n:04}", pool[n % 5], pool[n % 5]) for n in range(workers)])
    for number, session in enumerate(fleet.sessions):
        connect(session, number, load(draw, scene, session.endpoint.role), scene)
    prompts = [s for s in fleet.sessions if s.endpoint.role == "prompt"]
    cut_off = prompts[: scene.cut_off]
    for session in cut_off:
        session._receive(FromWorker(load=Load(ready=True, free_blocks=1000, free_sequences=30)))
    if scene.links:
        tell_links(fleet, cut_off, draw)
    names = fleet.prefixes.names(PROMPT) if scene.cached else []
    fleet.prefixes.note(names, *islice(fleet.sessions, 20, 52))
    reported = Timed(lambda session, said: session._receive(FromWorker(load=said)))
    decided, found = Timed(place), Timed(fleet.find)
    router.place = decided  # type: ignore[attr-defined, assignment]
    for _ in range(REQUESTS):
        session = draw.choice([s for s in fleet.sessions if s not in cut_off])
        reported(session, load(draw, scene, session.endpoint.role))
        found(len(PROMPT), MAX_TOKENS, (), None, names)
    await fleet.close()
    return decided.figures("place") | found.figures("find") | reported.figures("report")


async def figures() -> list[dict[str, Any]]:
    """One row a scene and size of the fleet, printed as they come."""
    Session.run = wait  # type: ignore[assignment, method-assign]
    rows = []
    for name, scene in SCENES.items():
        for workers in WORKERS:
            row = await measure(workers, scene)
            print(
                f"{name:20} {workers:5} workers:  place {row['place_us']:6.0f} us"
                f" (P99 {row['place_p99_us']:6.0f})  find {row['find_us']:6.0f} us"
                f" (P99 {row['find_p99_us']:6.0f})"
            )
            rows.append({"scene": name, "workers": workers} | row)
    return rows


def main() -> None:
    print(json.dumps({"bench": "placement", "rows": asyncio.run(figures())}))


if __name__ == "__main__":
    main()
