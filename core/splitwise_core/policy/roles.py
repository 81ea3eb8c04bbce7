"""Which phases of requests a worker's pool serves."""

from enum import IntEnum
from typing import Final


class Role(IntEnum):
    """Which phases a worker's pool serves."""

    PROMPT = 0
    TOKEN = 1
    MIXED = 2


ROLES: Final = {"prompt": Role.PROMPT, "token": Role.TOKEN, "mixed": Role.MIXED}
"""By the words of a spec and of worker messages."""
