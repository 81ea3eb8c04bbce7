"""What agents of others may write: a landing of the pool, until it has to be taken from one."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from splitwise_sidecar.pool import Pool
from splitwise_sidecar.transports.landing import Landing
from splitwise_sidecar.transports.nixl_agent import NixlAgent
from splitwise_sidecar.transports.ucx import RDMA

SETTLE_S: Final = 0.5
"""After the memory was taken away: the kernel may be in the middle of a page that it had pinned, a
network card in the middle of a packet."""


@dataclass(eq=False, slots=True)
class Area:
    """A landing and its keys; `grants` pushes may write there."""

    pool: Pool
    landing: Landing
    registration: Any
    memory: bytes
    grants: int = 0
    is_retired: bool = False


class Areas:
    """The areas of one agent. Of a pool one is current; those before it await their last push."""

    def __init__(self, agent: NixlAgent, count_fence: Callable[[], None]) -> None:
        self.agent = agent
        self._count_fence = count_fence
        self._current: dict[Pool, Area] = {}
        self._making = asyncio.Lock()

    async def enter(self, pool: Pool) -> Area:
        """The area that a push to this pool may write; until `leave` or `fence`. Raises Refused."""
        async with self._making:  # pushes of one moment share an area
            area = self._current.get(pool)
            if area is None:
                area = await self.agent.ask(lambda agent: _open(agent, pool))
                self._current[pool] = area
                pool.before_close(lambda: self._pool_closes(pool))
        area.grants += 1
        return area

    def leave(self, area: Area) -> None:
        """One push less, which has nothing in flight."""
        area.grants -= 1
        if area.is_retired and area.grants == 0:
            self.agent.tell(lambda agent: _close(agent, area))

    async def fence(self, area: Area, blocks: Sequence[int]) -> None:
        """Takes these blocks from whoever may write them; when it returns no write can land."""
        self._count_fence()
        self._retire(area)
        area.landing.waste(blocks)
        if self.agent.transport == RDMA:
            # A card writes around mappings. Other pushes to this area fail with it, and go again.
            await self.agent.ask(lambda agent: _withdraw(agent, area))
        await asyncio.sleep(SETTLE_S)
        self.leave(area)

    def _retire(self, area: Area) -> None:
        """New pushes get another area."""
        area.is_retired = True
        if self._current.get(area.pool) is area:
            del self._current[area.pool]

    def _pool_closes(self, pool: Pool) -> None:
        if area := self._current.get(pool):
            self._retire(area)
            self.agent.tell(lambda agent: _close(agent, area))


def _open(agent: Any, pool: Pool) -> Area:
    landing = Landing(pool)
    registration = agent.register_memory([(landing.base, landing.size, 0, "")], "DRAM")
    memory = agent.get_partial_agent_metadata(registration, False, ["UCX"])
    return Area(pool, landing, registration, memory)


def _withdraw(agent: Any, area: Area) -> None:
    """The keys are worth nothing any more."""
    if area.registration is not None:
        agent.deregister_memory(area.registration)
        area.registration = None


def _close(agent: Any, area: Area) -> None:
    _withdraw(agent, area)
    area.landing.close()
