"""Equal parts of the cores for workers that are more than the cores: a quota of the kernel each."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Final

from psutil import Process

from bench.cluster.setups import Running

LEFT: Final = 0.3
"""Part of the cores that workers leave to the router, the sidecars and the load's own process."""

ROOT: Final = Path("/sys/fs/cgroup")
VERSION_1: Final = ROOT / "cpu"
PERIOD_US: Final = 20_000
"""Who has used up its part waits for less than that, which is short beside a prompt."""


def shared(cluster: Running, cores: int) -> AbstractContextManager[None]:
    """Each worker has a core of its own, or where there are too few, an equal part of them."""
    workers = cluster.workers()
    if cores > len(workers):
        return nullcontext()
    return limited(workers, (1 - LEFT) * cores / len(workers))


@contextmanager
def limited(processes: Sequence[Process], cores: float) -> Iterator[None]:
    """Gives each process so many cores until the end of the block, by a cgroup of its own.

    Raises SystemExit where this user may make none.
    """
    parent = VERSION_1 if VERSION_1.is_dir() else ROOT
    groups = [parent / f"splitwise-bench-{process.pid}" for process in processes]
    try:
        for group, process in zip(groups, processes):
            _limit(group, process, round(cores * PERIOD_US))
        yield
    finally:
        for group in groups:
            _end(group)


def _limit(group: Path, process: Process, quota_us: int) -> None:
    files = {"cpu.max": f"{quota_us} {PERIOD_US}"}
    if group.parent == VERSION_1:
        files = {"cpu.cfs_period_us": str(PERIOD_US), "cpu.cfs_quota_us": str(quota_us)}
    try:
        group.mkdir()
        for name, text in (files | {"cgroup.procs": str(process.pid)}).items():
            (group / name).write_text(text)
    except OSError as error:
        fix = "run it as root, or with more cores than workers"
        raise SystemExit(f"{error}\n  fix: {fix}") from error


def _end(group: Path) -> None:
    """Takes a group away; what runs in it goes back to the one above."""
    if group.is_dir():
        for pid in (group / "cgroup.procs").read_text().split():
            (group.parent / "cgroup.procs").write_text(pid)
        group.rmdir()
