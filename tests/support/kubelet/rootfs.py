"""A container's own view of the file system: this machine's, its volumes, and a /dev.

What it writes elsewhere is in memory and goes with it. Users are not changed: where a pod asks to
run as somebody, the process is root all the same, since nobody else may read a home directory's
Python.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import Final

from splitwise_cli.runner.environment import Invocation

PROJECT: Final = Path(__file__).parents[3]
"""Has the containers' programs: an image holds nothing."""
_DEVICES: Final = ("null", "zero", "full", "random", "urandom", "tty")
_STREAMS: Final = {"fd": "", "stdin": "/0", "stdout": "/1", "stderr": "/2"}


@dataclass(frozen=True, slots=True)
class Mount:
    """A file or directory of this machine, and where the container sees it."""

    source: Path
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Contained(Invocation):
    """An invocation whose hooks run in the mounts of the container's process `pid`."""

    pid: int | None = None

    def beside(self, pid: int | None) -> "Contained":
        """As this, for commands that run beside the container's process `pid`."""
        return replace(self, pid=pid)

    def local(self, command: Sequence[str]) -> list[str]:
        """A command of a probe or hook, in the container's mounts."""
        join = [_program("nsenter"), f"--target={self.pid}", "--mount", "--root", "--wd"]
        return [*join, "--", *Invocation.local(self, command)]


def contained(
    invocation: Invocation,
    mounts: Sequence[Mount],
    scratch: Path,
    read_only: bool,
    working_directory: str | None = None,
) -> Contained:
    """As `invocation`, in mounts of its own; `scratch` is an empty directory, and stays one.

    With `read_only` nothing but volumes and /dev/shm can be written.
    """
    script = _script(_with_programs(mounts), scratch, read_only, _mount_points())
    inside = [_program("chroot"), str(scratch / "root")]
    if working_directory is not None:
        inside += [_program("env"), f"--chdir={working_directory}"]
    shell = [_program("unshare"), "--mount", "--", "sh", "-c", script, "sh"]
    return Contained([*shell, *inside, *invocation.argv], invocation.env, {})


def _with_programs(mounts: Sequence[Mount]) -> list[Mount]:
    """The mounts, and over them the project's own directory where a volume would hide it."""
    hides = any(PROJECT.is_relative_to(mount.target) for mount in mounts)
    return [*mounts, Mount(PROJECT, str(PROJECT), read_only=True)] if hides else [*mounts]


def _script(
    mounts: Sequence[Mount], scratch: Path, read_only: bool, mount_points: Sequence[str]
) -> str:
    """Shell commands that build the container's root, then become its first argument."""
    root = scratch / "root"
    layers = f"lowerdir=/,upperdir={scratch}/upper,workdir={scratch}/work"
    # Longest last: a volume may be mounted inside another one.
    ordered = sorted(mounts, key=lambda mount: len(mount.target))
    places = [(mount, _inside(root, mount.target)) for mount in ordered]
    return "\n".join(
        [
            "set -e",
            f"mount -t tmpfs -o mode=0755 tmpfs {quote(str(scratch))}",
            f"mkdir {scratch}/upper {scratch}/work {root}",
            f"mount -t overlay -o {layers} overlay {root}",
            *(_make_place(mount, place) for mount, place in places),
            *([f"mount -o remount,ro {root}"] if read_only else []),
            *(f"mount --rbind {quote(path)} {quote(f'{root}{path}')}" for path in mount_points),
            *_devices(root),
            *(line for mount, place in places for line in _bind(mount, place)),
            'exec "$@"',
        ]
    )


def _inside(root: Path, target: str) -> str:
    """Where `target` is below `root`; links in it are followed here, where they lead elsewhere."""
    return f"{root}{Path(target).resolve()}"


def _make_place(mount: Mount, place: str) -> str:
    if mount.target.startswith("/dev/"):
        return ":"  # /dev is made later
    if mount.source.is_dir():
        return f"mkdir -p {quote(place)}"
    return f"mkdir -p {quote(str(Path(place).parent))}; touch {quote(place)}"


def _bind(mount: Mount, place: str) -> list[str]:
    if mount.source.is_dir():
        made = f"mkdir -p {quote(place)}"
    else:
        made = f"[ -e {quote(place)} ] || touch {quote(place)}"
    options = "bind,ro" if mount.read_only else "bind"
    return [made, f"mount -o {options} {quote(str(mount.source))} {quote(place)}"]


def _devices(root: Path) -> list[str]:
    """What a container runtime puts into /dev, and no device of this machine."""
    return [
        f"mount -t tmpfs -o mode=0755 tmpfs {root}/dev",
        f"mkdir {root}/dev/shm {root}/dev/pts",
        f"mount -t tmpfs -o mode=1777 tmpfs {root}/dev/shm",
        f"mount --bind /dev/pts {root}/dev/pts",
        f"for name in {' '.join(_DEVICES)}; do",
        f'touch "{root}/dev/$name"; mount --bind "/dev/$name" "{root}/dev/$name"',
        "done",
        *(f"ln -s /proc/self/fd{to} {root}/dev/{name}" for name, to in _STREAMS.items()),
    ]


def _mount_points() -> list[str]:
    """Where other file systems are mounted on this machine's root, each outermost one once."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    found: list[str] = []
    for point in sorted({line.split()[4] for line in lines} - {"/"}):
        below = any(point.startswith(f"{outer}/") for outer in [*found, "/dev"])
        if not below and point != "/dev" and Path(point).exists():
            found.append(point)
    return found


def _program(name: str) -> str:
    """Its path: the container's own PATH may be another one."""
    path = shutil.which(name)
    assert path is not None, f"no {name} on this machine: see tests.support.netns.why_not"
    return path
