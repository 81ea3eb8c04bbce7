"""`python -m bench.watching.calls`: what watching does before a request's first token, by calls.

Each call is timed where it is made: what takes 2 us in a loop takes 50 behind a model's step, which
leaves nothing of it in the processor's caches. A clock around each adds about 0.5 us, and calls of
processes that run at the same time need not make anybody wait: this says where to look, and
`python -m bench.watching` what came of it.
"""

import argparse
import json
import socket
import threading
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from prometheus_client import Counter, Gauge

from bench.watching.load import first_token_ns
from bench.watching.processes import processes
from splitwise_core.histogram import Histogram
from splitwise_core.telemetry import Telemetry
from splitwise_core.tracing import Recorder

NAMES = ("prompt sidecar", "prompt worker", "token sidecar", "token worker", "router")
"""Of the processes, in the order in which they are started."""

WARM_REQUESTS = 200
PAUSE_S = 0.01
"""After a request: what follows it is not to be taken for the next one's."""
SELDOM = 0.5
"""Calls of fewer requests, as of the sampled ones, are not shown: the median does not see them."""


class Call(NamedTuple):
    """What was called on which metric, from when to when by the monotonic clock, in nanoseconds."""

    name: str
    thread: int
    began: int
    ended: int


class _Timed:
    """Notes the calls of functions that it is put in the place of."""

    def __init__(self) -> None:
        self._calls: list[Call] = []

    def put(self, owner: Any, name: str) -> None:
        inner, label = getattr(owner, name), f"{getattr(owner, '__name__', '')}.{name}"
        now, thread, calls = time.monotonic_ns, threading.get_ident, self._calls

        def timed(*given: Any, **named: Any) -> Any:
            began = now()
            try:
                return inner(*given, **named)
            finally:
                ended = now()
                calls.append(Call(f"{label} {_metric(given)}", thread(), began, ended))

        setattr(owner, name, timed)

    def tell(self, door: socket.socket) -> None:
        """Answers each caller with the calls since the one before."""
        while True:
            asker, _ = door.accept()
            calls = self._calls.copy()
            del self._calls[: len(calls)]
            with asker:
                asker.sendall(json.dumps(calls).encode())


def _metric(given: Sequence[Any]) -> str:
    """The metric that a call is about, where it is about one."""
    asked = given[1] if len(given) > 1 else None
    return str(getattr(given[0], "_name", "") or getattr(asked, "name", ""))


def listen(program: str, at: str) -> None:
    """From now on all that metrics and traces add to the process is timed, and told at `at`."""
    timed = _Timed()
    for owner, names in (
        (Counter, ("inc",)),
        (Gauge, ("inc", "dec", "set")),
        (Histogram, ("observe",)),
        (Telemetry, ("counter", "gauge", "histogram")),
        (Recorder, ("add",)),
        *_own(program),
    ):
        for name in names:
            timed.put(owner, name)
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    door.bind(at)
    door.listen(1)
    threading.Thread(target=timed.tell, args=(door,), name="calls", daemon=True).start()


def _own(program: str) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """What a program has beside; each imports only its own."""
    if program == "router":
        from splitwise_router import service

        yield service, ("begin",)
    elif program == "worker":
        from splitwise_worker.estimates import Estimates  # imports torch
        from splitwise_worker.spans import EngineSpans

        yield Estimates, ("stepped",)
        yield EngineSpans, ("admitted",)
    else:
        from splitwise_sidecar.spans import SidecarSpans

        yield SidecarSpans, ("ended",)


def heard(at: Path) -> list[Call]:
    """The calls of a process since it was last asked."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.connect(str(at))
        with asking.makefile("rb") as answer:
            return [Call(*told) for told in json.load(answer)]


def outermost(calls: Sequence[Call]) -> list[Call]:
    """Those that are not within others of their thread: whose time is a part of theirs."""
    outer: dict[int, Call] = {}
    found = []
    for call in sorted(calls, key=lambda call: (call.began, -call.ended)):
        above = outer.get(call.thread)
        if above is None or call.began >= above.ended:
            outer[call.thread] = call
            found.append(call)
    return found


def before_first_token(
    calls: Sequence[Call], requests: Sequence[tuple[int, int]]
) -> dict[str, tuple[float, float]]:
    """Of each call before a request's first token: in which share of the requests, and how many
    microseconds of one that has it, in the median. `requests` are from when to when, in order."""
    spent: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    starts = [began for began, _ in requests]
    for call in outermost(calls):
        number = bisect_right(starts, call.began) - 1
        if number >= 0 and call.began < requests[number][1]:
            spent[call.name][number] += call.ended - call.began
    return {
        name: (len(each) / len(requests), median(each.values()) / 1e3)
        for name, each in spent.items()
    }


def measured(count: int) -> Iterator[dict[str, tuple[float, float]]]:
    """What `before_first_token` finds, of each process, over so many requests."""
    with processes("bench.watching.calls") as (built, sockets, _):
        for _ in range(WARM_REQUESTS):
            first_token_ns(built.router)
        for at in sockets:
            heard(at)
        requests = []
        for _ in range(count):
            requests.append(first_token_ns(built.router))
            time.sleep(PAUSE_S)
        for at in sockets:
            yield before_first_token(heard(at), requests)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.watching.calls", description=__doc__)
    parser.add_argument("--requests", type=int, default=600, help="requests, one after another")
    for name, calls in zip(NAMES, measured(parser.parse_args().requests), strict=True):
        often = {call: took for call, (share, took) in calls.items() if share >= SELDOM}
        print(f"{sum(often.values()):7.1f} us  {name}")
        for call, took in sorted(often.items(), key=lambda one: -one[1]):
            print(f"{took:9.1f} us  {call}")


if __name__ == "__main__":
    main()
