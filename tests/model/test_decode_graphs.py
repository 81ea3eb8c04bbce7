"""Decode steps at addresses that stay: of any size, with idle rows that change nothing.

That a captured step gives what a launched one does takes a GPU: `bench/gpu` checks it there.
"""

import pytest
import torch

from bench.gpu.weights import RandomWeights, llama
from splitwise_worker.model.batch import Span, make_batch
from splitwise_worker.model.decode_graphs import SIZE_STEP, StepBuffers, graph_sizes
from splitwise_worker.model.decoder import Decoder
from splitwise_worker.model.ops_gpu import GpuOps
from splitwise_worker.model.rope import cos_sin

CONFIG = llama(2, 64, 4, 2, 16, 96, 80)
BEGUN = [Span(list(range(9)), 0, [3, 0]), Span([5, 6, 7], 0, [1]), Span([8] * 12, 0, [2, 4])]
LARGE = [Span([1], 9, [3, 0]), Span([2], 3, [1]), Span([9], 12, [2, 4])]
SMALL = [Span([4], 4, [1])]


def decoder_and_kv() -> tuple[Decoder, torch.Tensor]:
    """On the CPU, where the kernels' formulas compute; five blocks of eight tokens."""
    weights = RandomWeights(1, torch.float32, "cpu")
    ops = GpuOps(CONFIG, cos_sin(CONFIG, 64))
    decoder = Decoder.assemble(CONFIG, weights, ops, "float32")
    kv = torch.zeros(5, CONFIG.num_layers, 2, 8, CONFIG.kv_heads, CONFIG.head_dim)
    return decoder, kv


def test_a_step_in_larger_buffers_gives_the_same_and_writes_the_same() -> None:
    decoder, kv = decoder_and_kv()
    buffers = StepBuffers(8, 6, kv.device)
    with torch.inference_mode():
        decoder.forward(make_batch(BEGUN, 8, "cpu"), kv)
        wanted_kv = kv.clone()
        for spans in (LARGE, SMALL):  # the smaller one finds the larger one's rows behind its own
            wanted = decoder.forward(make_batch(spans, 8, "cpu"), wanted_kv)
            buffers.hold(make_batch(spans, 8, "cpu"))
            found = decoder.forward(buffers.batch, kv)[: len(spans)]
            torch.testing.assert_close(found, wanted, rtol=2e-4, atol=2e-5)
            torch.testing.assert_close(kv, wanted_kv, rtol=2e-4, atol=2e-5)


def test_buffers_that_hold_nothing_write_nothing() -> None:
    decoder, kv = decoder_and_kv()
    with torch.inference_mode():
        decoder.forward(StepBuffers(4, 6, kv.device).batch, kv)
    assert not kv.any()


@pytest.mark.parametrize("most", [1, 2, 3, 8, 9, 64, 1000])
def test_every_step_finds_a_size_with_few_idle_rows(most: int) -> None:
    sizes = graph_sizes(most)
    assert list(sizes) == sorted(set(sizes))
    assert sizes[-1] == most
    for rows in range(1, most + 1):
        taken = min(size for size in sizes if size >= rows)
        assert taken - rows < min(SIZE_STEP, rows + 1)
