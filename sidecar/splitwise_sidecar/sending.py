"""The bytes of one transfer on their way: its layers, each as soon as it is in the pool."""

import asyncio
from collections.abc import Callable, Iterable
from itertools import takewhile

from splitwise_core.rpc import kv_pb2
from splitwise_sidecar.pool import Span
from splitwise_sidecar.refusal import Refused
from splitwise_sidecar.transports import Push


class Sending:
    """Which layers are there, what was sent of them, and how long that took, by `clock`."""

    def __init__(self, layers: int, clock: Callable[[], float]) -> None:
        self.pushes = 0  # begun
        self.streams = 0  # of chunks, of all pushes
        self.push_s = 0.0  # spent in pushes, while there was something to push
        self.first_byte_s = 0.0
        self.over_s = 0.0  # when the last push had ended
        self._ready = [asyncio.Event() for _ in range(layers)]
        self._digests = [0] * layers
        self._clock = clock

    @property
    def layers(self) -> range:
        """All that the transfer has."""
        return range(len(self._ready))

    @property
    def digests(self) -> list[kv_pb2.LayerDigest]:
        """Of each layer as it was sent."""
        return [kv_pb2.LayerDigest(layer=i, xxh3=own) for i, own in enumerate(self._digests)]

    def ready(self, first: int, count: int) -> None:
        """So many layers are in the pool. Raises Refused(INVALID) for some that do not exist."""
        if first + count > len(self._ready):
            raise Refused(kv_pb2.INVALID, f"layers {first} + {count} of {len(self._ready)}")
        for layer in range(first, first + count):
            self._ready[layer].set()

    async def push(self, layers: Iterable[int], span: Span, begin: Callable[[], Push]) -> Push:
        """Pushes these; those that are there together in one go. The push has still to be ended.

        A prompt may wait for long: `begin` is called when there are bytes. Raises Refused.
        """
        left = list(layers)
        await self._ready[left[0]].wait()
        push = begin()
        self.pushes += 1
        self.first_byte_s = self.first_byte_s or self._clock()
        try:
            while left:
                await self._ready[left[0]].wait()
                batch = list(takewhile(lambda layer: self._ready[layer].is_set(), left))
                began_s = self._clock()
                digests = await push.layers(batch, span)
                self.push_s += self._clock() - began_s
                for layer, digest in zip(batch, digests):
                    self._digests[layer] = digest
                left = left[len(batch) :]
        except BaseException:
            push.cancel()
            raise
        self.streams += push.streams
        return push

    async def end(self, push: Push) -> None:
        """Returns when the peer has taken every byte. Raises Refused when it has not."""
        began_s = self._clock()
        await push.finish()
        self.over_s = self._clock()
        self.push_s += self.over_s - began_s
