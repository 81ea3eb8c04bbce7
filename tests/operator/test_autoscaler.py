"""The autoscaler's loop: real HTTP to workers and a router that a test speaks for."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import pytest

from splitwise_core.metric import Component
from splitwise_core.policy.scaling import Held, WorkerLoad
from splitwise_core.policy.scaling.signals import BOUNDS_S
from splitwise_core.telemetry import Telemetry
from splitwise_operator import autoscaler
from splitwise_operator.autoscaler import Autoscaler
from splitwise_operator.kinds import Kind
from splitwise_operator.loads import held_of, load_of
from splitwise_operator.looks import Looks
from splitwise_operator.store import Store
from splitwise_operator.worklist import Worklist
from tests.support.cluster import eventually
from tests.support.manifests import GOOD

Object = dict[str, Any]
KEY = ("default", "demo")
NO_COUNTS = (0,) * (len(BOUNDS_S) + 1)


def load(**said: Any) -> WorkerLoad:
    """A worker that has computed 10,000 prompt tokens in 2 s so far."""
    done = {"prompt_tokens_total": 10_000, "prompt_s_total": 2.0, "prompts_total": 10}
    counts = {"ttft_counts": NO_COUNTS, "tbt_counts": NO_COUNTS}
    return WorkerLoad(1, kv_capacity=65536, max_sequences=64, **(done | counts | said))


@dataclass
class Calls:
    """The API server as far as the loop writes to it."""

    scaled: list[tuple[str, int]] = field(default_factory=list)
    events: list[Object] = field(default_factory=list)

    async def scale(
        self, kind: Kind, namespace: str, name: str, replicas: int, manager: str
    ) -> Object:
        self.scaled.append((name, replicas))
        made = object_of(name, name.removeprefix("demo-"), 0)
        made["metadata"]["resourceVersion"] = "2"
        return made | {"spec": {"replicas": replicas}}

    async def create(self, kind: Kind, body: Object) -> None:
        self.events.append(body)


@asynccontextmanager
async def page(host: str, port: int, body: Callable[[], bytes]) -> AsyncIterator[None]:
    """Answers every GET there."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + body())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, host, port):
        yield


def store_with(autoscaling: Object, addresses: dict[str, str], replicas: int = 1) -> Store:
    """The cluster demo, with a ready pod at each address, by its pool's name."""
    store = Store()
    pools = [
        {"name": "prompt", "role": "prompt", "autoscaling": autoscaling},
        {"name": "token", "role": "token"},
    ]
    spec = GOOD["spec"] | {"pools": pools, "router": {"port": 18431}}
    meta = {"name": "demo", "namespace": "default", "uid": "u", "generation": 1}
    store.clusters[KEY] = GOOD | {"metadata": meta, "spec": spec}
    for index, pool in enumerate(("prompt", "token")):
        body = {"replicas": replicas, "pool": pool, "cluster": "demo", "role": pool}
        store.put("SplitwisePool", object_of(f"demo-{pool}", pool, index) | {"spec": body})
    for pool, address in addresses.items():
        status = {"podIP": address, "conditions": [{"type": "Ready", "status": "True"}]}
        store.put("Pod", object_of(f"{pool}-0", pool, 9) | {"status": status})
    return store


def object_of(name: str, pool: str, number: int) -> Object:
    labels = {"splitwise.dev/cluster": "demo", "splitwise.dev/pool": pool}
    meta = {"name": name, "namespace": "default", "uid": f"{number}", "resourceVersion": "1"}
    return {"metadata": meta | {"labels": labels}}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoscaler, "EVERY_S", 0.1)


async def run(store: Store, until: Callable[[Calls, Telemetry], bool]) -> Calls:
    """The loop until then."""
    calls, telemetry = Calls(), Telemetry(Component.OPERATOR)

    async def look(_: tuple[str, str]) -> bool:
        return True

    worklist = Worklist(look)
    log = logging.getLogger("test")
    loop = Autoscaler(calls, store, worklist, Looks(), telemetry, log)  # type: ignore[arg-type]
    running = asyncio.create_task(loop.run())
    await asyncio.to_thread(eventually, lambda: until(calls, telemetry), 20, lambda: str(calls))
    running.cancel()
    await asyncio.wait([running])
    await worklist.close()
    return calls


def looked(times: int) -> Callable[[Calls, Telemetry], bool]:
    name = "splitwise_operator_scale_look_seconds_count"
    return lambda _, telemetry: (telemetry.registry.get_sample_value(name) or 0) >= times


