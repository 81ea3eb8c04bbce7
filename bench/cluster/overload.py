"""Twice the load that a cluster can take: what is answered in time, and how it recovers."""

import re
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from math import sqrt
from pathlib import Path
from typing import Any, Final

from bench.cluster import memory
from bench.cluster.load import Report, Trace, bench
from bench.cluster.setups import Running

STEPS: Final = (0.4, 0.6, 0.8, 1.0)
"""Parts of the capacity at which the best goodput is looked for."""

STEP_S: Final = 20.0
RECOVERY_S: Final = 20.0
"""After the load has dropped, a cluster may still have something to work off. The report of so long
a run has slices of a second."""

RECOVERED_SLICES: Final = 5
"""In one second there are too few requests to tell."""

SAMPLE_S: Final = 1.0
MEMORY_LOOKS: Final = 5
"""Memory is looked at each so many samples: the kernel walks through all pages for it."""

_QUEUED: Final = re.compile(r"^splitwise_router_queued_requests (\S+)$", re.MULTILINE)


@dataclass(slots=True)
class Samples:
    """What was seen of the cluster's processes, second by second."""

    memory_bytes: dict[str, list[int]] = field(default_factory=dict)
    queued: list[float] = field(default_factory=list)


def overload(
    cluster: Running, load: Trace, capacity: float, slo: list[str], seconds: float, place: Path
) -> dict[str, Any]:
    """Figures of `seconds` at twice `capacity` requests a second, and of before and after."""
    seeds = count(1)  # the same prompts again would be found in the prefix cache

    def sent(part: float, for_s: float) -> Report:
        rate = load.options(part * capacity, for_s)
        return bench(cluster.url, [*rate, *slo, "--seed", str(next(seeds))], place)

    peak = 0.0
    for part in STEPS:
        report = sent(part, STEP_S)
        print(f"{part:.1f} of the capacity: goodput {report['goodput_rps']:.2f}/s", flush=True)
        peak = max(peak, report["goodput_rps"])
    calm = sent(STEPS[0], STEP_S)
    with sampled(cluster) as samples:
        report = sent(2.0, seconds)
    recovering, after = sent(STEPS[0], RECOVERY_S), sent(STEPS[0], STEP_S)
    return {
        "capacity_rps": capacity,
        "peak_goodput_rps": peak,
        "goodput_rps": report["goodput_rps"],
        "goodput_of_peak": report["goodput_rps"] / peak if peak else None,
        "requests": report["requests"],
        "rejected_without_retry_after": report["rejected_without_retry_after"],
        "ttft_s": report["ttft_s"],
        "tbt_s": report["tbt_s"],
        "most_queued": max(samples.queued),
        "memory": memory.told(samples.memory_bytes),
        "last_answer_after_s": report["seconds"] - seconds,
        "recovery_s": recovery_s(calm["goodput_ratio"], recovering["timeline"]),
        "goodput_ratio_before": calm["goodput_ratio"],
        "goodput_ratio_recovering": recovering["goodput_ratio"],
        "goodput_ratio_after": after["goodput_ratio"],
        "problems": report["problems"],
    }


def recovery_s(before: float, timeline: Mapping[str, Any]) -> float | None:
    """Seconds from the first request after an overload until as many are good as `before` it.

    That is when the part of RECOVERED_SLICES is at most two standard errors of a part below it.
    None when that was not seen.
    """
    slices = timeline["slices"]
    for first in range(len(slices) - RECOVERED_SLICES + 1):
        some = slices[first : first + RECOVERED_SLICES]
        sent = sum(one["sent"] for one in some)
        error = sqrt(before * (1 - before) / sent) if sent else 0.0
        if sent and sum(one["good"] for one in some) / sent >= before - 2 * error:
            return float(first * timeline["slice_s"])
    return None


def told(result: Mapping[str, Any]) -> list[str]:
    """The same for people: queue, refusals, goodput, recovery, and memory by component."""
    counts, part = result["requests"], result["goodput_of_peak"]
    recovered = result["recovery_s"]
    lines = [
        f"queue: {result['most_queued']:.0f} requests at most",
        f"429: {counts['rejected']} of {counts['sent']} requests, "
        f"{result['rejected_without_retry_after']} of them without Retry-After; "
        f"{counts['failed'] + counts['lost'] + counts['wrong']} failed, lost or wrong",
        f"goodput: {result['goodput_rps']:.2f}/s"
        + ("" if part is None else f", {part:.0%} of its peak"),
        f"last answer: {result['last_answer_after_s']:.1f} s after the load had dropped",
        "recovery: " + ("not seen" if recovered is None else f"{recovered:.0f} s"),
    ]
    for name, its in result["memory"].items():
        second, last = its["second_quarter_bytes"] / 1e6, its["last_quarter_bytes"] / 1e6
        course = f"{second:.0f} MB in the second quarter, {last:.0f} MB in the last"
        lines.append(f"memory of {name}: {course}: {'flat' if its['is_flat'] else 'it grows'}")
    return lines


@contextmanager
def sampled(cluster: Running) -> Iterator[Samples]:
    """Looks at the processes until the end of the block, once at least."""
    samples, over = Samples(), threading.Event()

    def look() -> None:
        for number in count():
            if number % MEMORY_LOOKS == 0:
                for name, taken in memory.look(cluster).items():
                    samples.memory_bytes.setdefault(name, []).append(taken)
            texts = [urllib.request.urlopen(u).read().decode() for u in cluster.router_metrics()]
            found = [float(number) for text in texts for number in _QUEUED.findall(text)]
            samples.queued.append(sum(found))
            if over.wait(SAMPLE_S):
                return

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield samples
    finally:
        over.set()
        thread.join()
