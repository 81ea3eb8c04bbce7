"""Connections that wait for the next push."""

from collections.abc import Callable
from typing import Final, Generic, TypeVar

T = TypeVar("T")

KEPT: Final = 8
"""To one peer."""


class Kept(Generic[T]):
    """Holds connections of whatever kind: `is_good` tells which may be used, `drop` hangs up."""

    def __init__(self, is_good: Callable[[T], bool], drop: Callable[[T], object]) -> None:
        self._is_good = is_good
        self._drop = drop
        self._all: list[T] = []
        self._closed = False

    def take(self) -> T | None:
        """One for a push; None when there is none that is any good."""
        while self._all:
            kept = self._all.pop()
            if self._is_good(kept):
                return kept
            self._drop(kept)
        return None

    def give_back(self, connection: T) -> None:
        """Keeps one whose push went well."""
        if self._closed or len(self._all) == KEPT:
            self._drop(connection)
        else:
            self._all.append(connection)

    def close(self) -> None:
        """Hangs up; what is in use is closed by its push."""
        self._closed = True
        while self._all:
            self._drop(self._all.pop())
