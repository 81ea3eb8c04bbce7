"""Checks that only a GPU can make: large inputs, offsets beyond 32 bits, graphs, block copies."""

from collections.abc import Iterator
from functools import cache, partial
from threading import Semaphore

import torch

from bench.gpu.checks import TOLERANCE
from bench.gpu.inputs import error, ints, normal, paged, worst
from bench.gpu.plan import PlannedCheck
from bench.gpu.weights import RandomWeights, llama
from splitwise_core.kv import KvGeometry
from splitwise_worker import kernels
from splitwise_worker.kernels.decode_attention import decode_attention_torch
from splitwise_worker.kernels.prefill_attention import prefill_attention_torch
from splitwise_worker.kernels.rope_kv_write import rope_kv_write_torch
from splitwise_worker.kv.host_pool import HostPool
from splitwise_worker.kv.store import DeviceStore
from splitwise_worker.model.batch import Span, make_batch
from splitwise_worker.model.decode_graphs import DecodeGraphs
from splitwise_worker.model.decoder import Decoder
from splitwise_worker.model.ops_gpu import GpuOps
from splitwise_worker.model.rope import cos_sin

BF16 = torch.bfloat16
HEADS, KV_HEADS, HEAD_DIM = 32, 8, 128  # of Llama 3 8B
SCALE = HEAD_DIM**-0.5


def device_checks() -> Iterator[PlannedCheck]:
    """In bf16 and the shape of Llama 3 8B."""
    tolerance = TOLERANCE[BF16]
    yield PlannedCheck("decode_attention over 32,768 tokens", tolerance, partial(_decode, [32768]))
    ragged = [int(n) for n in torch.randint(1, 3000, (256,))]
    yield PlannedCheck("decode_attention of 256 sequences", tolerance, partial(_decode, ragged))
    yield PlannedCheck("prefill_attention of 4,096 tokens", tolerance, _prefill)
    twice = 2 * tolerance  # rounded by one kernel, then by the next
    yield PlannedCheck("a pool of more than 2**31 values", twice, _large_pool)
    yield PlannedCheck("decode_attention replayed in a CUDA graph", tolerance, _graph)
    yield PlannedCheck("decoder: captured steps of every size", twice, _captured_steps)
    yield PlannedCheck("DeviceStore: published blocks reach the host", 0.0, _publish)
    yield PlannedCheck("DeviceStore: fetched blocks reach the device", 0.0, _fetch)


def _decode(lens: list[int]) -> float:
    kv = paged(lens, KV_HEADS, HEAD_DIM, BF16, "cuda")
    q = normal(len(lens), HEADS, HEAD_DIM, dtype=BF16, device="cuda")
    args = (q, *kv.layers[0], kv.tables, kv.seq_lens, SCALE)
    return error(kernels.decode_attention(*args), decode_attention_torch(*args))


def _prefill() -> float:
    tokens = 4096
    kv = paged([tokens], KV_HEADS, HEAD_DIM, BF16, "cuda")
    q = normal(tokens, HEADS, HEAD_DIM, dtype=BF16, device="cuda")
    starts = ints([0, tokens], "cuda")
    args = (q, *kv.layers[0], kv.tables, starts, kv.seq_lens, tokens, SCALE)
    return error(kernels.prefill_attention(*args), prefill_attention_torch(*args))


def _large_pool() -> float:
    """Writes 40 tokens to the last blocks of a pool of 32 layers, and attends over them."""
    layers, block_tokens, tokens = 32, 32, 40
    block_values = layers * 2 * block_tokens * KV_HEADS * HEAD_DIM
    blocks = 2**31 // block_values + 3
    pool = torch.empty(
        blocks, layers, 2, block_tokens, KV_HEADS, HEAD_DIM, dtype=BF16, device="cuda"
    )
    k, v = pool[:, layers - 1, 0], pool[:, layers - 1, 1]
    near_k, near_v = (normal(3, *k.shape[1:], dtype=BF16, device="cuda") for _ in range(2))
    qkv = normal(tokens, (HEADS + 2 * KV_HEADS) * HEAD_DIM, dtype=BF16, device="cuda")
    cos_sin = torch.rand(tokens, HEAD_DIM, device="cuda")
    where = torch.arange(tokens, device="cuda")
    far = where + (blocks - 2) * block_tokens
    q = kernels.rope_kv_write(qkv, cos_sin, where, far, k, v, HEADS)
    wanted_q = rope_kv_write_torch(qkv, cos_sin, where, where, near_k, near_v, HEADS)
    lens = ints([tokens], "cuda")
    out = kernels.decode_attention(
        q[-1:], k, v, ints([blocks - 2, blocks - 1], "cuda")[None], lens, SCALE
    )
    near_table = ints([0, 1], "cuda")[None]
    wanted = decode_attention_torch(wanted_q[-1:], near_k, near_v, near_table, lens, SCALE)
    return worst(error(q, wanted_q), error(out, wanted))


