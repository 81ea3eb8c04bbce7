"""How many compute threads a worker runs: as many whole cores as it may really use.

Torch counts the machine's cores. In a container that may use fewer of them, threads then wait for
each other's turns: measured 10 to 40 times slower than with one thread a core.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from splitwise_core.errors import UserError

CPU_MILLIS: Final = "SPLITWISE_CPU_MILLIS"
"""The container's CPU limit in thousandths of a core, as Kubernetes' downward API tells it."""


def compute_threads(
    environment: Mapping[str, str],
    cores: int,
    cgroups: Path = Path("/sys/fs/cgroup"),
    membership: Path = Path("/proc/self/cgroup"),
) -> int:
    """Whole cores, at least one: the least of `cores`, the environment's limit and the cgroup's.

    Raises UserError when the environment's limit is no number.
    """
    limits = [float(cores), *_quotas(cgroups, membership)]
    if (millis := environment.get(CPU_MILLIS)) is not None:
        if not millis.isdecimal():
            raise UserError(
                "environment",
                where=CPU_MILLIS,
                wrong=f"{millis!r} is no whole number",
                fix="set it to thousandths of a core, for example 2000, or leave it unset",
            )
        limits.append(int(millis) / 1000)
    return max(1, int(min(limits)))


def _quotas(cgroups: Path, membership: Path) -> Iterator[float]:
    """The CPU limits, in cores, of our cgroup and of those around it (version 2, then 1)."""
    lines = _text(membership).splitlines()
    own = next((line[3:].strip("/") for line in lines if line.startswith("0::")), "")
    for group in (cgroups / own, *(cgroups / own).parents):
        quota, _, period = _text(group / "cpu.max").partition(" ")
        yield from _cores(quota, period)
        if group == cgroups:
            break
    first = cgroups / "cpu"
    yield from _cores(_text(first / "cpu.cfs_quota_us"), _text(first / "cpu.cfs_period_us"))


def _cores(quota: str, period: str) -> Iterator[float]:
    """A limit; "max", -1 and nothing at all say that there is none."""
    if quota.strip().isdecimal() and period.strip().isdecimal() and int(period) > 0:
        yield int(quota) / int(period)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError:
        return ""
