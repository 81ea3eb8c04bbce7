"""The legs of one placement, joined: what is given out when."""

import asyncio

import pytest

from splitwise_core.metric import Component
from splitwise_core.rpc.worker_pb2 import (
    FINISH_HANDED_OVER,
    FINISH_LENGTH,
    FINISH_STOP,
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
MOVED = Update(sequence=SEQUENCE, finish=FINISH_HANDED_OVER, stages=Stages(transfer_s=0.5))


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


async def test_the_last_token_does_not_wait_for_word_of_the_transfer(
    before_the_end: tuple[Attempt, Generation],
) -> None:
    """A prompt worker that computes others may say so only much later."""
    attempt, generation = before_the_end
    told(attempt, "token", Update(sequence=SEQUENCE, tokens=[8], finish=FINISH_LENGTH))
    last = await attempt.next()
    assert (last.tokens, last.finish) == ([8], None)
    ending = asyncio.create_task(attempt.next())
    await asyncio.sleep(0)
    assert not ending.done(), "its end has the stages, which are not known yet"
    told(attempt, "prompt", MOVED)
    end = await ending
    assert (end.tokens, end.finish) == ([], "length")
    assert generation.stages.transfer_s == 0.5
    assert generation.output == [7, 8]


async def test_what_ended_an_answer_is_known_with_its_stop_token(
    before_the_end: tuple[Attempt, Generation],
) -> None:
    """It is no part of the text, which who reads the piece has to know at once."""
    attempt, _ = before_the_end
    told(attempt, "token", Update(sequence=SEQUENCE, tokens=[8], finish=FINISH_STOP))
    ending = asyncio.create_task(attempt.next())
    told(attempt, "prompt", MOVED)
    end = await ending
    assert (end.tokens, end.finish) == ([8], "stop")


async def test_with_the_stages_known_tokens_and_end_are_one(
    before_the_end: tuple[Attempt, Generation],
) -> None:
    attempt, _ = before_the_end
    told(attempt, "prompt", MOVED)
    told(attempt, "token", Update(sequence=SEQUENCE, tokens=[8], finish=FINISH_LENGTH))
    end = await attempt.next()
    assert (end.tokens, end.finish) == ([8], "length")