AUTO = {"by": "Load", "maxReplicas": 6, "load": {"backlogSeconds": 0.5}}


async def test_a_queue_at_the_workers_grows_their_pool_and_is_told() -> None:
    seconds = 2.0

    def busy() -> bytes:  # a second's work comes in every tenth of one, and a tenth is done
        nonlocal seconds
        seconds += 0.1
        return json.dumps(
            asdict(
                load(
                    prompt_tokens_total=int(seconds * 5000),
                    prompt_s_total=seconds,
                    queued_tokens=int((seconds - 2) * 50_000),
                )
            )
        ).encode()

    idle = json.dumps(asdict(load())).encode()
    async with AsyncExitStack() as pages:
        await pages.enter_async_context(page("127.0.3.1", 9101, busy))
        await pages.enter_async_context(page("127.0.3.2", 9101, lambda: idle))
        store = store_with(AUTO, {"prompt": "127.0.3.1", "token": "127.0.3.2"})
        calls = await run(store, lambda calls, _: bool(calls.events))
    name, replicas = calls.scaled[0]
    assert name == "demo-prompt"
    assert 1 < replicas <= 5
    (entry,) = store.scaling[KEY].last
    assert (entry["pool"], entry["from"], entry["to"]) == ("prompt", 1, replicas)
    assert entry["reason"] == "BacklogHigh"
    assert entry["inputs"]["promptTokensPerSecond"] == 5000
    assert "from 1 to" in calls.events[0]["message"]


async def test_workers_that_do_not_answer_leave_their_pool_as_it_is_and_are_told_of() -> None:
    store = store_with(AUTO, {"prompt": "127.0.3.3"}, replicas=3)
    calls = await run(store, looked(3))
    assert calls.scaled == []
    assert store.scaling[KEY].silent == ["prompt"]


async def test_a_pool_of_another_owner_is_not_touched() -> None:
    store = store_with({"by": "External", "maxReplicas": 6}, {"prompt": "127.0.3.3"})
    calls, telemetry = Calls(), Telemetry(Component.OPERATOR)
    worklist = Worklist(lambda _: asyncio.sleep(0, True))
    log = logging.getLogger("test")
    loop = Autoscaler(calls, store, worklist, Looks(), telemetry, log)  # type: ignore[arg-type]
    running = asyncio.create_task(loop.run())
    await asyncio.sleep(0.3)
    running.cancel()
    await asyncio.wait([running])
    assert KEY not in store.scaling
    assert not looked(1)(calls, telemetry)


async def test_bounds_that_have_moved_are_kept_at_once() -> None:
    store = store_with(AUTO | {"minReplicas": 2}, {"prompt": "127.0.3.3"})
    calls = await run(store, lambda calls, _: bool(calls.scaled))
    assert calls.scaled[0] == ("demo-prompt", 2)


async def test_what_was_decided_is_not_decided_again_before_it_is_seen() -> None:
    store = store_with(AUTO | {"minReplicas": 2}, {"prompt": "127.0.3.3"})
    calls = await run(store, looked(4))
    assert calls.scaled == [("demo-prompt", 2)]
    assert len(calls.events) == 1


@pytest.mark.parametrize(
    "document",
    [
        pytest.param([], id="no mapping"),
        pytest.param({}, id="nothing in it"),
        pytest.param(asdict(load()) | {"queued_tokens": -1}, id="less than nothing"),
        pytest.param(asdict(load()) | {"queued_tokens": 2**70}, id="more than there is"),
        pytest.param(asdict(load()) | {"prompt_s_total": float("nan")}, id="no number"),
        pytest.param(asdict(load()) | {"ttft_counts": [0]}, id="counts of other bounds"),
    ],
)
def test_a_senseless_load_is_refused(document: Any) -> None:
    with pytest.raises(ValueError):
        load_of(document)


def test_what_a_worker_writes_is_what_the_operator_reads() -> None:
    assert load_of(json.loads(json.dumps(asdict(load())))) == load()
    waiting = {"requests": 1, "promptTokens": 2, "kvTokens": 3}
    told = Held(1, 2, 3, placed_tokens=4, refused_tokens=5)
    assert held_of(waiting | {"placedTokens": 4, "refusedTokens": 5}) == told
    assert held_of(waiting) == Held(1, 2, 3), "a router of an older image"
    with pytest.raises(ValueError, match="router"):
        held_of({"requests": 1})
