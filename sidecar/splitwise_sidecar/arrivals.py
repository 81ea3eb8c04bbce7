"""What has arrived of one sequence: how many bytes of each layer, and their digest so far.

The digest is taken of the pool's memory right after the bytes got there, while the processor still
has them in its cache: afterwards it would cost two thirds of another copy.
"""

from collections.abc import Mapping
from typing import Any

import xxhash

from splitwise_sidecar.pool import Span
from splitwise_sidecar.transports import Loan


class Arrivals:
    """Bytes of a layer come in order; offset 0 begins the layer anew."""

    def __init__(self, span: Span) -> None:
        self._span = span
        layers = span.pool.geometry.num_layers
        self._lengths = [0] * layers
        self._digests: list[Any] = [xxhash.xxh3_64() for _ in range(layers)]

    def are_next(self, layer: int, offset: int, length: int) -> bool:
        """Whether these bytes are what comes next of a layer of the sequence."""
        if layer >= len(self._lengths) or length < 1:
            return False
        return offset in (0, self._lengths[layer]) and offset + length <= self._span.layer_bytes

    def add(self, layer: int, offset: int, length: int) -> None:
        """These bytes, which are next, are in memory now."""
        digest = self._digests[layer]
        if offset == 0:
            digest.reset()
        for piece in self._span.pieces(layer, offset, length):
            digest.update(piece)
        self._lengths[layer] = offset + length

    def add_digested(self, loan: Loan, count: int) -> None:
        """These bytes, a layer's first, are in memory and in the loan's digest."""
        self._digests[loan.layer] = loan.digest
        self._lengths[loan.layer] = count

    def damaged(self, sent: Mapping[int, int]) -> list[int]:
        """The layers that are not whole, or not what was sent; `sent` has a digest of each."""
        whole = self._span.layer_bytes
        return [
            layer
            for layer, digest in enumerate(self._digests)
            if self._lengths[layer] != whole or digest.intdigest() != sent[layer]
        ]
