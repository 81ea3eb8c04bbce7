"""What has arrived of one sequence: a move for each layer, and who is writing now.

A layer's digest is taken of the pool's memory as its bytes get there, while the processor still has
them in its cache: afterwards it would cost two thirds of another copy.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from splitwise_sidecar.moves import Move, new_move
from splitwise_sidecar.pool import Span


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
        self._lent: set[int] = set()

    @property
    def in_use(self) -> bool:
        """Whether somebody may be writing."""
        return bool(self._lent)

    @property
    def num_bytes(self) -> int:
        """That have arrived, of all layers."""
        return sum(move.at for move in self._moves if move is not None)

    def lend(self, layer: int, offset: int, length: int) -> Move | None:
        """The move for these bytes; None when they are not what comes next of a layer."""
        if layer >= len(self._moves) or length < 1 or layer in self._lent:
            return None
        move = self._moves[layer]
        if move is None:
            move = self._moves[layer] = new_move(self._span, layer)
        if offset not in (0, move.at) or offset + length > self._span.layer_bytes:
            return None
        if offset == 0:
            move.restart()
        move.end = offset + length
        self._lent.add(layer)
        return move

    def give_back(self, layer: int) -> None:
        """Nobody writes this layer any more."""
        self._lent.remove(layer)

    def stop(self) -> None:
        """Asks whoever is writing to give back soon."""
        for layer in self._lent:
            if move := self._moves[layer]:
                move.stop()

    def damaged(self, sent: Mapping[int, int]) -> list[int]:
        """The layers that are not whole, or not what was sent; `sent` has a digest of each."""
        whole = self._span.layer_bytes
        return [
            layer
            for layer, move in enumerate(self._moves)
            if move is None or move.at != whole or move.digest() != sent[layer]
        ]
