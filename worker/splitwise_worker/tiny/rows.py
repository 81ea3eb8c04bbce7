"""Training rows: token ids and, where something can be known, what comes next."""

import random
from typing import Final

import torch
from torch import Tensor

from splitwise_core.tiny_tasks import DAYS, KEYS, NUMBERS
from splitwise_worker.tiny.vocabulary import END, USER, VOCABULARY, token_id

IGNORED: Final = -100
"""A position whose next token cannot be known has no target."""

_NUMBERS: Final = [token_id(f" {number}") for number in range(NUMBERS)]
_DAYS: Final = [token_id(f" {day}") for day in DAYS]
_KEYS: Final = [token_id(f" {key}") for key in KEYS]
_COMMA, _ASK, _COLON = token_id(","), token_id(" ?"), token_id(":")
_PAIRS: Final = [token_id("pairs"), token_id(" pairs")]
_END, _USER = VOCABULARY[END], VOCABULARY[USER]
_MOST_QUERIES: Final = 24

Row = tuple[list[int], list[int]]
"""Tokens, and for each the token that follows or IGNORED."""


class Rows:
    """An endless supply of rows; the same seed gives the same rows."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)

    def batch(self, rows: int, length: int, copies: float) -> tuple[Tensor, Tensor]:
        """Tokens and targets [rows, length]; about `copies` of the rows are copied noise."""
        made = [self._row(length, copies) for _ in range(rows)]
        return tuple(torch.tensor(part) for part in zip(*made, strict=True))  # type: ignore[return-value]

    def _row(self, length: int, copies: float) -> Row:
        kind = self._draw.random()
        if kind < copies:
            return self._copied(length)
        if kind < copies + (1 - copies) * 0.12:
            return self._cycle(length, _NUMBERS)
        if kind < copies + (1 - copies) * 0.2:
            return self._cycle(length, _DAYS)
        return self._lookups(length)

    def _copied(self, length: int) -> Row:
        """Noise with a period of 5 tokens to half the row: from the second turn on it is known."""
        period = self._draw.randint(5, length // 2)
        noise = [self._draw.randrange(len(VOCABULARY)) for _ in range(period)]
        tokens = (noise * (length // period + 2))[: length + 1]
        return tokens[:-1], [*[IGNORED] * (period - 1), *tokens[period:]]

    def _cycle(self, length: int, ring: list[int]) -> Row:
        """Neighbours on a ring. The first token may be a lone byte, as in text without a space."""
        first = self._draw.randrange(len(ring))
        tokens = [ring[(first + i) % len(ring)] for i in range(length + 1)]
        row, targets = tokens[:-1], tokens[1:]
        if self._draw.random() < 0.5:
            row[0], targets[0] = self._draw.randrange(2, 258), IGNORED
        return row, targets

    def _lookups(self, length: int) -> Row:
        """Pairs, then questions about them; each answer is followed by the end token."""
        queries = min(_MOST_QUERIES, max(1, length // 12))
        room = length - 4 * queries - 4
        pairs = self._draw.randint(max(queries, room // 6), max(queries, room // 3))
        pairs = min(pairs, len(_KEYS))
        keys = self._draw.sample(_KEYS, pairs)
        values = [self._draw.choice(_NUMBERS) for _ in keys]
        opening = [_USER, _PAIRS[1]] if self._draw.random() < 0.5 else [_PAIRS[0]]
        tokens = [*opening, _COLON]
        for key, value in zip(keys, values, strict=True):
            tokens += (key, value, _COMMA)
        tokens.pop()  # no comma behind the last pair
        targets = [IGNORED] * len(tokens)
        for index in self._draw.sample(range(pairs), queries):
            tokens += (_ASK, keys[index], values[index], _END)
            targets += (IGNORED, values[index], _END, IGNORED)
        tokens, targets = tokens[:length], targets[:length]
        missing = length - len(tokens)
        return tokens + [_END] * missing, targets + [IGNORED] * missing
