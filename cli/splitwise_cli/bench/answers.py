"""What became of one request, judged from the events of its answer. No clock and no socket."""

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

MOST_DETAIL: Final = 200  # characters of a server's message that are kept


class Outcome(StrEnum):
    """How a request ended, as its client saw it."""

    OK = "ok"
    WRONG = "wrong"  # an answer of other words, or of another length, than it must have
    REJECTED = "rejected"  # 429: there was no room
    FAILED = "failed"  # the server said so, by a status or by an event
    LOST = "lost"  # nobody said anything: refused, cut, or silent until the deadline
    UNFINISHED = "unfinished"  # the laboratory was stopped before the answer ended


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it is sent, and what its answer must be."""

    body: bytes
    prompt_tokens: int
    output_tokens: int
    answer: str | None = None  # None: its words are not known beforehand


@dataclass(slots=True)
class Answer:
    """One answer so far. Times in seconds since it was sent; `gaps_s` between events of text."""

    asked: Asked
    number: int = 0  # of the load's requests, in order of arrival
    due_s: float = 0.0  # when it was to be sent, from the beginning of the load
    late_s: float = 0.0  # how long after its time it was sent
    outcome: Outcome = Outcome.UNFINISHED
    detail: str = ""
    ttft_s: float | None = None
    e2e_s: float = 0.0
    gaps_s: "array[float]" = field(default_factory=lambda: array("d"))
    usage: Mapping[str, Any] = field(default_factory=dict)
    retry_after: bool = False
    _last_s: float = 0.0
    _text: list[str] = field(default_factory=list)

    @property
    def output_tokens(self) -> int:
        """Tokens that came, by the server's count; without one, a token for each event of text."""
        told = self.usage.get("completion_tokens")
        return told if isinstance(told, int) else len(self.gaps_s) + (self.ttft_s is not None)

    @property
    def tbt_s(self) -> float:
        """Mean time between two tokens of this answer; 0 for an answer of one token."""
        if self.ttft_s is None or self.output_tokens < 2:
            return 0.0
        return (self._last_s - self.ttft_s) / (self.output_tokens - 1)

    def told(self, name: str) -> float | None:
        """A number of `usage.splitwise`; None where the server tells none."""
        ours = self.usage.get("splitwise")
        number = ours.get(name) if isinstance(ours, Mapping) else None
        return number if isinstance(number, (int, float)) else None

    def take(self, event: Mapping[str, Any], now_s: float) -> None:
        """Takes in one event. An error in it ends the answer."""
        if "error" in event:
            self.end(Outcome.FAILED, message_of(event))
            return
        if text := text_of(event):
            if self.ttft_s is None:
                self.ttft_s = now_s
            else:
                self.gaps_s.append(now_s - self._last_s)
            self._last_s = now_s
            if self.asked.answer is not None:
                self._text.append(text)
        if isinstance(usage := event.get("usage"), Mapping):
            self.usage = usage

    def finish(self) -> None:
        """Judges an answer whose last event has come."""
        asked, said = self.asked, "".join(self._text)
        if self.output_tokens != asked.output_tokens:
            wrong = f"{self.output_tokens} tokens where {asked.output_tokens} were asked for"
            self.end(Outcome.WRONG, wrong)
        elif asked.answer is not None and asked.answer != said:
            self.end(Outcome.WRONG, f"it says {said[:60]!r}, not {asked.answer[:60]!r}")
        else:
            self.end(Outcome.OK)

    def end(self, outcome: Outcome, detail: str = "") -> None:
        """Says how it ended, unless that was said already."""
        if self.outcome is Outcome.UNFINISHED:
            self.outcome, self.detail = outcome, detail[:MOST_DETAIL]


def text_of(event: Mapping[str, Any]) -> str:
    """The text of an event's only choice; empty when it has none."""
    choices = event.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    text = first.get("text") if isinstance(first, Mapping) else None
    return text if isinstance(text, str) else ""


def message_of(document: object) -> str:
    """The message of an error in OpenAI's form; what else there is when it has another."""
    error = document.get("error") if isinstance(document, Mapping) else document
    return str(error.get("message") if isinstance(error, Mapping) else error)
