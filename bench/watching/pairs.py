"""Blocks of load, watched and unwatched in turn, and what differs between neighbours."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import TypeVar, cast

from bench.watching.load import first_token_ns, streams
from bench.watching.paired import interval
from bench.watching.switch import Switches
from tests.support.house import House

STREAMS, TOKENS = 64, 64
WARM_STREAMS = 16
"""After a switch: the interpreter specialises its code anew."""
OVER_S = 0.02
"""What processes do after the last token has come."""
SETTLED_S = 0.005
"""After a request: what processes do then is not to be taken for the next one's."""
ANSWERED = "splitwise_request_e2e_seconds_count"

PROGRAMS = ("router", "worker", "sidecar")

Block = TypeVar("Block")


class Bench:
    """One set of processes. A control is never switched off: it shows what noise looks like."""

    def __init__(self, built: House, switches: Switches, is_control: bool) -> None:
        self._built = built
        self._switches = switches
        self._is_control = is_control
        self._names = [
            Path(cast(list[str], process.args)[0]).name.removeprefix("splitwise-")
            for process in built.processes
        ]

    def switch(self, watched: bool) -> None:
        """From now on all processes are watched, or none."""
        self._switches.say("on" if watched or self._is_control else "off")

    def check(self) -> None:
        """Raises AssertionError unless each answer is counted while watched, and else none."""
        for watched in (True, False):
            self.switch(watched)
            before = self._built.metric("router", ANSWERED)
            asyncio.run(streams(self._built.router, WARM_STREAMS, TOKENS))
            counted = self._built.metric("router", ANSWERED) - before
            expected = WARM_STREAMS if watched or self._is_control else 0
            assert counted == expected, f"{counted} answers counted, {expected} expected"

    def cpu_block(self) -> Counter[str]:
        """CPU nanoseconds of a block: of each program, without the threads that send spans, and of
        the model, which is a part of the workers."""
        asyncio.run(streams(self._built.router, WARM_STREAMS, TOKENS))
        time.sleep(OVER_S)
        before = self._used()
        asyncio.run(streams(self._built.router, STREAMS, TOKENS))
        time.sleep(OVER_S)
        return self._used() - before

    def _used(self) -> Counter[str]:
        used: Counter[str] = Counter()
        for name, process in zip(self._names, self._switches.say("used"), strict=True):
            used[name] += process.cpu - process.sender
            used["model"] += process.model_cpu
        return used

    def ttft_block(self) -> tuple[float, float]:
        """The time to the first token of one request, and what of it the model took, in seconds.

        The second token is the token worker's: the prompt worker has computed the first alone.
        """
        prompt = self._names.index("worker")
        before = self._switches.say("used")[prompt].model_wall
        began, first = first_token_ns(self._built.router)
        time.sleep(SETTLED_S)
        return (first - began) / 1e9, (self._switches.say("used")[prompt].model_wall - before) / 1e9

    def sent_ns(self) -> int:
        """CPU nanoseconds of all threads that send spans, since the processes began.

        Of a control 0: spans are sent in both blocks of a pair.
        """
        if self._is_control:
            return 0
        return sum(process.sender for process in self._switches.say("used"))

    def pairs(self, count: int, block: Callable[[], Block]) -> Iterator[tuple[Block, Block]]:
        """So many pairs of blocks, each watched and unwatched, and every other one the other way
        round: there is one switch a pair."""
        for number in range(count):
            order = (True, False) if number % 2 else (False, True)
            found = {}
            for watched in order:
                self.switch(watched)
                found[watched] = block()
            yield found[True], found[False]


def cpu_found(bench: Bench, count: int) -> dict[str, float]:
    """CPU time for a token: what watching adds, and what there is without.

    Both blocks of a pair compute the same with the model, and a machine that is slow for one of
    them is slow for that as well. So all times are taken in units of the model's.
    """
    ratios, added, token_us, model_us = [], [], [], []
    sent_before = bench.sent_ns()
    for on, off in bench.pairs(count, bench.cpu_block):
        units = {name: on[name] / on["model"] - off[name] / off["model"] for name in PROGRAMS}
        without = sum(off[name] for name in PROGRAMS)
        ratios.append(sum(units.values()) * off["model"] / without)
        added.append(units)
        token_us.append(without / 1e3 / (STREAMS * TOKENS))
        model_us.append(off["model"] / 1e3 / (STREAMS * TOKENS))
    watched_tokens = count * (STREAMS + WARM_STREAMS) * TOKENS
    sent_us = (bench.sent_ns() - sent_before) / 1e3 / watched_tokens
    sent_percent = 100 * sent_us / median(token_us)
    return {
        **shown("cpu_added_percent", [100 * ratio + sent_percent for ratio in ratios]),
        "cpu_us_per_token_without": median(token_us),
        **{
            f"cpu_added_us_per_token_{name}": median(units[name] for units in added)
            * median(model_us)
            for name in PROGRAMS
        },
        "cpu_added_us_per_token_sending_spans": sent_us,
    }


def ttft_found(bench: Bench, count: int) -> dict[str, float]:
    """What watching adds to the time to the first token, and its median without.

    Compared is what the model leaves of it: its own time only adds noise.
    """
    added, without = [], []
    for on, off in bench.pairs(count, bench.ttft_block):
        added.append(1e6 * ((on[0] - on[1]) - (off[0] - off[1])))
        without.append(1e3 * off[0])
    return shown("ttft_added_us", added) | {"ttft_ms_without": median(without)}


def shown(name: str, values: list[float]) -> dict[str, float]:
    """The median and its interval."""
    low, middle, high = interval(values)
    return {name: middle, f"{name}_low": low, f"{name}_high": high}
