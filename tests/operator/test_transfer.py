"""What status says of links between pools, and how rarely it is written."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitwise_core.metric import Component
from splitwise_core.telemetry import Telemetry
from splitwise_operator import link_reader
from splitwise_operator.link_reader import MAX_BYTES, LinkReader
from splitwise_operator.names import Object
from splitwise_operator.store import Store
from splitwise_operator.transfer import cut_off, entries_of, settled
from splitwise_operator.worklist import Worklist
from tests.operator.test_status import ALL, conditions_of, status_of
from tests.support.cluster import eventually
from tests.support.manifests import GOOD


def entry(**changes: Any) -> Object:
    """A pair of pools, all of whose two links work."""
    return {
        "from": "prompt",
        "to": "token",
        "transport": "tcp",
        "bytesPerSecond": 1_000_000_000,
        "latencySeconds": 0.001,
        "measuredAt": "2026-01-01T00:00:00Z",
        "pairs": 2,
        "measured": 2,
        "failing": 0,
        **changes,
    }


SOON, LATE = "2026-01-01T00:09:00Z", "2026-01-01T00:10:00Z"
BROKEN = entry(failing=2, transport="none", bytesPerSecond=0, reason="p to t: peer_lost")


@pytest.mark.parametrize(
    ("now", "is_news"),
    [
        pytest.param(entry(measuredAt=LATE), False, id="the same again"),
        pytest.param(
            entry(measuredAt=LATE, bytesPerSecond=1_900_000_000), False, id="a little faster"
        ),
        pytest.param(entry(measuredAt=LATE, bytesPerSecond=400_000_000), True, id="much slower"),
        pytest.param(entry(measuredAt=LATE, latencySeconds=0.5), True, id="much farther"),
        pytest.param(
            entry(measuredAt=SOON, bytesPerSecond=400_000_000), False, id="numbers change soon"
        ),
        pytest.param(entry(failing=1, reason="p to t: peer_lost"), True, id="a link fails"),
        pytest.param(entry(transport="grpc"), True, id="another transport"),
        pytest.param(entry(pairs=4, measured=2), True, id="more workers"),
        pytest.param(entry(measured=1), False, id="a part of it is measured anew"),
    ],
)
def test_an_entry_stays_until_it_says_something_else(now: Object, is_news: bool) -> None:
    assert settled([entry()], [now]) == [now if is_news else entry()]


def test_what_a_router_no_longer_tells_of_goes_and_what_is_new_comes() -> None:
    other = entry(to="mixed")
    assert settled([entry()], [other]) == [other]
    assert settled([entry(pairs=3)], [entry(pairs=3, measured=3)]) == [entry(pairs=3, measured=3)]


def test_a_cluster_says_how_its_kv_moves() -> None:
    status = status_of(*ALL, transfer=(entry(),))
    assert status["transfer"] == [entry()]
    assert conditions_of(status)["TransferVerified"] == ("True", "LinksMeasured")


def test_pools_between_which_no_link_works_are_told_of_with_the_reason() -> None:
    status = status_of(*ALL, transfer=(entry(to="mixed"), BROKEN))
    said = conditions_of(status)
    assert said["TransferVerified"] == ("False", "LinksFailing")
    assert said["Ready"] == ("True", "Serving"), "workers are ready, and may be used on"
    (message,) = (c["message"] for c in status["conditions"] if c["type"] == "TransferVerified")
    assert "prompt to token (p to t: peer_lost)" in message


def test_one_link_that_works_is_enough() -> None:
    assert cut_off([entry(failing=1)]) == []
    assert cut_off([entry(measured=1, failing=1)]) != []
    assert cut_off([entry(measured=0)]) == []


def test_what_a_router_answers_is_what_status_has() -> None:
    assert entries_of({"transfer": [entry(), BROKEN | {"to": "mixed"}]}) == [
        entry(),
        BROKEN | {"to": "mixed"},
    ]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=9,
)
entries = st.fixed_dictionaries(dict.fromkeys(entry(), json_values))


@given(json_values | st.fixed_dictionaries({"transfer": st.lists(entries, max_size=2)}))
def test_any_answer_is_read_or_refused(document: Any) -> None:
    try:
        read = entries_of(document)
    except ValueError:
        return
    assert settled(read, read) == read
    json.dumps(read, allow_nan=False)


# ---- asking ----


@asynccontextmanager
async def router(answer: Callable[[], bytes]) -> AsyncIterator[int]:
    """Something that listens as a router does; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = answer()
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + body)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


