"""Which prompts of a trace begin alike: the `hash_ids` of Mooncake's lines, checked.

An id names 512 tokens together with all that stand before them, the last one what is left of the
prompt: prompts whose first ids are the same begin with the same tokens.
"""

from typing import Any, Final

from splitwise_core.errors import UserError
from splitwise_core.trace import refused

PREFIX_TOKENS: Final = 512
"""As the README of the traces has it (kvcache-ai/Mooncake, FAST25-release)."""

MEANING: Final = f"an id names {PREFIX_TOKENS} tokens and all before them, as in Mooncake's traces"


class PrefixIds:
    """Reads the ids of one line after the other; what a line contradicts is told with its place."""

    def __init__(self) -> None:
        self._before: dict[int, int | None] = {}

    def read(self, value: Any, prompt_tokens: int, line: str) -> tuple[int, ...]:
        """The ids of a prompt; none where the line has none. Raises UserError (invalid-trace)."""
        if value is None or value == []:
            return ()
        if not isinstance(value, list) or not all(_is_id(one) for one in value):
            raise _refused(line, f"is {value!r:.60}", "give a list of whole numbers, 0 or above")
        full, rest = divmod(prompt_tokens, PREFIX_TOKENS)
        if len(value) not in (full, full + (rest > 0)):
            wrong = f"has {len(value)} for {prompt_tokens} prompt tokens"
            raise _refused(line, wrong, f"give one for each {PREFIX_TOKENS} of them, or none")
        before = None
        for one in value:
            known = self._before.setdefault(one, before)
            if known != before:
                wrong = f"has {one} {_after(before)} here, and {_after(known)} earlier"
                raise _refused(line, wrong, MEANING)
            before = one
        return tuple(value)


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _after(before: int | None) -> str:
    return "first" if before is None else f"after {before}"


def _refused(line: str, wrong: str, fix: str) -> UserError:
    return refused(f"{line}, hash_ids", wrong, fix)
