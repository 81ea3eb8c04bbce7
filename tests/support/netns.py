"""A network of the tests' own: pod and service addresses that no one else on this machine has."""

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

PODS: Final = "10.244.0.0/16"
SERVICES: Final = "10.96.0.0/16"

_CLONE_NEWNET: Final = 0x40000000
_OWN: Final = "/proc/thread-self/ns/net"
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_SETUP: Final = (
    "ip link set lo up",
    f"ip route add local {PODS} dev lo",
    f"ip route add local {SERVICES} dev lo",
)
_PROGRAMS: Final = ("ip", "unshare", "nsenter", "chroot")
_ATTEMPT: Final = """
ip link set lo up
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" overlay "$1/root"
"""


@dataclass(frozen=True, slots=True)
class Network:
    """A network namespace with nothing but a loopback, which has PODS and SERVICES too."""

    descriptor: int

    @contextmanager
    def entered(self) -> Iterator[None]:
        """The calling thread is inside, and what it starts meanwhile; other threads stay out."""
        outside = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _enter(self.descriptor)
            yield
        finally:
            _enter(outside)
            os.close(outside)


def processes_inside(program: str) -> list[psutil.Process]:
    """Those in the calling thread's network that run a program of this name."""
    here = os.readlink(_OWN)
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(Path(word).name == program for word in process.info["cmdline"] or ()):
            with suppress(OSError):  # it has just ended
                if os.readlink(f"/proc/{process.pid}/ns/net") == here:
                    found.append(process)
    return found


def why_not() -> str | None:
    """What keeps this machine from having networks and mounts apart; None when nothing does."""
    if missing := [name for name in _PROGRAMS if shutil.which(name) is None]:
        return f"needs {', '.join(missing)} (iproute2, util-linux, coreutils)"
    with tempfile.TemporaryDirectory() as place:
        command = ["unshare", "--net", "--mount", "sh", "-ec", _ATTEMPT, "sh", place]
        tried = subprocess.run(command, capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        return f"needs root with CAP_SYS_ADMIN, and overlayfs: {tried.stderr.strip()}"
    return None


@contextmanager
def network() -> Iterator[Network]:
    """A new one. It goes when this ends and no process is left inside. Raises OSError."""
    outside = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _LIBC.unshare(_CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "no network namespace can be made")
        try:
            inside = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
            for command in _SETUP:
                subprocess.run(command.split(), check=True)
        finally:
            _enter(outside)
        try:
            yield Network(inside)
        finally:
            os.close(inside)
    finally:
        os.close(outside)


def _enter(descriptor: int) -> None:
    if _LIBC.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "the network namespace cannot be entered")
