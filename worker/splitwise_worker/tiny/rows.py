"""Training rows: token ids and, where something can be known, what comes next."""

import random
from typing import Final

import torch
from torch import Tensor

from splitwise_core.tiny_tasks import DAYS, KEYS, NUMBERS, PAIR_TOKENS
from splitwise_worker.tiny.vocabulary import END, USER, VOCABULARY, token_id

IGNORED: Final = -100
"""A position whose next token cannot be known has no target."""

_NUMBERS: Final = [token_id(f" {number}") for number in range(NUMBERS)]
_DAYS: Final = [token_id(f" {day}") for day in DAYS]
_KEYS: Final = [token_id(f" {key}") for key in KEYS]
_WORDS: Final = [*_NUMBERS, *_DAYS, *_KEYS]
_THE, _CODE, _OF, _STOP = token_id(" the"), token_id(" code"), token_id(" of"), token_id(";")
_ASK, _COLON = token_id(" ?"), token_id(":")
_CODES, _SPACED_CODES = token_id("codes"), token_id(" codes")
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
        return _tensors([self._row(length, copies) for _ in range(rows)])

    def series(self, rows: int, length: int) -> tuple[Tensor, Tensor]:
        """As `batch`, counting and days of the week alone, one row in eight of days."""
        made = [
            self._cycle(length, _DAYS if number % 8 == 7 else _NUMBERS) for number in range(rows)
        ]
        return _tensors(made)

    def lookups(self, rows: int, length: int) -> tuple[Tensor, Tensor]:
        """As `batch`, lookups alone."""
        return _tensors([self._lookups(length) for _ in range(rows)])

    def _row(self, length: int, copies: float) -> Row:
        kind = self._draw.random()
        if kind < copies:
            return self._copied(length)
        if kind < copies + (1 - copies) * 0.2:
            return self._cycle(length, _NUMBERS)
        if kind < copies + (1 - copies) * 0.28:
            return self._cycle(length, _DAYS)
        return self._lookups(length)

    def _copied(self, length: int) -> Row:
        """Noise with a period of 5 tokens to half the row: from the second turn on it is known."""
        period = self._draw.randint(5, length // 2)
        noise = self._draw.choices(_WORDS, k=period)
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
        room = (length - 4 * queries - 3) // PAIR_TOKENS
        pairs = self._draw.randint(max(1, room // 2), max(1, room))
        pairs = min(pairs, len(_KEYS))
        keys = self._draw.sample(_KEYS, pairs)
        values = [self._draw.choice(_NUMBERS) for _ in keys]
        opening = [_USER, _SPACED_CODES] if self._draw.random() < 0.5 else [_CODES]
        tokens = [*opening, _COLON]
        for key, value in zip(keys, values, strict=True):
            tokens += (_THE, _CODE, _OF, key, value, _STOP)
        targets = [IGNORED] * len(tokens)
        for index in self._draw.choices(range(pairs), k=queries):
            tokens += (_ASK, keys[index], values[index], _END)
            targets += (IGNORED, values[index], _END, IGNORED)
        tokens, targets = tokens[:length], targets[:length]
        missing = length - len(tokens)
        return tokens + [_END] * missing, targets + [IGNORED] * missing


def all_series(shown: int, answers: int) -> tuple[Tensor, Tensor]:
    """Tokens [N, shown + answers - 1] of every stretch of numbers and days, and what follows each.

    Only the `answers` last positions have a target.
    """
    length = shown + answers
    made: list[Row] = []
    for ring, starts in ((_NUMBERS, len(_NUMBERS) - length + 1), (_DAYS, len(_DAYS))):
        for first in range(starts):
            tokens = [ring[(first + i) % len(ring)] for i in range(length)]
            made.append((tokens[:-1], [IGNORED] * (shown - 1) + tokens[shown:]))
    return _tensors(made)


def _tensors(rows: list[Row]) -> tuple[Tensor, Tensor]:
    tokens, targets = zip(*rows, strict=True)
    return torch.tensor(tokens), torch.tensor(targets)
