"""Every fault at every step of a transfer, on either side.

Whatever the step: a token worker decodes only what was sent (INV-3), both workers hear of one end
(INV-16) within the lease's bound, the reason is counted, and afterwards KV moves as before.
"""

from itertools import cycle
from typing import Final

import pytest

from splitwise_sidecar.config import TRANSPORTS
from tests.sidecar.conftest import ProcessPair
from tests.sidecar.fault_scene import scene
from tests.sidecar.fault_steps import STEPS
from tests.sidecar.fault_strikes import (
    FAULTS,
    Fault,
    Strike,
    a_good_transfer,
    counted,
    ends_fail_closed,
)

_first = cycle(range(len(TRANSPORTS)))  # so that each step meets each transport
CASES: Final = [
    pytest.param(step, fault, transport, id=f"{step.__name__}-{fault.strike.__name__}-{transport}")
    for fault, first in zip(FAULTS, _first)
    for step, transport in zip(STEPS, cycle((*TRANSPORTS[first:], *TRANSPORTS[:first])))
]


@pytest.mark.parametrize(("step", "fault", "transport"), CASES)
async def test_a_fault_ends_fail_closed(
    pairs: dict[str, ProcessPair], step: Strike, fault: Fault, transport: str
) -> None:
    prompt, token = pairs[transport]
    seed = sum(map(ord, step.__name__ + fault.strike.__name__))
    async with scene(prompt, token, seed) as s:
        before = await counted(s)
        await step(s)
        await ends_fail_closed(s, fault, before)
    async with scene(prompt, token, seed + 1) as s:
        await a_good_transfer(s)
