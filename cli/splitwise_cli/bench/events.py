"""Server-sent events out of the pieces in which they come over a connection."""

import json
from typing import Any, Final

DONE: Final = b"[DONE]"
MOST_BYTES: Final = 1 << 20
"""No event of a token is near as long: what goes on without an end is no stream of events."""


class NoEvent(Exception):
    """What came is no stream of events with JSON in them."""


class EventReader:
    """Reads one stream. `done` is true after its last event."""

    __slots__ = ("_rest", "done")

    def __init__(self) -> None:
        self._rest = b""
        self.done = False

    def feed(self, piece: bytes) -> list[dict[str, Any]]:
        """The documents of the events that `piece` completes. Raises NoEvent.

        A token costs one event, so that nothing of one is looked at twice but its data.
        """
        came = (self._rest + piece).replace(b"\r\n", b"\n")
        *events, self._rest = came.split(b"\n\n")
        if len(self._rest) > MOST_BYTES:
            raise NoEvent(f"an event goes on for more than {MOST_BYTES} bytes")
        return [document for event in events if (document := self._document(event)) is not None]

    def _document(self, event: bytes) -> dict[str, Any] | None:
        """What an event says; None for the last one, and for a comment that keeps a line alive."""
        data = event.strip()
        if not data.startswith(b"data:"):
            if data and not data.startswith(b":"):
                raise NoEvent(f"{data[:40]!r} stands where an event should begin")
            return None
        data = data[5:].lstrip()
        if data == DONE:
            self.done = True
            return None
        try:
            document = json.loads(data.decode())  # from bytes it would guess the encoding first
        except (ValueError, RecursionError) as error:
            raise NoEvent(f"an event's data is no JSON: {error}") from error
        if not isinstance(document, dict):
            raise NoEvent(f"an event's data is no object: {data[:40]!r}")
        return document
