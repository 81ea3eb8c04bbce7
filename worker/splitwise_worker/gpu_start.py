"""What a worker does on a GPU before it serves: else the first requests would wait for it."""

import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import torch

from splitwise_core.errors import UserError
from splitwise_worker.kv.store import DeviceStore
from splitwise_worker.loaded import Loaded
from splitwise_worker.model.batch import Batch, Span, make_batch
from splitwise_worker.model.decode_graphs import DecodeGraphs

log = logging.getLogger("splitwise.worker.gpu_start")

PROMPT_TOKENS: Final = 2048
"""Of the prompt that is computed: so many that its memory and its matrix products are there."""


def prepare(loaded: Loaded, store: DeviceStore, max_sequences: int) -> DecodeGraphs:
    """Compiles every kernel that serving may need, and captures the decode steps.

    Nothing is written to the device's KV. Without it each kernel was compiled when a request first
    needed it, 0.3 to 1 s each (H200, an empty cache of Triton's). Raises UserError where the GPU
    has no room for it.
    """
    try:
        return _prepare(loaded, store, max_sequences)
    except torch.OutOfMemoryError as error:
        free, total = torch.cuda.mem_get_info()
        raise UserError(
            "out-of-memory",
            where="kvMemory",
            wrong=f"weights and KV leave {free} of the GPU's {total} bytes, too few for a step",
            fix="lower kvMemory of the pool, or use a GPU with more memory",
        ) from error


def _prepare(loaded: Loaded, store: DeviceStore, max_sequences: int) -> DecodeGraphs:
    started = time.monotonic()
    kv = store.tensor
    block_tokens = loaded.geometry.block_tokens
    max_blocks = loaded.geometry.blocks_for(loaded.max_model_len)
    with torch.inference_mode():
        for step in _every_kernel(loaded.max_model_len, max_blocks, block_tokens, kv.device):
            loaded.decoder.forward(step, kv)
    store.publish(0, [0], lambda: None)
    torch.cuda.synchronize()
    compiled = time.monotonic()
    graphs = DecodeGraphs(loaded.decoder, kv, block_tokens, max_sequences, max_blocks)
    fields = {
        "compiled_s": round(compiled - started, 2),
        "captured_s": round(time.monotonic() - compiled, 2),
    }
    log.info("ready to launch", extra={"fields": fields})
    return graphs


def _every_kernel(
    max_model_len: int, max_blocks: int, block_tokens: int, device: torch.device
) -> Iterator[Batch]:
    """Steps that launch them all: a prompt, and a token over each width of block table.

    By the width, decode attention chooses how many programs share a sequence: a power of two.
    """
    tokens = min(PROMPT_TOKENS, max_model_len)
    yield _unwritten(make_batch([Span([0] * tokens, 0, range(max_blocks))], block_tokens, device))
    width = 1
    while width < 2 * max_blocks:
        blocks = range(min(width, max_blocks))
        yield _unwritten(make_batch([Span([0], 0, blocks)], block_tokens, device))
        width *= 2


def _unwritten(step: Batch) -> Batch:
    return replace(step, slots=torch.full_like(step.slots, -1))
