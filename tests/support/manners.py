"""How somebody at the door of a sidecar treats all who connect, who looked for a sidecar there."""

import random
from enum import StrEnum
from typing import Final


class Manner(StrEnum):
    """What becomes of them."""

    REFUSES = "refuses"  # nobody listens
    HANGS = "hangs"  # they are let in, and hear nothing, ever
    HANGS_UP = "hangs_up"
    SAYS_NOISE = "says_noise"


NOISE: Final = random.Random(5).randbytes(64)
