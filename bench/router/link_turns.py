"""`python -m bench.router.link_turns`: what it costs a router to see which links are due.

Sessions without a network, a prompt worker of every five; each prompt worker has told of some links
to token workers, or of three quarters of them. A tick comes every second of a clock that the bench
moves. Prints milliseconds of CPU time, for other processes share the machine: the median and the
most. The last line is one JSON object.
"""

import asyncio
import json
import logging
import random
import time
from statistics import median
from typing import Any, Final

from bench.router.placement import LINKS, WORKERS, Scene, connect, load, tell_links, wait
from splitwise_core.policy.mixing import OVERFLOW_TOKENS
from splitwise_router.discovery import Endpoint
from splitwise_router.fleet import Fleet
from splitwise_router.session import Served, Session

POOLS: Final = ("prompt", "token", "token", "token", "token")
TICKS: Final = 120


async def measure(workers: int, links: int) -> dict[str, Any]:
    """Milliseconds of TICKS ticks, and how many links they asked for."""
    draw, scene = random.Random(7), Scene()
    fleet = Fleet(Served("echo", b""), OVERFLOW_TOKENS, logging.Logger("bench", logging.CRITICAL))
    fleet.apply([Endpoint("", f"w{n:04}", POOLS[n % 5], POOLS[n % 5]) for n in range(workers)])
    for number, session in enumerate(fleet.sessions):
        connect(session, number, load(draw, scene, session.endpoint.role), scene)
    tell_links(fleet, (), draw, links)
    times_ms, asked, now_s = [], 0, time.monotonic()
    fleet.links._clock = lambda: now_s
    for _ in range(TICKS):
        now_s += 1
        began_s = time.thread_time()
        fleet.links.tick(fleet.sessions)
        times_ms.append(1e3 * (time.thread_time() - began_s))
        for session in fleet.sessions:
            while not session._outbox.empty():
                session._outbox.get_nowait()
                asked += 1
    await fleet.close()
    return {
        "workers": workers,
        "links": links,
        "tick_ms": round(median(times_ms), 3),
        "most_ms": round(max(times_ms), 3),
        "asked": asked,
    }


async def figures() -> list[dict[str, Any]]:
    """One row a size of the fleet and number of links, printed as they come."""
    Session.run = wait  # type: ignore[assignment, method-assign]
    rows = []
    for workers in WORKERS:
        for links in (min(LINKS, workers // 5), workers * 3 // 5):
            row = await measure(workers, links)
            print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
            rows.append(row)
    return rows


def main() -> None:
    print(json.dumps({"bench": "link turns", "rows": asyncio.run(figures())}))


if __name__ == "__main__":
    main()
