"""`python -m bench.kv`: how fast KV moves between two sidecars, and how much of it is not seen.

Real sidecars, each a process of its own, on this machine's loopback; workers that compute nothing
and say that a layer is ready when its share of an emulated prompt is over. Every row is measured in
the same rounds as the plain socket that it is held against. Prints tables; the last line is JSON.
"""

import asyncio
import json
import statistics
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from psutil import Process

from bench.kv import link
from bench.kv.control import BULK_TOKENS, CONTROL_S, control, control_on_link
from bench.kv.overlap import LLAMA_3_8B, Point, overlap, overlap_on_link
from bench.kv.pair import Pair, pair
from bench.kv.picture import draw
from bench.kv.raw import Memcpy, RawTcp, Unary, raw_tcp, unary
from splitwise_core.rdma import nixl_module
from splitwise_sidecar.config import TRANSPORTS
from splitwise_sidecar.transports.ucx import NIXL
from tests.support.certificates import bundle, put

ROUNDS: Final = 9
WARM_UP: Final = 2
HIDDEN_TOKENS: Final = 2048
PICTURE: Final = Path("docs/figures/kv-overlap.svg")


async def main() -> None:
    """Measures and prints."""
    with tempfile.TemporaryDirectory(prefix="kv-") as place:
        ratios, control_p99_ms = await bulk(Path(place))
    shm, loopback = await overlap("shm", "shm"), await overlap("tcp on the loopback", "tcp")
    linked = await over_a_link()
    draw([*shm, *loopback, *linked], PICTURE)
    print(f"the same as a picture: {PICTURE}")
    counted = linked or [*shm, *loopback]
    result = {name: ratios.get(name) for name in ("shm", "tcp", "nixl", "grpc")}
    hidden = [point.hidden for point in counted if point.tokens == HIDDEN_TOKENS]
    result["hidden_2048"] = round(min(hidden), 3)
    result["control_p99_ms"] = round(control_p99_ms, 2)
    over = " and ".join(dict.fromkeys(point.over for point in counted))
    print(f"hidden_2048 is the least of both models over {over}")
    print(json.dumps(result))


async def over_a_link() -> list[Point]:
    """How much is hidden over tcp where processors are not the link; nothing where none can be.

    Prints how long control calls take there too, which share the link with the bytes.
    """
    if reason := link.why_not():
        print(f"this machine lets nobody make a link with a rate of its own: {reason}")
        return []
    print(f"on a link of {link.GBIT} Gb/s, which bytes fill:")
    await control_on_link(("tcp", "grpc"))
    return await overlap_on_link(link.NAME, "tcp")


# ---- how fast ----


@dataclass(frozen=True, slots=True)
class Row:
    """Who moves the bytes: its processes, and one move, which says how many seconds it took."""

    processes: Sequence[Process]
    move: Callable[[], Awaitable[float]]


async def bulk(place: Path) -> tuple[dict[str, float], float]:
    """Throughput of each transport as a ratio to a plain socket's; P99 of control calls in ms."""
    total = LLAMA_3_8B.sequence_bytes(BULK_TOKENS)
    print(f"one transfer of {total >> 20} MiB ({LLAMA_3_8B.model}, {BULK_TOKENS} tokens), medians")
    async with AsyncExitStack() as stack:
        raw = stack.enter_context(raw_tcp(total))
        plains: dict[str, RawTcp | Unary | Memcpy] = {
            "memcpy": Memcpy(total),
            "plain socket": raw,
            "gRPC unary": stack.enter_context(unary(total)),
        }
        rows = {
            name: Row(plain.processes, partial(_plain, plain)) for name, plain in plains.items()
        }
        pairs: dict[str, Pair] = {}
        for name in (*TRANSPORTS, *([NIXL] if nixl_module() else [])):
            made = pair(name, LLAMA_3_8B, BULK_TOKENS, place)
            pairs[name] = await stack.enter_async_context(made)
            rows[name] = Row(pairs[name].processes, partial(_kv, pairs[name]))
        encrypted = pair("tcp", LLAMA_3_8B, BULK_TOKENS, place, put(place / "tls", bundle()))
        kv = await stack.enter_async_context(encrypted)
        rows["tcp in TLS"] = Row(kv.processes, partial(_kv, kv))
        ratios = await table(rows, total)
        await control(pairs[TRANSPORTS[0]], "nothing", lambda: asyncio.sleep(CONTROL_S / 10))
        await control(pairs[TRANSPORTS[0]], "a plain socket", lambda: asyncio.to_thread(raw.move))
        p99_ms = [await control(kv, name, partial(_kv, kv)) for name, kv in pairs.items()]
    return {name: round(ratios[name], 2) for name in pairs}, max(p99_ms)


async def table(rows: Mapping[str, Row], total: int) -> dict[str, float]:
    """Measures all rows in each of the rounds and prints them; ratios to the plain socket."""
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    cpu_s: dict[str, float] = dict.fromkeys(rows, 0.0)
    for number in range(ROUNDS + WARM_UP):
        for name, row in rows.items():
            before = used_s(row.processes)
            took_s = await row.move()
            if number >= WARM_UP:
                seconds[name].append(took_s)
                cpu_s[name] += used_s(row.processes) - before
    ratios = {name: ratio(seconds["plain socket"], seconds[name]) for name in rows}
    print(f"{'':14}{'GB/s':>8}{'of a plain socket':>20}{'CPU s/GB':>10}")
    for name in rows:
        rate = total / statistics.median(seconds[name]) / 1e9
        cost = cpu_s[name] / ROUNDS / total * 1e9
        print(f"{name:14}{rate:8.2f}{ratios[name]:20.2f}{cost:10.2f}")
    return ratios


async def _plain(plain: RawTcp | Unary | Memcpy) -> float:
    return plain.move()


async def _kv(kv: Pair) -> float:
    return (await kv.move(BULK_TOKENS)).ended.transfer_s


def used_s(processes: Iterable[Process]) -> float:
    """Processor seconds of these processes so far."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def ratio(base_s: list[float], own_s: list[float]) -> float:
    """Median over the rounds of how many times as fast."""
    return statistics.median(base / own for base, own in zip(base_s, own_s))


if __name__ == "__main__":
    asyncio.run(main())
