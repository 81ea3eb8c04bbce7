"""How long a control call takes while bulk moves: made by a process of its own, as peers are."""

import asyncio
import multiprocessing
import statistics
import time
from collections.abc import Callable, Coroutine
from multiprocessing.connection import Connection
from typing import Final

import grpc.aio

from bench.kv.pair import Pair
from splitwise_core.rpc import kv_pb2
from splitwise_core.rpc.channel import OPTIONS
from splitwise_core.rpc.kv_pb2_grpc import KvPeerStub

CONTROL_S: Final = 5.0
EVERY_S: Final = 0.005
START_S: Final = 60.0


async def control(
    measured: Pair, what: str, move: Callable[[], Coroutine[None, None, object]]
) -> float:
    """P99 of a Renew to the sidecar that receives, while moves follow each other; in ms."""
    ours, theirs = multiprocessing.Pipe()
    spawn = multiprocessing.get_context("spawn")
    asked = (measured.address, measured.token.epoch, theirs)
    caller = spawn.Process(target=_call, args=asked, daemon=True)
    caller.start()
    try:
        await asyncio.to_thread(_next, ours)  # it is ready
        telling = asyncio.create_task(asyncio.to_thread(_next, ours))
        while not telling.done():
            await move()
        times_ms = telling.result()
    finally:
        caller.kill()
        caller.join()
    p50, p99 = statistics.median(times_ms), statistics.quantiles(times_ms, n=100)[98]
    print(f"control calls during {what}: P50 {p50:.2f} ms, P99 {p99:.2f} ms", flush=True)
    return p99


def _next(ours: Connection) -> list[float]:
    """What the caller says next. Raises TimeoutError when it says nothing."""
    if not ours.poll(START_S):
        raise TimeoutError(f"the process that makes control calls said nothing for {START_S} s")
    said: list[float] = ours.recv()
    return said


def _call(address: str, epoch: int, tell: Connection) -> None:
    asyncio.run(_calls(address, epoch, tell))


async def _calls(address: str, epoch: int, tell: Connection) -> None:
    """Says when the first call is answered, and in the end how long each of the others took."""
    times_ms: list[float] = []
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        renew = KvPeerStub(channel).Renew
        request = kv_pb2.RenewRequest(epoch=epoch)
        await renew(request)
        tell.send(times_ms)
        over = time.perf_counter() + CONTROL_S
        while time.perf_counter() < over:
            began = time.perf_counter()
            await renew(request)
            times_ms.append((time.perf_counter() - began) * 1000)
            await asyncio.sleep(EVERY_S)
    tell.send(times_ms)
