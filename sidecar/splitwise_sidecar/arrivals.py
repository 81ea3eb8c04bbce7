"""What has arrived of one sequence: a move for each layer, and who is writing now.

A layer's digest is taken of the pool's memory as its bytes get there, while the processor still has
them in its cache: afterwards it would cost two thirds of another copy.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from splitwise_sidecar.moves import Move, new_move
from splitwise_sidecar.pool import Span


def _nobody() -> None:
    """Whoever writes all of what is lent in one go needs not be asked for it."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What a Commit says: the digest of each layer, the tokens to go on after, streams begun, and
    how long ago the prompt was done."""

    digests: Mapping[int, int]
    output_tokens: tuple[int, ...]
    streams: int
    waited_s: float


class Arrivals:
    """Bytes of a layer come in order; offset 0 begins the layer anew. One writer a layer."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self._moves: list[Move | None] = [None] * span.pool.geometry.num_layers
        self._lent: dict[int, Callable[[], None]] = {}  # who hears that it is wanted back

    @property
    def in_use(self) -> bool:
        """Whether somebody may be writing."""
        return bool(self._lent)

    @property
    def num_bytes(self) -> int:
        """That have arrived, of all layers."""
        return sum(move.at for move in self._moves if move is not None)

    def lend_rest(
        self, layer: int, offset: int, length: int, wanted: Callable[[], None]
    ) -> Move | None:
        """The same for these bytes and all that follow; `wanted()` asks for them back."""
        move = self.lend(layer, offset, length, wanted)
        if move is not None:
            move.end = self._span.layer_bytes
        return move

    def lend(
        self, layer: int, offset: int, length: int, wanted: Callable[[], None] = _nobody
    ) -> Move | None:
        """The move for these bytes; None when they are not what comes next of a layer."""
        if layer >= len(self._moves) or length < 1:
            return None
        if holder := self._lent.get(layer):
            holder()
        if layer in self._lent:
            return None
        move = self._moves[layer]
        if move is None:
            move = self._moves[layer] = new_move(self._span, layer)
        if offset not in (0, move.at) or offset + length > self._span.layer_bytes:
            return None
        if offset == 0:
            move.restart()
        move.end = offset + length
        self._lent[layer] = wanted
        return move

    def give_back(self, layer: int) -> None:
        """Nobody writes this layer any more."""
        del self._lent[layer]

    def stop(self) -> None:
        """Asks whoever is writing to give back soon."""
        for layer, wanted in list(self._lent.items()):
            if move := self._moves[layer]:
                move.stop()
            wanted()

    def damaged(self, sent: Mapping[int, int]) -> list[int]:
        """The layers that are not whole, or not what was sent; `sent` has a digest of each."""
        whole = self._span.layer_bytes
        return [
            layer
            for layer, move in enumerate(self._moves)
            if move is None or move.at != whole or move.digest() != sent[layer]
        ]
