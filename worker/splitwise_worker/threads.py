"""How many compute threads a worker runs: as many whole cores as it may really use.

Torch counts the machine's cores. With more threads than cores that it may use, a worker was
measured 10 to 40 times slower than with one thread a core.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from splitwise_core.errors import UserError

CPU_MILLIS: Final = "SPLITWISE_CPU_MILLIS"
"""The container's CPU limit in thousandths of a core, as Kubernetes' downward API tells it."""


def compute_threads(environment: Mapping[str, str], cores: int, limits: Iterable[float]) -> int:
    """Whole cores, at least one: the least of `cores`, `limits` and the environment's limit.

    Raises UserError when the environment's limit is no number.
    """
    least = min([float(cores), *limits])
    if (millis := environment.get(CPU_MILLIS)) is not None:
        if not millis.isdecimal():
            raise UserError(
                "environment",
                where=CPU_MILLIS,
                wrong=f"{millis!r} is no whole number",
                fix="set it to thousandths of a core, for example 2000, or leave it unset",
            )
        least = min(least, int(millis) / 1000)
    return max(1, int(least))
