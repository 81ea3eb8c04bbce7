"""A peer that cannot be met: at any of its doors nobody is, or somebody who is no sidecar.

Hello and the bytes of each transport have connections of their own, and each of them may find that
nobody listens, that nothing is ever said, that the other side hangs up, or that it says noise.
Whichever: both workers have their blocks back within the bound, with a reason that is counted, and
the same two sidecars meet as soon as the door is as it should be.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.sidecar.conftest import LANES, ProcessPair, end_all, use_lanes
from tests.sidecar.fault_scene import Scene, scene
from tests.sidecar.fault_strikes import (
    LOST,
    Fault,
    Strike,
    a_good_transfer,
    counted,
    ends_fail_closed,
)
from tests.support.certificates import NAME, bundle, put
from tests.support.manners import Manner
from tests.support.sidecar_process import SidecarProcess

Mistreat = Callable[[Scene, Manner], None]


def at_hello(s: Scene, manner: Manner) -> None:
    s.proxy.mistreat(s.token.port, manner)


def behind_hello(s: Scene, manner: Manner) -> None:
    """At the same port, for a connection of the transport's own."""
    s.proxy.mistreat(s.token.port, manner, good=1)


def at_tcp(s: Scene, manner: Manner) -> None:
    s.proxy.mistreat(s.token.tcp_port, manner)


def at_grpc(s: Scene, manner: Manner) -> None:
    s.proxy.mistreat(s.token.grpc_port, manner)


def at_shm(s: Scene, manner: Manner) -> None:
    assert s.line is not None
    s.line.mistreat(manner)


class Door(NamedTuple):
    """One of a sidecar's doors, and who uses it."""

    name: str
    transport: str
    mistreat: Mistreat


DOORS: Final = (
    Door("Hello", "grpc", at_hello),
    Door("Hello over TLS", "grpc over TLS", at_hello),
    Door("shm", "shm", at_shm),
    Door("tcp", "tcp", at_tcp),
    Door("tcp over TLS", "tcp over TLS", at_tcp),
    Door("grpc", "grpc", at_grpc),
    Door("grpc over TLS", "grpc over TLS", at_grpc),
    *(Door(name, name, behind_hello) for name in LANES),
)
CASES: Final = [
    pytest.param(door, manner, id=f"{door.name} {manner}")
    for door in DOORS
    for manner in Manner
    if door.mistreat is not behind_hello or manner is not Manner.REFUSES  # somebody listens there
]
REASONS: Final = {LOST, "transport_failed", "invalid"}
TOKEN_ENDS: Final = REASONS | {"expired"}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], ProcessPair]]:
    """The prompt and the token sidecar for a transport; they live on from door to door."""
    place: Path = tmp_path_factory.mktemp("doors")
    tls = [f"--tls-dir={put(place / 'tls', bundle())}", f"--tls-name={NAME}"]
    pairs: dict[str, ProcessPair] = {}

    def pair(name: str) -> ProcessPair:
        transports, more = [name.partition(" ")[0]], tls if name.endswith("TLS") else []
        if name not in pairs:
            prompt, token = (
                SidecarProcess(place, f"{side}-{len(pairs)}", transports, more=more)
                for side in "pt"
            )
            pairs[name] = prompt, token
        return pairs[name]

    try:
        yield pair
    finally:
        end_all(pairs.values())


@pytest.mark.parametrize(("door", "manner"), CASES)
async def test_who_meets_nobody_ends_in_time_and_meets_the_peer_once_it_is_there(
    kept: Callable[[str], ProcessPair],
    monkeypatch: pytest.MonkeyPatch,
    door: Door,
    manner: Manner,
) -> None:
    use_lanes(monkeypatch, door.transport)
    async with scene(*kept(door.transport), seed=1) as s:
        before = await counted(s)
        await ends_fail_closed(s, Fault(meets(door, manner), REASONS, TOKEN_ENDS), before)
        assert s.prompt_end in REASONS
        await s.heal()
        s.begin_anew()
        await a_good_transfer(s)


def meets(door: Door, manner: Manner) -> Strike:
    """A whole transfer to somebody at this door."""

    async def strike(s: Scene) -> None:
        door.mistreat(s, manner)
        s.start()
        s.go_on()
        await s.end_at_prompt()
        await s.end_at_token()

    return strike
