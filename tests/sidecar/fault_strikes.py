"""What strikes a transfer between two sidecar processes, and what has to hold afterwards."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from splitwise_core.rpc import kv_pb2
from tests.sidecar.fault_scene import (
    BOUND_S,
    DEAD,
    GONE,
    LEASES,
    NOTHING,
    TRANSFERS,
    VERIFIED,
    Scene,
)

Strike = Callable[[Scene], Awaitable[None]]
Counts = dict[tuple[str, str], float]
"""Transfers by direction and outcome."""

SLOW_S: Final = 0.05


async def the_prompt_sidecar_dies(s: Scene) -> None:
    s.prompt.kill()


async def the_token_sidecar_dies(s: Scene) -> None:
    s.token.kill()


async def the_prompt_sidecar_hangs(s: Scene) -> None:
    """Until the token side has gone on without it."""
    s.hang(s.prompt)
    s.release()
    await s.end_at_token()
    s.prompt.thaw()


async def the_token_sidecar_hangs(s: Scene) -> None:
    """Until the prompt side has gone on without it."""
    s.hang(s.token)
    s.release()
    await s.end_at_prompt()
    s.token.thaw()


async def the_prompt_worker_dies(s: Scene) -> None:
    s.prompt_worker.hang_up()
    s.prompt_end = DEAD


async def the_token_worker_dies(s: Scene) -> None:
    s.token_worker.hang_up()
    s.token_end = s.token_end or DEAD


async def the_wire_is_cut(s: Scene) -> None:
    s.cut()
    s.go_on()


async def the_wire_falls_silent(s: Scene) -> None:
    """Connections stay, nothing passes, nobody is told."""
    s.silence()
    s.go_on()
    await s.end_at_prompt()
    await s.end_at_token()


async def the_bytes_fall_silent(s: Scene) -> None:
    """Control calls pass."""
    s.release()
    s.silence_bytes()
    s.go_on()
    await s.end_at_prompt()
    await s.end_at_token()


async def the_wire_is_slow(s: Scene) -> None:
    s.release()
    s.slow_down(SLOW_S)
    s.go_on()
    await s.end_at_prompt()


class Fault(NamedTuple):
    """What strikes, and how it may end for each worker, unless all was over before."""

    strike: Strike
    at_prompt: set[str]
    at_token: set[str]


WITHDRAWN: Final = "cancelled"  # by the step `abort`
LOST: Final = "peer_lost"
STALLED: Final = {LOST, "transport_failed"}
FAULTS: Final = (
    Fault(the_prompt_sidecar_dies, {GONE}, {"expired"}),
    Fault(the_token_sidecar_dies, {LOST}, {GONE}),
    Fault(the_prompt_sidecar_hangs, {"unknown_transfer", LOST}, {"expired"}),
    Fault(the_token_sidecar_hangs, {LOST}, {"expired", LOST}),
    Fault(the_prompt_worker_dies, {DEAD}, {"expired", LOST}),
    Fault(the_token_worker_dies, {LOST, "stale_epoch", "unknown_transfer"}, {DEAD}),
    Fault(the_wire_is_cut, {LOST, "transport_failed"}, {"expired", LOST, "transport_failed"}),
    Fault(the_wire_falls_silent, {LOST}, {"expired"}),
    Fault(the_bytes_fall_silent, STALLED, STALLED),
    Fault(the_wire_is_slow, set(), set()),
)

# ---- what has to hold ----


async def ends_fail_closed(s: Scene, fault: Fault, before: Counts) -> None:
    """The fault strikes; both workers hear of one end, in time, and of the right one."""
    async with asyncio.timeout(BOUND_S):
        await fault.strike(s)
        s.release()
        await asyncio.gather(s.end_at_prompt(), s.end_at_token())
    assert s.prompt_end in fault.at_prompt | {WITHDRAWN, "ok"}, s.said
    assert s.token_end in fault.at_token | {WITHDRAWN, VERIFIED, NOTHING}, s.said
    await nothing_is_wrong(s)
    await the_reason_is_counted(s, before)


async def nothing_is_wrong(s: Scene) -> None:
    """INV-3, INV-6, and that nothing is left."""
    if s.token_end == VERIFIED:
        assert s.arrived()
    if s.prompt_end == "ok":
        assert s.token_end == VERIFIED
    assert s.is_as_it_was_at_the_end()
    for sidecar, worker, end in (
        (s.prompt, s.prompt_worker, s.prompt_end),
        (s.token, s.token_worker, s.token_end),
    ):
        if sidecar.program.is_running and worker.is_attached:
            assert worker.nothing_came(), end
    if s.token.program.is_running:
        await s.until_no_lease()
        assert await s.token.value(LEASES) == 0


def outcome_of(end: str) -> str:
    return "ok" if end == VERIFIED else end


async def counted(s: Scene) -> Counts:
    """The transfers that each side has counted, by outcome."""
    return {
        (direction, outcome): await sidecar.value(TRANSFERS, direction=direction, outcome=outcome)
        for sidecar, direction in ((s.prompt, "sent"), (s.token, "received"))
        for outcome in (name.lower() for name in kv_pb2.Outcome.keys()[1:])
    }


async def the_reason_is_counted(s: Scene, before: Counts) -> None:
    for sidecar, direction, end in (
        (s.prompt, "sent", s.prompt_end),
        (s.token, "received", s.token_end),
    ):
        if end in (GONE, DEAD, NOTHING) or not sidecar.program.is_running:
            continue
        outcome = outcome_of(end)
        now = await sidecar.value(TRANSFERS, direction=direction, outcome=outcome)
        assert now == before[direction, outcome] + 1


async def a_good_transfer(s: Scene) -> None:
    s.open_lease()
    s.start()
    s.layers()
    s.finish()
    await s.end_at_token()
    await s.end_at_prompt()
    assert (s.prompt_end, s.token_end) == ("ok", VERIFIED), s.said
    assert s.arrived()