def _graph() -> float:
    """One captured call must serve other lengths, other blocks and other queries."""
    lens = [700, 33, 2000, 1]
    first, second = (paged(lens, KV_HEADS, HEAD_DIM, BF16, "cuda", layers=1) for _ in range(2))
    q = normal(len(lens), HEADS, HEAD_DIM, dtype=BF16, device="cuda")
    args = (q, *first.layers[0], first.tables, first.seq_lens, SCALE)
    kernels.decode_attention(*args)  # compiles: a capture must not
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = kernels.decode_attention(*args)
    q.normal_()
    first.layers[0][0].copy_(second.layers[0][0])
    first.layers[0][1].copy_(second.layers[0][1])
    first.tables.copy_(second.tables)
    first.seq_lens.copy_(ints([10, 33, 1999, 0], "cuda"))
    out.fill_(torch.nan)
    graph.replay()
    return error(out, decode_attention_torch(*args))


@torch.inference_mode()
def _captured_steps() -> float:
    """Steps of 1 to 11 sequences in graphs for up to 11, against the same steps launched."""
    blocks, block_tokens, layers = 44, 32, 2
    config = llama(layers, 512, 8, 2, 64, 1024, 4096)
    ops = GpuOps(config, cos_sin(config, 4 * block_tokens).to("cuda"))
    decoder = Decoder.assemble(config, RandomWeights(1, BF16, "cuda"), ops, "bfloat16")
    kv = normal(blocks, layers, 2, block_tokens, 2, 64, dtype=BF16, device="cuda")
    graphs = DecodeGraphs(decoder, kv, block_tokens, max_sequences=11, max_blocks=4)
    order = torch.randperm(blocks).view(11, 4).tolist()
    errors = []
    for rows in (11, 1, 2, 3, 8, 9):
        starts = torch.randint(4 * block_tokens, (rows,)).tolist()
        steps = zip(starts, order[:rows], strict=True)
        spans = [Span([start], start, table) for start, table in steps]
        wanted = decoder.forward(make_batch(spans, block_tokens, "cuda"), kv)
        errors.append(error(graphs.forward(spans), wanted))
    return worst(*errors)


@cache
def _store() -> tuple[HostPool, DeviceStore]:
    pool = HostPool(KvGeometry("bench", "bfloat16", 4, KV_HEADS, HEAD_DIM, 32), 16)
    return pool, DeviceStore(pool, torch.device("cuda"))


def _publish() -> float:
    """Wrong values on the host, while other work keeps the compute stream busy."""
    pool, store = _store()
    blocks, copied = [3, 9, 4], Semaphore(0)
    busy = normal(4096, 4096, dtype=BF16, device="cuda")
    for layer in range(4):
        for _ in range(20):
            busy @ busy
        store.tensor[blocks, layer] = normal(
            *store.tensor[blocks, layer].shape, dtype=BF16, device="cuda"
        )
        store.publish(layer, blocks, copied.release)
    for _ in range(4):
        assert copied.acquire(timeout=30), "a published layer was not reported"
    return float((pool.tensor[blocks] != store.tensor[blocks].cpu()).sum())


def _fetch() -> float:
    """Wrong values on the device, read by what the compute stream runs right after."""
    pool, store = _store()
    blocks = [0, 15, 7]
    pool.tensor[blocks] = torch.randn(pool.tensor[blocks].shape).to(BF16)
    store.fetch(blocks)
    seen = store.tensor[blocks]  # a copy, made on the compute stream
    return float((seen.cpu() != pool.tensor[blocks]).sum())
