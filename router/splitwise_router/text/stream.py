"""Text that grows token by token: whole characters only, and never a part of a stop string."""

from collections.abc import Sequence
from typing import Final, Protocol

INCOMPLETE: Final = "\ufffd"
_MOST_HELD: Final = 8
"""Tokens that may wait for the rest of a character; UTF-8 needs four bytes at most, so more than
this many are no character at all and go out as they are."""


class Decodes(Protocol):
    """What is needed of a tokenizer."""

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, U+FFFD for incomplete characters."""


class TextStream:
    """The text of one choice. `stopped` says that a stop string has come: nothing follows."""

    def __init__(self, tokenizer: Decodes, stops: tuple[str, ...]) -> None:
        self.stopped = False
        self._characters = _Characters(tokenizer)
        self._stops = stops
        self._held = ""

    def push(self, tokens: Sequence[int]) -> str:
        """The text that may be sent now that `tokens` have come."""
        if self.stopped:
            return ""
        text = self._characters.push(tokens)
        return self._cut(text) if self._stops else text

    def finish(self) -> str:
        """What was held back, once no token follows."""
        if self.stopped:
            return ""
        text = self._cut(self._characters.finish()) if self._stops else self._characters.finish()
        held, self._held = self._held, ""
        return text if self.stopped else text + held

    def _cut(self, text: str) -> str:
        """Sends all before the earliest stop string, and holds back what may become one."""
        text = self._held + text
        found = [at for at in map(text.find, self._stops) if at >= 0]
        if found:
            self.stopped = True
            self._held = ""
            return text[: min(found)]
        keep = max(_beginning_at_end(text, stop) for stop in self._stops)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _beginning_at_end(text: str, stop: str) -> int:
    """The longest end of `text` that begins `stop`, in characters."""
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0


class _Characters:
    """Decodes with the tokens before as context: some tokenizers join words by what stood there."""

    def __init__(self, tokenizer: Decodes) -> None:
        self._decode = tokenizer.decode
        self._tokens: list[int] = []  # sent ones as context, then those that wait
        self._sent = 0  # tokens of self._tokens whose text has gone out
        self._before = ""  # the text of these

    def push(self, tokens: Sequence[int]) -> str:
        out = ""
        for token in tokens:
            self._tokens.append(token)
            text = self._decode(self._tokens)
            waiting = len(self._tokens) - self._sent
            if text.endswith(INCOMPLETE) and waiting <= _MOST_HELD:
                continue
            out += self._take(text)
        return out

    def finish(self) -> str:
        waiting = len(self._tokens) > self._sent
        return self._take(self._decode(self._tokens)) if waiting else ""

    def _take(self, text: str) -> str:
        new = text[len(self._before) :]
        self._tokens = self._tokens[self._sent :]  # what was new is the next one's context
        self._sent = len(self._tokens)
        self._before = self._decode(self._tokens)
        return new
