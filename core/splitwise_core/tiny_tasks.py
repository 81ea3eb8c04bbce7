"""Questions whose answers a program can check: what the tiny model is trained on and asked.

Training, demo, tests and benchmarks take their text from here. Three kinds: counting on, going on
with the days of the week, and looking a key up among pairs that stand in the prompt.
"""

import random
from dataclasses import dataclass
from itertools import product
from typing import Final

NUMBERS: Final = 200
"""Numbers the tiny model knows: 0 to 199. It counts round."""

DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def _keys(count: int) -> tuple[str, ...]:
    syllables = [a + b for a, b in product("bdfgklmnprstvz", "aeiou")]
    words = [a + b for a, b in product(syllables, syllables)]
    return tuple(random.Random(1).sample(words, count))


KEYS: Final = _keys(256)
"""Words without a meaning: nothing but the prompt says what belongs to them."""

PAIR: Final = " the code of {key} {value};"
PAIR_TOKENS: Final = 6
"""Tokens of a pair. The words around key and value make long prompts of few keys."""
LOOKUP_TOKENS: Final = 4
"""Tokens of a lookup's text beside its pairs: `codes:` and the question."""


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt, the text that has to follow, and how many tokens that takes at most."""

    prompt: str
    answer: str
    max_tokens: int


def counting(draw: random.Random, length: int = 4, answers: int = 6) -> Question:
    """Consecutive numbers, to be continued."""
    first = draw.randrange(NUMBERS - length - answers)
    shown, wanted = range(first, first + length), range(first + length, first + length + answers)
    return Question(" ".join(map(str, shown)), " ".join(map(str, wanted)), answers)


def weekdays(draw: random.Random, length: int = 2, answers: int = 5) -> Question:
    """Consecutive days, to be continued."""
    first = draw.randrange(len(DAYS))
    days = [DAYS[(first + i) % len(DAYS)] for i in range(length + answers)]
    return Question(" ".join(days[:length]), " ".join(days[length:]), answers)


def lookup(draw: random.Random, pairs: int) -> Question:
    """Pairs of keys and numbers, then one of the keys. The answer is its number."""
    keys = draw.sample(KEYS, pairs)
    values = [draw.randrange(NUMBERS) for _ in keys]
    wanted = draw.randrange(pairs)
    listed = (PAIR.format(key=k, value=v) for k, v in zip(keys, values, strict=True))
    return Question(f"codes:{''.join(listed)} ? {keys[wanted]}", str(values[wanted]), 2)


def pairs_for(tokens: int) -> int:
    """How many pairs make a lookup of about `tokens` tokens."""
    return max(1, min(len(KEYS), (tokens - LOOKUP_TOKENS) // PAIR_TOKENS))


def questions(count: int, seed: int = 0, longest: int = 1500) -> list[Question]:
    """A mix of all kinds; most are lookups, of lengths up to `longest` tokens."""
    draw = random.Random(seed)
    asked = [counting(draw), weekdays(draw), lookup(draw, pairs_for(longest))]
    while len(asked) < count:
        asked.append(lookup(draw, pairs_for(draw.randint(LOOKUP_TOKENS + PAIR_TOKENS, longest))))
    return asked[:count]
