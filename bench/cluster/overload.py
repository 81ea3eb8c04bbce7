"""Twice the load that a cluster can take: what is answered in time, and how it recovers."""

import re
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final

from bench.cluster.load import Report, Trace, bench
from bench.cluster.setups import Running

STEPS: Final = (0.4, 0.6, 0.8, 1.0)
"""Parts of the capacity at which the best goodput is looked for."""

STEP_S: Final = 20.0
RECOVERY_S: Final = 10.0
"""After the load has dropped, a cluster may still have something to work off."""

SAMPLE_S: Final = 1.0
_QUEUED: Final = re.compile(r"^splitwise_router_queued_requests (\S+)$", re.MULTILINE)


@dataclass(slots=True)
class Samples:
    """What was seen of the cluster's processes, second by second."""

    memory_bytes: list[int] = field(default_factory=list)
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
    with sampled(cluster) as before:
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
        "memory_before_bytes": max(before.memory_bytes),
        "memory_first_bytes": samples.memory_bytes[len(samples.memory_bytes) // 10],
        "memory_half_bytes": samples.memory_bytes[len(samples.memory_bytes) // 2],
        "memory_most_bytes": max(samples.memory_bytes),
        "last_answer_after_s": report["seconds"] - seconds,
        "goodput_ratio_before": calm["goodput_ratio"],
        "goodput_ratio_recovering": recovering["goodput_ratio"],
        "goodput_ratio_after": after["goodput_ratio"],
        "problems": report["problems"],
    }


@contextmanager
def sampled(cluster: Running) -> Iterator[Samples]:
    """Looks at the processes until the end of the block, once at least."""
    samples, over = Samples(), threading.Event()
    processes = cluster.processes()

    def look() -> None:
        while True:
            samples.memory_bytes.append(sum(p.memory_info().rss for p in processes))
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
