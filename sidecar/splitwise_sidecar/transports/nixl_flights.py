"""Writes of NIXL's that have begun, and how they end. For the agent's thread alone."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from splitwise_core.errors import UserError
from splitwise_core.rpc import kv_pb2
from splitwise_sidecar.moves.turns import taking_turns
from splitwise_sidecar.pool import Pool
from splitwise_sidecar.refusal import Refused
from splitwise_sidecar.transports import STALL_S


@dataclass(eq=False, slots=True)
class Flight:
    """A write: rows of addresses in `pool`, and in another agent, and who waits for it."""

    remote: str
    pool: Pool
    source: Any
    target: Any
    notice: bytes
    done: Future[None]
    handle: Any = None
    give_up_s: float = field(default_factory=lambda: time.monotonic() + STALL_S)


class Flights:
    """Those that are under way."""

    def __init__(self) -> None:
        self._all: list[Flight] = []

    def __bool__(self) -> bool:
        return bool(self._all)

    def begin(self, agent: Any, flight: Flight) -> None:
        """Posts the write; over CMA it is over when this returns."""
        try:
            source, target = (
                agent.get_xfer_descs(rows, "DRAM") for rows in (flight.source, flight.target)
            )
            flight.handle = agent.initialize_xfer(
                "WRITE", source, target, flight.remote, flight.notice
            )
        except Exception as error:
            flight.done.set_exception(refusal(error))
            return
        self._all.append(flight)
        with taking_turns():
            self._follow(agent, flight, agent.transfer)

    def poll(self, agent: Any) -> bool:
        """Moves bytes on; whether a write has ended."""
        before = len(self._all)
        for flight in list(self._all):
            self._follow(agent, flight, agent.check_xfer_state)
        return len(self._all) < before

    def give_up(self, agent: Any, remote: str) -> None:
        """Ends the writes to this agent."""
        for flight in [flight for flight in self._all if flight.remote == remote]:
            gone = Refused(kv_pb2.PEER_LOST, "the connection has been given up")
            self._land(agent, flight, gone)

    def remotes(self, pool: Pool) -> set[str]:
        """The agents that this pool is being written to."""
        return {flight.remote for flight in self._all if flight.pool is pool}

    def _follow(self, agent: Any, flight: Flight, look: Callable[[Any], str]) -> None:
        """Asks how a write stands, and ends it when it is over."""
        try:
            state = look(flight.handle)
        except Exception as error:
            self._land(agent, flight, refusal(error))
            return
        if state == "DONE":
            self._land(agent, flight, None)
        elif state != "PROC" or time.monotonic() > flight.give_up_s:
            why = f"the peer took no bytes for {STALL_S:.0f} s" if state == "PROC" else state
            self._land(agent, flight, Refused(kv_pb2.TRANSPORT_FAILED, why))

    def _land(self, agent: Any, flight: Flight, refused: Exception | None) -> None:
        self._all.remove(flight)
        with suppress(Exception):
            agent.release_xfer_handle(flight.handle)
        if refused is None:
            flight.done.set_result(None)
        else:
            flight.done.set_exception(refused)


def refusal(error: BaseException) -> Exception:
    """An error of NIXL's, or of ours, for those who wait for what was asked."""
    if isinstance(error, Refused | UserError | ModuleNotFoundError):
        return error
    lost = type(error).__name__ == "nixlRemoteDisconnectError"
    outcome = kv_pb2.PEER_LOST if lost else kv_pb2.TRANSPORT_FAILED
    return Refused(outcome, f"NIXL: {error or type(error).__name__}")
