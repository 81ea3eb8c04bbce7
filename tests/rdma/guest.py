"""What runs in the guest of `make soft-roce`: our sidecars, moving KV by the verbs of rxe0."""

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Final

import bench.kv.pair
import tests.support.kv_worker
from splitwise_core.kv import KvGeometry
from splitwise_core.rpc import kv_pb2
from tests.rdma.soft_roce import PASSED

GEOMETRY: Final = KvGeometry("soft-roce", "float16", 4, 2, 64, 16)
TOKENS: Final = (1, 100, 1000)  # 2 KiB to 2 MiB: an emulated processor makes every packet

ATTEMPTS: Final = 5

EMULATED_S: Final = 900.0
"""An emulated processor needs a minute to start a sidecar, and more when it is not alone."""


async def main() -> int:
    """The exit status: 0 when all bytes have arrived, by RDMA."""
    bench.kv.pair.START_S = tests.support.kv_worker.ANSWER_WITHIN_S = EMULATED_S
    bench.kv.pair.SIDECARS_SAY = None
    print("starting sidecars", flush=True)
    with tempfile.TemporaryDirectory() as place:
        async with bench.kv.pair.pair("rdma", GEOMETRY, max(TOKENS), Path(place)) as pair:
            print("sidecars are up", flush=True)
            for tokens in TOKENS:
                blocks = range(GEOMETRY.blocks_for(tokens))
                pair.prompt.fill(blocks, tokens, seed=tokens)
                ended = (await patiently(pair, tokens)).ended
                print(
                    f"{tokens} tokens: {ended.kv_bytes} bytes by {ended.transport}, "
                    f"{ended.transfer_s:.2f} s, pushes {ended.pushes}",
                    flush=True,
                )
                assert pair.token.read(blocks, tokens) == pair.prompt.read(blocks, tokens)
                assert (ended.transport, ended.outcome) == ("rdma", kv_pb2.OK)
            await keys_are_withdrawn_from_a_sender_that_is_stopped(pair)
    print(PASSED, flush=True)
    return 0


async def keys_are_withdrawn_from_a_sender_that_is_stopped(pair: bench.kv.pair.Pair) -> None:
    """What it writes when it goes on reaches no memory, and the next transfer goes well."""
    tokens, sender = max(TOKENS), pair.processes[0]
    blocks = list(range(GEOMETRY.blocks_for(tokens)))
    pair.prompt.fill(blocks, tokens, seed=1)
    pair.token.open_lease("stopped", blocks, tokens)
    pair.prompt.start_transfer("stopped", pair.address, blocks, tokens)
    pair.prompt.layers_ready("stopped", 0, 1)
    while pair.token.read(blocks, tokens)[0] != pair.prompt.read(blocks, tokens)[0]:
        await asyncio.sleep(0.05)
    pair.prompt.layers_ready("stopped", 1)
    sender.suspend()
    pair.token.close_lease("stopped")
    ended = await pair.token.expect("lease_ended")
    print(f"a stopped sender: {kv_pb2.Outcome.Name(ended.outcome)}", flush=True)
    pair.token.memory[:] = b"\x33" * len(pair.token.memory)
    sender.resume()
    await pair.prompt.expect("transfer_ended")
    assert set(pair.token.memory[:]) == {0x33}
    await patiently(pair, tokens)
    assert pair.token.read(blocks, tokens) == pair.prompt.read(blocks, tokens)
    print("nothing came of what it wrote then, and the next transfer went well", flush=True)


async def patiently(pair: bench.kv.pair.Pair, tokens: int) -> bench.kv.pair.Moved:
    """A transfer, begun again when the emulated processor was slower than sidecars wait."""
    for attempt in range(ATTEMPTS):
        try:
            return await pair.move(tokens)
        except RuntimeError as error:
            print(f"attempt {attempt + 1}: {error}".replace("\n", " "), flush=True)
    raise TimeoutError(f"{tokens} tokens did not arrive in {ATTEMPTS} attempts")


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
