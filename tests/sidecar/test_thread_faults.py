"""Faults that strike while a thread moves bytes of a sequence too large for the event loop.

One side is stopped in the middle of its copy, the fault strikes, and that side goes on: its thread
with the bytes, and its event loop with the news. As at every other step, a token worker decodes
only what was sent (INV-3), nothing is written once it has its blocks back (INV-6), and both workers
hear of one end within the lease's bound (INV-16).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import pytest

from splitwise_sidecar.movers import AT_ONCE_BYTES
from tests.sidecar.conftest import ProcessPair
from tests.sidecar.fault_scene import LARGE, LEASE_MS, Scene, scene
from tests.sidecar.fault_strikes import (
    FAULTS,
    LOST,
    WITHDRAWN,
    Counts,
    Fault,
    a_good_transfer,
    counted,
    ends_fail_closed,
    the_wire_is_slow,
)

TRIES: Final = 20
"""To stop a side before its copy is over; the first one nearly always does."""

assert LARGE.geometry.layer_bytes * len(LARGE.source) > AT_ONCE_BYTES, "each layer is a thread's"


async def the_lease_is_closed(s: Scene) -> None:
    s.token_worker.close_lease(s.id)


async def the_transfer_is_withdrawn(s: Scene) -> None:
    s.prompt_worker.withdraw(s.id)


async def the_lease_runs_out(s: Scene) -> None:
    """Nobody renews it, and the token side's time is over as it goes on."""
    s.hang(s.prompt)
    s.hang(s.token)
    await asyncio.sleep(1.2 * LEASE_MS / 1e3)
    s.token.thaw()
    await s.end_at_token()
    s.prompt.thaw()


ENDS: Final = (
    Fault(the_lease_is_closed, {"unknown_transfer"}, {"cancelled"}),
    Fault(the_transfer_is_withdrawn, {WITHDRAWN}, {"cancelled"}),
    Fault(the_lease_runs_out, {"unknown_transfer", LOST}, {"expired"}),
)
STRIKES: Final = [fault for fault in (*FAULTS, *ENDS) if fault.strike is not the_wire_is_slow]


@asynccontextmanager
async def caught(pair: ProcessPair, side: str) -> AsyncIterator[tuple[Scene, Counts]]:
    """A transfer, one side of which is stopped while bytes of it are on their way; and what had
    been counted before.
    """
    prompt, token = pair
    for seed in range(TRIES):
        async with scene(prompt, token, seed, LARGE) as s:
            before = await counted(s)
            s.open_lease()
            s.start()
            await s.until_reserved()
            s.layers()
            await s.until_bytes_arrive()
            s.catch(token if side == "receiver" else prompt)
            if not s.has_all_bytes():
                yield s, before
                return
            s.release()
            s.finish()
            await s.end_at_token()
    pytest.fail(f"{TRIES} transfers were over before their {side} could be stopped")


@pytest.mark.parametrize("side", ["sender", "receiver"])
@pytest.mark.parametrize("transport", ["shm", "tcp", "grpc"])
@pytest.mark.parametrize("fault", STRIKES, ids=lambda fault: fault.strike.__name__)
async def test_a_fault_while_a_thread_copies_ends_fail_closed(
    pairs: dict[str, ProcessPair], fault: Fault, transport: str, side: str
) -> None:
    async with caught(pairs[transport], side) as (s, before):
        await ends_fail_closed(s, fault, before)
    async with scene(*pairs[transport], TRIES, LARGE) as s:
        await a_good_transfer(s)