def with_router(port: int, transfer: list[Object] | None = None) -> Store:
    """A store that knows a cluster with one ready router, there."""
    store, key = Store(), ("default", "demo")
    spec = GOOD["spec"] | {"router": {"port": port}}
    status = {} if transfer is None else {"status": {"transfer": transfer}}
    meta = {"name": "demo", "namespace": "default", "uid": "u", "generation": 1}
    store.clusters[key] = {"metadata": meta, "spec": spec, **status}
    labels = {"splitwise.dev/cluster": "demo", "splitwise.dev/pool": "router"}
    ready = [{"type": "Ready", "status": "True"}]
    pod = {"name": "r", "namespace": "default", "uid": "p", "resourceVersion": "1"}
    store.put(
        "Pod",
        {
            "metadata": pod | {"labels": labels},
            "status": {"podIP": "127.0.0.1", "conditions": ready},
        },
    )
    return store


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_reader, "EVERY_S", 0.02)
    monkeypatch.setattr(link_reader, "DEADLINE_S", 0.5)


async def looks(store: Store, until: Callable[[Telemetry], bool]) -> int:
    """How often the cluster was looked at until then."""
    seen, telemetry = 0, Telemetry(Component.OPERATOR)

    async def look(_: tuple[str, str]) -> bool:
        nonlocal seen
        seen += 1
        return True

    worklist = Worklist(look)
    reader = LinkReader(store, worklist, telemetry, logging.getLogger("test"))
    reading = asyncio.create_task(reader.run())
    await asyncio.to_thread(eventually, lambda: until(telemetry), 20, lambda: "nothing was read")
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.wait([reading])
    await worklist.close()
    return seen


def readings(result: str, at_least: int) -> Callable[[Telemetry], bool]:
    name = "splitwise_operator_link_readings_total"

    def done(telemetry: Telemetry) -> bool:
        value = telemetry.registry.get_sample_value(name, {"result": result})
        return (value or 0) >= at_least

    return done


async def test_what_is_new_wakes_the_cluster() -> None:
    async with router(lambda: json.dumps({"transfer": [entry()]}).encode()) as port:
        store = with_router(port)
        enough = readings("done", 9)
        assert await looks(store, enough) >= 1
        assert store.transfer == {("default", "demo"): [entry()]}


async def test_what_status_says_already_wakes_nobody() -> None:
    again = entry(measuredAt=SOON, bytesPerSecond=1_100_000_000)
    async with router(lambda: json.dumps({"transfer": [again]}).encode()) as port:
        assert await looks(with_router(port, [entry()]), readings("done", 9)) == 0


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"no JSON", id="no JSON"),
        pytest.param(b'{"transfer": 5}', id="no list"),
        pytest.param(b'{"transfer": [{}]}', id="no entries"),
        pytest.param(b" " * (MAX_BYTES + 1), id="without end"),
    ],
)
async def test_a_senseless_answer_changes_nothing(answer: bytes) -> None:
    async with router(lambda: answer) as port:
        store = with_router(port, [entry()])
        assert await looks(store, readings("failed", 2)) == 0
        assert store.transfer == {}


async def test_a_router_that_does_not_answer_is_given_up_in_time() -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(hang, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await looks(with_router(port), readings("failed", 2)) == 0


async def test_a_cluster_that_is_gone_is_forgotten() -> None:
    store = Store()
    store.transfer["default", "gone"] = [entry()]
    await looks(store, lambda _: not store.transfer)
