"""Kubernetes quantities: numbers with a unit, as `500m` or `1Gi`."""

import re
from typing import Final

PATTERN: Final = r"([0-9]{1,24}(?:\.[0-9]{1,9})?)(m|k|M|G|T|Ki|Mi|Gi|Ti)?"
"""A number, and the unit that it may have."""

MEMORY: Final = ("1Mi", "16Ti")
CPU: Final = ("10m", "1k")
"""The least and the most of what a field may ask for."""

_QUANTITY: Final = re.compile(PATTERN)
_UNITS: Final = {
    "m": 1e-3, "": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40,
}  # fmt: skip


def quantity(text: str) -> float:
    """The value of a quantity ("500m", "1Gi"). Raises ValueError when it is none."""
    found = _QUANTITY.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a quantity; write one such as 2, 500m, 512Mi or 1Gi")
    return float(found[1]) * _UNITS[found[2] or ""]


def quantity_between(value: object, least: str, most: str) -> object:
    """`value` as text when it is a quantity in the range; what is none at all stays as it is.

    YAML reads `cpu: 2` as a number, and Kubernetes takes both. Raises ValueError with the fix.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, str) and not quantity(least) <= quantity(value) <= quantity(most):
        raise ValueError(f"{value!r} is out of range; use {least} to {most}")
    return value
