"""NIXL's agent and the one thread that touches it: agents are not made for several.

While nothing is under way the thread sleeps. While writes of ours are in flight, or others may
write here, it polls: that is what moves bytes, over every lane but a network card's own.
"""

import asyncio
import importlib
import logging
import os
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from struct import Struct
from typing import Any, Final, TypeVar

from splitwise_core.errors import UserError
from splitwise_core.rdma import EXTRA, nixl_module
from splitwise_core.rpc import kv_pb2
from splitwise_sidecar.pool import Pool
from splitwise_sidecar.refusal import Refused
from splitwise_sidecar.transports.nixl_flights import Flight, Flights, refusal
from splitwise_sidecar.transports.ucx import NIXL, RDMA, environment, process_log, settings

log = logging.getLogger("splitwise.sidecar.nixl")

NOTICE: Final = Struct("<QII")
"""Grant, first layer, layers: what a sender's agent tells of a write that has landed."""

ASK_S: Final = 10.0
"""A layer's copy takes milliseconds; to map and pin a large pool, seconds."""

START_S: Final = 120.0
"""UCX looks at every device there is: 1 s, and a minute on an emulated processor."""

NICENESS: Final = 1
"""Of the thread: with it, and the turns that it takes while it copies, a control call's P99 is 3.3
to 3.7 ms instead of 6.5 to 7.2. Without turns 10 left 5.2 ms and 19 left 4.5, and were slower."""

READERS_NICENESS: Final = 19
"""Of the threads that take digests beside it, which wait for its copies: at 10, as movers are, they
took so much of a processor from it that transfers were 6 % slower."""

_PAUSE_S: Final = {RDMA: 200e-6, NIXL: 500e-6}
"""Between two polls. A network card copies by itself; elsewhere polls cost what copies need."""
_QUIET_PAUSE_S: Final = 1e-3
"""After a while of nothing."""
_QUIET_POLLS: Final = 200

T = TypeVar("T")


def load() -> Any:
    """NIXL's Python module. Raises ModuleNotFoundError."""
    name = nixl_module()
    if name is None:
        raise ModuleNotFoundError("there is no NIXL among Python's modules")
    module = importlib.import_module(name)
    own = logging.getLogger("nixl")  # it would print to stdout, in a form of its own
    own.handlers.clear()
    own.propagate = True
    own.setLevel(logging.WARNING)
    return module


