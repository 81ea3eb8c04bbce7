"""Transfers of no request: they go the whole way that a request's KV goes."""

import asyncio
import os
from dataclasses import replace
from typing import Final

from splitwise_core.kv import KvGeometry
from splitwise_core.rpc import kv_pb2
from splitwise_sidecar.metrics import SidecarMetrics
from splitwise_sidecar.peer import Peer
from splitwise_sidecar.pool import Pool, new_pool
from splitwise_sidecar.refusal import Refused
from splitwise_sidecar.rights import Right
from splitwise_sidecar.transfer import Order, Transfer

PROBE_BYTES: Final = 4 << 20
"""A probe pushes as many tokens of a block as fit into this, and one at least: nobody would learn
more from a larger one."""


def probe_tokens(geometry: KvGeometry) -> int:
    """Tokens of one block that a probe moves."""
    return max(1, min(geometry.block_tokens, PROBE_BYTES // geometry.sequence_bytes(1)))


def link_tokens(geometry: KvGeometry) -> int:
    """Tokens with which a link is measured, whatever a block holds."""
    return max(1, PROBE_BYTES // geometry.sequence_bytes(1))


def empty_pool(geometry: KvGeometry, tokens: int) -> Pool:
    """Memory of our own for one sequence of `tokens` tokens."""
    shape = replace(geometry, block_tokens=tokens)
    return new_pool(shape, bytes(shape.block_bytes))


async def random_pool(geometry: KvGeometry, tokens: int) -> Pool:
    """As `empty_pool`, of random bytes: what was there before does not match them by chance."""
    shape = replace(geometry, block_tokens=tokens)
    return new_pool(shape, await asyncio.to_thread(os.urandom, shape.block_bytes))


async def hand_over(
    right: Right,
    source: Pool,
    tokens: int,
    peer: Peer,
    metrics: SidecarMetrics,
    within_s: float,
) -> kv_pb2.TransferEnded:
    """How a transfer of the first `tokens` tokens of `source` went. Raises Refused."""
    order = Order(right.transfer_id, source.span([0], tokens), within_s, right)
    transfer = Transfer(order, peer, metrics)
    over: asyncio.Future[kv_pb2.TransferEnded] = asyncio.Future()
    transfer.start(lambda ended: None if over.done() else over.set_result(ended))
    transfer.layers_ready(0, source.geometry.num_layers)
    transfer.finish([0])
    try:
        ended = await over
    finally:
        transfer.stop(kv_pb2.CANCELLED, "the probe is over")
        await transfer.join()
    if ended.outcome != kv_pb2.OK:
        raise Refused(ended.outcome, ended.detail)
    return ended
