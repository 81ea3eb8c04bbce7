"""The limits of the cgroups that this process is in, of version 2 and of version 1.

A container that sees the machine's cores and memory may use far less of both, and asking for more
is not refused: threads wait for each other's turns, and memory ends with the kernel's SIGKILL.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Cgroups:
    """Where the kernel shows them; tests have their own."""

    root: Path = Path("/sys/fs/cgroup")
    membership: Path = Path("/proc/self/cgroup")

    def cpus(self) -> Iterator[float]:
        """Every limit that applies, in cores."""
        for group in self._groups("", self.root):
            quota, _, period = _text(group / "cpu.max").partition(" ")
            yield from _cores(quota, period)
        for group in self._groups("cpu", self.root / "cpu"):
            quota, period = _text(group / "cpu.cfs_quota_us"), _text(group / "cpu.cfs_period_us")
            yield from _cores(quota, period)

    def memory_bytes(self) -> Iterator[int]:
        """Every limit that applies."""
        for group in self._groups("", self.root):
            yield from _number(_text(group / "memory.max"))
        for group in self._groups("memory", self.root / "memory"):
            yield from _number(_text(group / "memory.limit_in_bytes"))

    def _groups(self, controller: str, root: Path) -> Iterator[Path]:
        """Our own group and those around it, up to `root`: in a container that is our own."""
        own = ""
        for line in _text(self.membership).splitlines():
            _, controllers, path = line.split(":", 2)
            if controller in controllers.split(","):
                own = path.strip("/")
        for group in (root / own, *(root / own).parents):
            yield group
            if group == root:
                return


def _cores(quota: str, period: str) -> Iterator[float]:
    """A limit; "max", -1 and nothing at all say that there is none."""
    for whole in _number(period):
        yield from (part / whole for part in _number(quota) if whole)


def _number(text: str) -> Iterator[int]:
    if text.strip().isdecimal():
        yield int(text)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError:
        return ""
