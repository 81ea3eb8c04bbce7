"""Memory of a cluster by component, as it goes on, and whether it still grows.

Proportional set sizes, as the kernel counts them: a page that processes share is counted once, in
equal parts. Pages of files, which the kernel drops when it needs room, are not counted. Shared
memory is the KV-caches, which a worker and its sidecar map; it is told by itself.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench.cluster.setups import Running

FLAT: Final = 1.02
"""Memory is flat when the last quarter's median is at most so many times the second quarter's.

The first quarter is left out: caches fill up, and allocators meet their largest batches."""

KV_CACHES: Final = "KV-caches"
ALL: Final = "all"

Course = Mapping[str, Sequence[int]]
"""By component, bytes at one look after the other."""


def look(cluster: Running) -> dict[str, int]:
    """Bytes of each component now, of the KV-caches, and of all."""
    found = {KV_CACHES: 0}
    for name, pids in cluster.components().items():
        rolled = [_rolled_up(pid) for pid in pids]
        found[name] = sum(one["Pss_Anon"] for one in rolled)
        found[KV_CACHES] += sum(one["Pss_Shmem"] for one in rolled)
    return found | {ALL: sum(found.values())}


def told(course: Course) -> dict[str, dict[str, Any]]:
    """What the report has of each component. Of fewer than four looks nothing is told."""
    return {name: _told(looks) for name, looks in course.items() if len(looks) >= 4}


def _told(looks: Sequence[int]) -> dict[str, Any]:
    quarter = len(looks) // 4
    second, last = median(looks[quarter : 2 * quarter]), median(looks[-quarter:])
    return {
        "second_quarter_bytes": second,
        "last_quarter_bytes": last,
        "most_bytes": max(looks),
        "is_flat": last <= FLAT * second,
    }


def _rolled_up(pid: int) -> dict[str, int]:
    """The kernel's sums over a process's memory, in bytes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    pairs = (line.split() for line in lines)
    return {name.rstrip(":"): int(kib) * 1024 for name, kib, _ in pairs}
