"""A link that is not made of processors: a loopback that the kernel holds to a rate.

On the plain loopback the processors are the link, and who moves bytes takes them from whoever
computes; between two hosts they are not. A network namespace of its own has a loopback of its own,
and Linux's token bucket filter lets no more through than the rate. Who waits for it has the three
classes that the kernel's queues have had by default for long (`pfifo_fast`). Needs `unshare`, `ip`
and `tc`, and either root or a kernel that lets users make namespaces.
"""

import asyncio
import subprocess
import sys
from typing import Final

GBIT: Final = 10
NAME: Final = f"tcp at {GBIT} Gb/s"
ASK_S: Final = 10.0

_NAMESPACE: Final = ("unshare", "--map-root-user", "--net", "sh", "-ec")
_SET_UP: Final = (
    "ip link set lo up; "
    f"tc qdisc add dev lo root handle 1: tbf rate {GBIT}gbit burst 1mb latency 5ms; "
    "tc qdisc add dev lo parent 1:1 pfifo_fast"
)


async def run_on_link(module: str, *arguments: str) -> None:
    """Runs a module of ours, as a program, there. Raises CalledProcessError."""
    command = [sys.executable, "-m", module, *arguments]
    await asyncio.to_thread(subprocess.run, on_link(command), check=True)


def on_link(command: list[str]) -> list[str]:
    """The command line that runs this one where the loopback is the link."""
    return [*_NAMESPACE, f'{_SET_UP}; exec "$@"', "sh", *command]


def why_not() -> str:
    """What keeps this machine from having such a link; empty: nothing."""
    try:
        tried = subprocess.run(
            on_link(["true"]), capture_output=True, text=True, timeout=ASK_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if tried.returncode == 0:
        return ""
    return tried.stderr.strip() or f"{tried.args[0]} ended with {tried.returncode}"
