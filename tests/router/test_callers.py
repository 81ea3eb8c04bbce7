"""Who asks and how urgently, and what that means while requests wait for room."""

import asyncio
from dataclasses import dataclass

import pytest

from splitwise_core.metric import Component
from splitwise_core.rpc.worker_pb2 import FromWorker, Load, Sampling
from splitwise_core.telemetry import Telemetry
from splitwise_router.admission import Admission
from splitwise_router.api.errors import ApiError
from splitwise_router.attempt import Attempt, Generation
from splitwise_router.caller import Caller, caller_of
from splitwise_router.discovery import Endpoint
from splitwise_router.fleet import Fleet

HIGH, NORMAL, LOW = (caller_of(None, name).priority for name in ("high", "normal", "low"))


@pytest.mark.parametrize("header", ["high", "HIGH", " High "])
def test_a_priority_is_a_word(header: str) -> None:
    assert caller_of(None, header) == Caller(0, HIGH)
    assert caller_of(None, None) == Caller(0, NORMAL)


def test_a_priority_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ApiError, match="low, normal, high") as refused:
        caller_of(None, "urgent")
    assert refused.value.status == 400


def test_a_client_is_its_key_and_the_key_is_not_in_it() -> None:
    one, same, other = (
        caller_of(f"{scheme} {key}", None)
        for scheme, key in (("Bearer", "sk-1"), ("bearer", "sk-1"), ("Bearer", "sk-2"))
    )
    assert one == same != other
    assert "sk-1" not in repr(one)
    assert [caller_of(text, None).tenant for text in (None, "", "Basic abc", "Bearer ")] == [0] * 4


# ---- waiting for room ----


def generation(tenant: int = 0, caller: Caller | None = None) -> Generation:
    return Generation(
        "r", [1, 2, 3], Sampling(max_tokens=5), 2e9, asked_by=caller or Caller(tenant)
    )


@dataclass
class House:
    """A queue of 4 in front of one mixed worker, whose every place is taken."""

    admission: Admission
    taken: list[Attempt]

    def free_one(self) -> None:
        """One of those that run ends."""
        self.taken.pop().end()
        self.admission.pump()


@pytest.fixture
async def house(fleet: Fleet) -> House:
    fleet.apply([Endpoint("10.0.0.1:1", "m", "pool", "mixed")])
    await asyncio.sleep(0)
    admission = Admission(fleet, 4, 10.0, Telemetry(Component.ROUTER), lambda capability: b"")
    return House(admission, [await admission.start(generation()) for _ in range(9)])


async def wait_for_room(house: House, *asked: Generation) -> list[asyncio.Task[Attempt]]:
    tasks = [asyncio.create_task(house.admission.start(one)) for one in asked]
    await asyncio.sleep(0)
    return tasks


async def started(tasks: list[asyncio.Task[Attempt]]) -> list[int]:
    await asyncio.sleep(0.01)
    return [number for number, task in enumerate(tasks) if task.done()]


async def test_a_worker_is_sent_no_more_than_it_has_places_for(fleet: Fleet) -> None:
    fleet.apply([Endpoint("10.0.0.1:1", "m", "pool", "mixed")])
    await asyncio.sleep(0)
    (session,) = fleet.sessions
    admission = Admission(fleet, 4, 10.0, Telemetry(Component.ROUTER), lambda capability: b"")

    def tell(free_sequences: int, sequences: int) -> None:
        load = Load(ready=True, free_blocks=9, free_sequences=free_sequences, sequences=sequences)
        session._receive(FromWorker(load=load))

    tell(free_sequences=2, sequences=0)
    asked = [asyncio.create_task(admission.start(generation())) for _ in range(4)]
    assert await started(asked) == [0, 1]
    tell(free_sequences=2, sequences=0)
    assert await started(asked) == [0, 1], "the worker does not know of them yet"
    tell(free_sequences=1, sequences=2)
    assert await started(asked) == [0, 1, 2]


async def test_who_waits_longest_is_next(house: House) -> None:
    tasks = await wait_for_room(house, *(generation() for _ in range(3)))
    house.free_one()
    assert await started(tasks) == [0]


async def test_a_higher_priority_is_next(house: House) -> None:
    callers = [Caller(1, LOW), Caller(1, NORMAL), Caller(1, HIGH)]
    tasks = await wait_for_room(house, *(generation(caller=one) for one in callers))
    house.free_one()
    assert await started(tasks) == [2]


async def test_clients_take_turns(house: House) -> None:
    tasks = await wait_for_room(house, *(generation(tenant) for tenant in (1, 1, 1, 2)))
    house.free_one()
    house.free_one()
    assert await started(tasks) == [0, 3]


async def test_who_fills_the_queue_turns_away_its_own_requests_and_not_those_of_others(
    house: House,
) -> None:
    pile = await wait_for_room(house, *(generation(1) for _ in range(4)))
    with pytest.raises(ApiError):
        await house.admission.start(generation(1))
    (other,) = await wait_for_room(house, generation(2))
    await asyncio.sleep(0.01)
    assert isinstance(pile[3].exception(), ApiError)
    assert not other.done()
    house.free_one()
    house.free_one()
    await asyncio.sleep(0.01)
    assert other.done()
    assert other.exception() is None


async def test_who_hangs_up_in_the_moment_that_there_is_room_leaves_it_to_the_next(
    house: House,
) -> None:
    gone, next_one = await wait_for_room(house, *(generation() for _ in range(2)))
    gone.cancel()
    house.free_one()
    assert await started([next_one]) == [0]
    assert gone.cancelled()


async def test_who_hung_up_while_waiting_is_not_charged(house: House) -> None:
    for task in await wait_for_room(house, *(generation(1) for _ in range(3))):
        task.cancel()
    await asyncio.sleep(0.01)
    tasks = await wait_for_room(house, generation(1), generation(2))
    house.free_one()
    assert await started(tasks) == [0]
