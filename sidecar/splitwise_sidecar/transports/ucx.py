"""UCX, which moves NIXL's bytes: what it is told through its environment, and what it says it does.

`rdma` is UCX with its verbs lanes and nothing else: where no device has them the agent does not
start, so that bytes which moved by `rdma` moved by RDMA. `nixl` is UCX with its lanes for one
machine (CMA) and for TCP; which of them two agents use is UCX's choice, and told in its log.
"""

import ctypes
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Final

from splitwise_core.errors import UserError

log = logging.getLogger("splitwise.sidecar.ucx")

RDMA: Final = "rdma"
NIXL: Final = "nixl"
NAMES: Final = (RDMA, NIXL)

_LANES: Final = {RDMA: "rc,ud,dc", NIXL: "tcp,cma"}
"""Not `self`, so that a probe tries the device too. Not without tcp or verbs: the other lanes do
not notice a peer's death, and NIXL does not start without one that does."""

_VERBS: Final = re.compile(r"(rc|ud|dc|ib)(_\w+)?")

_TUNED: Final = {
    # Of a plain socket: 0.40 with UCX's own sizes, 0.58 with these.
    "UCX_TCP_TX_SEG_SIZE": "1m",
    "UCX_TCP_RX_SEG_SIZE": "1m",
    "UCX_TCP_SNDBUF": "4m",
    "UCX_TCP_RCVBUF": "4m",
    # With its cache UCX keeps the keys to memory that was deregistered: a stopped sender's writes
    # landed after all (seen with soft-RoCE). Pools are registered once; there is nothing to cache.
    "UCX_RCACHE_ENABLE": "n",
    "UCX_WARN_UNUSED_ENV_VARS": "n",
    "UCX_LOG_LEVEL": "info",  # the lanes of a connection are told at this level
    "NIXL_LOG_LEVEL": "FATAL",  # what fails is raised as well
}

_CONFIGURED: Final = re.compile(r" (?:intra|inter)-node cfg#\d+ (.*)")
_LANE: Final = re.compile(r"([a-z]\w*)/[\w.:-]+")
_TROUBLE: Final = re.compile(r"UCX  (?:WARN|ERROR)\s+(.*)")


def settings(transport: str, given: Mapping[str, str]) -> dict[str, str]:
    """The environment that UCX reads for this transport; what is `given` wins.

    Raises UserError when `rdma` is to use lanes that are none of verbs.
    """
    lanes = given.get("UCX_TLS", _LANES[transport])
    other = [lane for lane in lanes.split(",") if not _VERBS.fullmatch(lane)]
    if transport == RDMA and other:
        raise UserError(
            "environment",
            where="UCX_TLS",
            wrong=f"the transport rdma would move KV by {', '.join(other)}, which is no RDMA",
            fix="name lanes of verbs only (rc, ud, dc), or leave UCX_TLS out",
        )
    return {**_TUNED, **{key: text for key, text in given.items() if key in _TUNED}} | {
        "UCX_TLS": lanes
    }


def lanes(line: str) -> list[str]:
    """The lanes that a line of UCX's log gives to a connection, such as cma and tcp; or none."""
    told = _CONFIGURED.search(line)
    return sorted(set(_LANE.findall(told[1]))) if told else []


class UcxLog:
    """What UCX writes, kept in memory of ours: opened before UCX is loaded, read when asked."""

    def __init__(self) -> None:
        self._fd = os.memfd_create("ucx-log", os.MFD_CLOEXEC)
        self._read_bytes = 0
        self._lanes: list[str] = []

    @property
    def path(self) -> str:
        """For UCX_LOG_FILE."""
        return f"/proc/self/fd/{self._fd}"

    def lanes(self) -> list[str]:
        """The lanes of the connection that was configured last. Troubles go to our own log.

        UCX tells of a kind of connection once: one more of the same kind adds nothing.
        """
        for line in self._new_lines():
            self._lanes = lanes(line) or self._lanes
            if trouble := _TROUBLE.search(line):
                log.warning("UCX says", extra={"fields": {"text": trouble[1]}})
        return self._lanes

    def _new_lines(self) -> list[str]:
        ctypes.CDLL(None).fflush(None)  # UCX leaves to the C library when to write
        size = os.fstat(self._fd).st_size
        text = os.pread(self._fd, max(0, size - self._read_bytes), self._read_bytes)
        self._read_bytes += len(text)
        os.ftruncate(self._fd, 0)  # UCX goes on where it was: what is read takes no memory
        return text.decode(errors="replace").splitlines()


@cache
def process_log() -> UcxLog:
    """The log of this process: UCX opens it once."""
    return UcxLog()


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Sets variables while an agent is made: UCX reads them then, and is told nowhere else."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, text in before.items():
            if text is None:
                del os.environ[name]
            else:
                os.environ[name] = text
