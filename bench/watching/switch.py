"""Our programs, in which watching can be switched off and on again while they run.

Two processes of one program differ by some percent of CPU time, by where their memory lies alone.
One that is watched and unwatched in turn is compared with itself.

`programs(directory)` writes them there. Each listens at a socket beside it, which is not asked
while anything is measured, and then is the program whose name it bears.
"""

import socket
import stat
import struct
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any, Final

from prometheus_client import Counter, Gauge

from splitwise_core.histogram import Histogram
from splitwise_core.telemetry import Telemetry
from splitwise_core.tracing import Recorder

NAMES = ("router", "worker", "sidecar")
ANSWER_S = 10.0
_USED = struct.Struct("4q")

Code = tuple[Any, CodeType]
"""A function, and what it does while nobody watches."""


@dataclass(frozen=True, slots=True)
class Used:
    """Nanoseconds since a process began.

    `cpu`: of all its threads; `sender`: of the one of them that sends spans; `model_cpu` and
    `model_wall`: what the model's steps took, which watching has no part in.
    """

    cpu: int
    sender: int
    model_cpu: int
    model_wall: int


class _Inert:
    """A metric that was not looked up, and cannot be moved."""

    def inc(self, *_: object) -> None:
        return None

    dec = set = observe = inc


_INERT: Final = _Inert()


def _nothing(*_: object, **__: object) -> None:
    return None


def _giving(value: object) -> CodeType:
    """What only returns `value`, whatever it is called with, and knows no other names."""
    code = _nothing.__code__
    return code.replace(co_consts=tuple(value for _ in code.co_consts))


def unwatched(program: str) -> list[Code]:
    """All that metrics and traces add to a process that has begun, and what is done in its place.

    What serves more than them stays: the load that routers and the operator are told, clocks, logs;
    and so do additions to totals that are shown at a scrape, of 20 ns each.
    """
    moves: list[Any] = [Counter.inc, Gauge.inc, Gauge.dec, Gauge.set, Histogram.observe]
    if program == "worker":
        from splitwise_worker.estimates import Estimates  # imports torch

        moves.append(Estimates.stepped)
    lookups = [Telemetry.counter, Telemetry.gauge, Telemetry.histogram]
    is_on = vars(Recorder)["is_on"].fget
    return [
        *((move, _giving(None)) for move in moves),
        *((lookup, _giving(_INERT)) for lookup in lookups),
        (is_on, _giving(False)),
    ]


class _Model:
    """How long the steps of the model took in this process: the yardstick."""

    def __init__(self) -> None:
        self.cpu = self.wall = 0

    def measure(self) -> None:
        from splitwise_worker.runner import Runner

        run: Callable[..., object] = Runner.run

        def measured(*given: object) -> object:
            cpu, wall = time.thread_time_ns(), time.perf_counter_ns()
            try:
                return run(*given)
            finally:
                self.cpu += time.thread_time_ns() - cpu
                self.wall += time.perf_counter_ns() - wall

        setattr(Runner, "run", measured)  # noqa: B010  # a class of another room, on purpose


def listen(program: str, at: str) -> None:
    """From now on the process obeys `off`, `on` and `used` at the socket `at`, in a thread."""
    model = _Model()
    if program == "worker":
        model.measure()
    door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    door.bind(at)
    door.listen(1)
    threading.Thread(target=_obey, args=(door, program, model), name="switch", daemon=True).start()


def _obey(door: socket.socket, program: str, model: _Model) -> None:
    asker, _ = door.accept()
    off = unwatched(program)
    on = [(function, function.__code__) for function, _ in off]
    senders = [one.ident for one in threading.enumerate() if one.name == "traces" and one.ident]
    clocks = [time.pthread_getcpuclockid(ident) for ident in senders]
    while said := asker.recv(16):
        for function, code in {b"off": off, b"on": on}.get(said, []):
            function.__code__ = code  # no class changes: the interpreter's caches of them hold
        sent = sum(map(time.clock_gettime_ns, clocks))
        asker.send(_USED.pack(time.process_time_ns(), sent, model.cpu, model.wall))


class Switches:
    """Those of all processes of a set, by their sockets."""

    def __init__(self, sockets: Sequence[Path]) -> None:
        self._processes = []
        for at in sockets:
            process = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            process.settimeout(ANSWER_S)
            process.connect(str(at))
            self._processes.append(process)

    def say(self, what: str) -> list[Used]:
        """What each process has used, once all have done it."""
        for process in self._processes:
            process.send(what.encode())
        return [Used(*_USED.unpack(process.recv(_USED.size))) for process in self._processes]

    def close(self) -> None:
        """Leaves them as they are."""
        for process in self._processes:
            process.close()


def programs(directory: Path, listener: str) -> Path:
    """Writes them into `directory`, which is returned. A socket there has the process's id.

    `listener` is the module whose `listen` they begin with.
    """
    for name in NAMES:
        file = directory / f"splitwise-{name}"
        file.write_text(
            f"#!{sys.executable}\n"
            f"import os, sys\nsys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
            f"from {listener} import listen\n"
            f"listen({name!r}, f'{directory}/{{os.getpid()}}')\n"
            f"from splitwise_{name}.main import main\nsys.exit(main())\n"
        )
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return directory
