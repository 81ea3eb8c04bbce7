"""Decode steps on a GPU as CUDA graphs: one launch a step in place of nine for each layer.

Launched one by one, the kernels of a step of Llama 3 8B take the host 11 ms and an H200 4.5
(bench/gpu/results).
"""

from collections.abc import Sequence
from itertools import chain
from typing import Final, NamedTuple

import torch
from torch import Tensor

from splitwise_worker.model.batch import Batch, Span, make_batch
from splitwise_worker.model.decoder import Decoder

SMALL_SIZES: Final = (1, 2, 4)
SIZE_STEP: Final = 8
"""A step of another size takes the next that was captured, with fewer idle rows than this."""


def graph_sizes(max_sequences: int) -> tuple[int, ...]:
    """How many sequences each captured step has, in rising order; the last holds them all."""
    steps = range(SIZE_STEP, max_sequences + SIZE_STEP, SIZE_STEP)
    smaller = (size for size in chain(SMALL_SIZES, steps) if size < max_sequences)
    return (*smaller, max_sequences)


class StepBuffers:
    """A step of up to `size` sequences at addresses that stay. Rows nobody has write no K/V."""

    def __init__(self, size: int, max_blocks: int, device: torch.device) -> None:
        def zeros(*shape: int, dtype: torch.dtype) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        self.batch = Batch(
            tokens=zeros(size, dtype=torch.int64),
            positions=zeros(size, dtype=torch.int64),
            slots=zeros(size, dtype=torch.int64) - 1,
            block_tables=zeros(size, max_blocks, dtype=torch.int32),
            cu_seqlens=torch.arange(size + 1, dtype=torch.int32, device=device),
            seq_lens=zeros(size, dtype=torch.int32),
            max_q=1,
            q_lens=(1,) * size,
            kv_lens=(0,) * size,
            stretches=0,
            stretch_rows=0,
        )

    def hold(self, step: Batch) -> None:
        """Takes on `step`, of one token a sequence; what else is in the buffers is never read."""
        rows, width = step.block_tables.shape
        held = self.batch
        held.tokens[:rows] = step.tokens
        held.positions[:rows] = step.positions
        held.slots[:rows] = step.slots
        held.slots[rows:] = -1
        held.seq_lens[:rows] = step.seq_lens
        held.seq_lens[rows:] = 0
        held.block_tables[:rows, :width] = step.block_tables


class _Captured(NamedTuple):
    buffers: StepBuffers
    logits: Tensor
    graph: torch.cuda.CUDAGraph


class DecodeGraphs:
    """A graph for each size of step, captured at the start. They share their memory, so that the
    logits of a step are there until the next one."""

    def __init__(
        self, decoder: Decoder, kv: Tensor, block_tokens: int, max_sequences: int, max_blocks: int
    ) -> None:
        self._decoder = decoder
        self._kv = kv
        self._block_tokens = block_tokens
        self._memory = torch.cuda.graph_pool_handle()
        with torch.inference_mode():
            self._captured = {
                size: self._capture(StepBuffers(size, max_blocks, kv.device))
                for size in reversed(graph_sizes(max_sequences))  # the largest makes the room
            }

    def forward(self, spans: Sequence[Span]) -> Tensor:
        """Logits [B, vocab] in fp32 behind one token of each of up to `max_sequences` spans."""
        size = min(size for size in self._captured if size >= len(spans))
        buffers, logits, graph = self._captured[size]
        buffers.hold(make_batch(spans, self._block_tokens, "cpu"))
        graph.replay()
        return logits[: len(spans)]

    def _capture(self, buffers: StepBuffers) -> _Captured:
        self._decoder.forward(buffers.batch, self._kv)  # compiles and loads: a capture must not
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._memory, capture_error_mode="thread_local"):
            logits = self._decoder.forward(buffers.batch, self._kv)
        return _Captured(buffers, logits, graph)