class NixlAgent:
    """The agent of one transport, `rdma` or `nixl`, shared by its sender and its receiver."""

    def __init__(self, transport: str) -> None:
        self.transport = transport
        self.name = f"splitwise-{secrets.token_hex(8)}"
        self.connection = b""  # what others load to reach this agent, without a key to any memory
        self._acts: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._agent: Any = None
        self._flights = Flights()
        self._sources: dict[Pool, Any] = {}
        self._remotes: Counter[str] = Counter()
        self._grants: dict[int, Callable[[int, int], None]] = {}
        self._awake: set[object] = set()
        self._ucx_log = process_log()
        self._quiet = 0
        self._thread = threading.Thread(target=self._run, name=f"nixl-{transport}", daemon=True)

    def start(self) -> None:
        """Begins. Raises UserError when NIXL is not installed or UCX has no such lanes."""
        self._thread.start()
        try:
            self._soon(self._begin).result(START_S)
        except UserError:
            raise
        except ModuleNotFoundError as error:
            raise UserError(
                "environment",
                where=f"--transports {self.transport}",
                wrong=f"NIXL is not installed: {error}",
                fix=f"{EXTRA}, or leave this transport out",
            ) from error
        except Exception as error:  # NIXL's own kinds share no base
            raise UserError(
                "environment",
                where=f"--transports {self.transport}",
                wrong=f"UCX has no lanes for it here: {error or type(error).__name__}",
                fix="see that the pod has its RDMA device and UCX_NET_DEVICES names it, "
                "or leave this transport out",
            ) from error

    def stop(self) -> None:
        """Ends the thread once it has done what it was asked to."""
        self._acts.put(None)
        self._thread.join(ASK_S)

    # ---- for the event loop ----

    async def ask(self, act: Callable[[Any], T]) -> T:
        """What `act(agent)` returns. Raises Refused."""
        try:
            async with asyncio.timeout(ASK_S):
                return await asyncio.wrap_future(self._soon(lambda: act(self._agent)))
        except TimeoutError as error:
            why = f"NIXL has been at something else for {ASK_S:.0f} s"
            raise Refused(kv_pb2.TRANSPORT_FAILED, why) from error

    def tell(self, act: Callable[[Any], object]) -> None:
        """Has `act(agent)` done, without waiting for it."""
        self._soon(lambda: act(self._agent))

    async def meet(self, connection: bytes) -> str:
        """The name of the agent that sent its `connection`; until `part`."""
        return await self.ask(lambda _: self._meet(connection))

    def part(self, remote: str) -> None:
        """Lets go of an agent. Writes to it that are in flight fail, once nobody needs it."""
        self._soon(lambda: self._part(remote))

    def write(
        self, remote: str, pool: Pool, source: Any, target: Any, notice: bytes
    ) -> Future[None]:
        """Writes rows of addresses in `pool` to those of another agent; the future raises Refused.

        Rows are NIXL's: address, bytes, device.
        """
        done: Future[None] = Future()
        done.set_running_or_notify_cancel()  # it cannot be cancelled from here on
        flight = Flight(remote, pool, source, target, notice, done)
        self._soon(lambda: self._flights.begin(self._agent, flight))
        return done

    def listen(self, grant: int, arrived: Callable[[int, int], None]) -> None:
        """Calls `arrived(first, layers)` in the event loop for each write under this grant."""
        loop = asyncio.get_running_loop()

        def told(first: int, layers: int) -> None:
            loop.call_soon_threadsafe(arrived, first, layers)

        self._soon(lambda: self._grants.update({grant: told}))

    def keep_polling(self, whose: object) -> None:
        """Polls until `stop_polling`: a notice may wait in UCX when its write has long landed."""
        self._soon(lambda: self._awake.add(whose))

    def stop_polling(self, whose: object) -> None:
        """Nothing is waited for any more."""
        self._soon(lambda: self._awake.discard(whose))

    def unlisten(self, grant: int) -> None:
        """The grant is over."""
        self._soon(lambda: self._grants.pop(grant, None))

    def lanes(self) -> list[str]:
        """The lanes of UCX's latest connection: cma, tcp, rc_mlx5 and so on."""
        return self._ucx_log.lanes()

    def _soon(self, act: Callable[[], T]) -> "Future[T]":
        """Has the thread do it, in turn."""
        result: Future[T] = Future()

        def do() -> None:
            if not result.set_running_or_notify_cancel():
                return
            try:
                result.set_result(act())
            except BaseException as error:
                result.set_exception(refusal(error))

        self._acts.put(do)
        return result

    # ---- for the thread ----

    def _run(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        while True:
            is_busy = bool(self._flights or self._grants or self._awake)
            try:
                act = self._acts.get(block=not is_busy)
            except Empty:
                self._poll()
                continue
            if act is None:
                self._end()
                return
            self._quiet = 0
            act()

    def _begin(self) -> None:
        with environment(
            {"UCX_LOG_FILE": self._ucx_log.path} | settings(self.transport, os.environ)
        ):
            nixl = load()
            config = nixl.nixl_agent_config(enable_prog_thread=False, backends=["UCX"])
            self._agent = nixl.nixl_agent(self.name, config)
        nothing = self._agent.get_reg_descs([(0, 1, 0, "")], "DRAM")
        nothing.clear()
        self.connection = self._agent.get_partial_agent_metadata(nothing, True, ["UCX"])

    def _end(self) -> None:
        """Takes the agent down here and now: whoever dropped the last reference would wait."""
        for remote in list(self._remotes):
            self._remotes[remote] = 1
            self._part(remote)
        for registration in self._sources.values():
            self._agent.deregister_memory(registration)
        self._agent = None

    def _meet(self, connection: bytes) -> str:
        remote = self.name
        if connection != self.connection:  # a probe passes through our own door
            remote = self._agent.add_remote_agent(connection).decode()
            self._agent.make_connection(remote)
        self._remotes[remote] += 1
        return remote

    def _part(self, remote: str) -> None:
        self._remotes[remote] -= 1
        if self._remotes[remote] > 0:
            return
        del self._remotes[remote]
        self._flights.give_up(self._agent, remote)
        if remote != self.name:
            with suppress(Exception):  # one that is gone cannot be let go of
                self._agent.remove_remote_agent(remote)

    def source(self, pool: Pool) -> None:
        """Registers a pool that is written from, once; it is let go of when the pool closes."""
        if pool not in self._sources:
            address = pool.address
            self._sources[pool] = self._agent.register_memory(
                [(address, len(pool.memory), 0, "")], "DRAM"
            )
            pool.before_close(lambda: self._soon(lambda: self._let_go(pool)).result(ASK_S))

    def _let_go(self, pool: Pool) -> None:
        """Nothing reads the pool any more; a peer that takes no bytes is hung up on."""
        for remote in self._flights.remotes(pool):
            self._remotes[remote] = 1
            self._part(remote)
        self._agent.deregister_memory(self._sources.pop(pool))

    def _poll(self) -> None:
        moved = self._flights.poll(self._agent)
        if self._grants or self._awake:
            moved |= self._hear()
        self._quiet = 0 if moved else self._quiet + 1
        is_quiet = self._quiet > _QUIET_POLLS
        time.sleep(_QUIET_PAUSE_S if is_quiet else _PAUSE_S[self.transport])

    def _hear(self) -> bool:
        """Passes on what other agents say they have written; whether there was anything."""
        notices = self._agent.get_new_notifs()
        for told in notices.values():
            for notice in told:
                if len(notice) == NOTICE.size:
                    grant, first, layers = NOTICE.unpack(notice)
                    if arrived := self._grants.get(grant):
                        arrived(first, layers)
        return bool(notices)
