"""The legs of one placement, joined: what is given out when."""

import asyncio

import pytest

from splitwise_core.metric import Component
from splitwise_core.rpc.worker_pb2 import (
    FINISH_HANDED_OVER,
    FINISH_LENGTH,
    FINISH_STOP,
    Finish,
    FromWorker,
    Sampling,
    Stages,
    Update,
)
from splitwise_core.telemetry import Telemetry
from splitwise_router.admission import Admission
from splitwise_router.attempt import Attempt
from splitwise_router.discovery import Endpoint
from splitwise_router.fleet import Fleet
from splitwise_router.generation import Generation
from splitwise_router.minting import no_capability

ENDPOINTS = [Endpoint(f"127.0.0.1:{role}", role, "1", role) for role in ("prompt", "token")]
SEQUENCE = 1  # the first that an admission numbers
MOVED = Update(sequence=SEQUENCE, finish=FINISH_HANDED_OVER)


async def split(fleet: Fleet) -> tuple[Attempt, Generation]:
    """An attempt on a prompt and a token worker, for two tokens."""
    fleet.apply(ENDPOINTS)
    await asyncio.sleep(0)
    admission = Admission(fleet, 8, 10.0, Telemetry(Component.ROUTER), no_capability)
    generation = Generation("r", [1, 2], Sampling(max_tokens=2), 4e9)
    return await admission.start(generation), generation


def told(attempt: Attempt, role: str, update: Update) -> None:
    """The prompt or the token worker says something."""
    session = attempt.found.prompt if role == "prompt" else attempt.found.token
    assert session is not None
    session._receive(FromWorker(updates=[update]))


@pytest.fixture
async def before_the_end(fleet: Fleet) -> tuple[Attempt, Generation]:
    """An attempt that has given out its first token."""
    attempt, generation = await split(fleet)
    told(attempt, "prompt", Update(sequence=SEQUENCE, tokens=[7]))
    assert (await attempt.next()).tokens == [7]
    return attempt, generation


@pytest.mark.parametrize(
    ("finish", "ended"), [(FINISH_LENGTH, "length"), (FINISH_STOP, "stop")], ids=["length", "stop"]
)
async def test_an_answer_is_over_with_its_last_token_whatever_the_prompt_worker_has_to_say(
    before_the_end: tuple[Attempt, Generation], finish: Finish, ended: str
) -> None:
    """It may compute others for long before it says that the KV is handed over."""
    attempt, generation = before_the_end
    stages = Stages(transfer_s=0.5)
    told(attempt, "token", Update(sequence=SEQUENCE, tokens=[8], finish=finish, stages=stages))
    last = await attempt.next()
    assert (last.tokens, last.finish) == ([8], ended)
    assert generation.output == [7, 8]
    assert generation.stages.transfer_s == 0.5


async def test_a_prompt_worker_that_has_handed_over_is_not_cancelled(
    before_the_end: tuple[Attempt, Generation],
) -> None:
    """Its transfer has ended well, and is to be counted so."""
    attempt, _ = before_the_end
    prompt = attempt.found.prompt
    told(attempt, "token", Update(sequence=SEQUENCE, tokens=[8], finish=FINISH_LENGTH))
    await attempt.next()
    attempt.end()
    assert prompt.running == 1
    told(attempt, "prompt", MOVED)
    assert prompt.running == 0


async def test_a_prompt_worker_whose_kv_nobody_has_yet_is_cancelled(
    before_the_end: tuple[Attempt, Generation],
) -> None:
    attempt, _ = before_the_end
    attempt.end()
    assert attempt.found.prompt.running == 0
