"""The claims: what is compared, what the paper says, and what its released simulator gives.

Figures of the paper are those of Patel et al., ISCA 2024. Those of the released simulator
(splitwise-sim 8f99e7d) are runs of its rules on draws from the Azure traces of November 2023, 600 s
and means of three seeds; iso-throughput 120 s, seeds 0 to 2.
"""

from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["conv", "code"]

POWER: Final = 1760.0
"""Iso-power: what 40 DGX-H100 are provisioned for, in the notebooks' unit."""

COST: Final = 40 * 38.08
"""Iso-cost: dollars an hour of 40 DGX-H100."""

RATE: Final = 70.0
"""Iso-throughput: requests a second."""


@dataclass(frozen=True, slots=True)
class Faster:
    """How much more one cluster serves than another: the ratio of the highest rates at which all
    nine objectives hold. `budget` is what both are within, in `unit`."""

    what: str
    trace: Kind
    design: str
    base: str
    unit: Literal["power", "cost"]
    budget: float
    paper: str
    released: str


@dataclass(frozen=True, slots=True)
class Cheaper:
    """How much less the cheapest cluster of one kind takes than that of another, for 70 requests a
    second: the ratio of what is provisioned, in `unit`, less one."""

    what: str
    trace: Kind
    kind: str
    base: str
    unit: Literal["power", "cost"]
    paper: str
    released: str


ISO_POWER: Final = "iso-power"
ISO_COST: Final = "iso-cost"

FASTER: Final = (
    Faster(
        f"{ISO_POWER}: AA over Baseline-A100",
        "conv",
        "AA-45P-25T",
        "BA-70P_T",
        "power",
        POWER,
        "2.15x",
        "2.17x",
    ),
    Faster(
        f"{ISO_POWER}: HA over Baseline-H100",
        "conv",
        "HA-25P-26T",
        "BH-40P_T",
        "power",
        POWER,
        "1.18x",
        "1.19x",
    ),
    Faster(
        f"{ISO_POWER}: AA over Baseline-H100 (the abstract's 1.4x at 20 % less cost)",
        "code",
        "AA-55P-15T",
        "BH-40P_T",
        "power",
        POWER,
        "1.4x",
        "1.33x",
    ),
    Faster(
        f"{ISO_POWER}: HA over Baseline-A100 (the abstract's 2.35x)",
        "code",
        "HA-35P-8T",
        "BA-70P_T",
        "power",
        POWER,
        "2.35x",
        "2.36x",
    ),
    Faster(
        f"{ISO_POWER}: HA over Baseline-H100 (the conclusion's 1.76x)",
        "code",
        "HA-35P-8T",
        "BH-40P_T",
        "power",
        POWER,
        "1.76x",
        "1.77x",
    ),
    Faster(
        f"{ISO_COST}: AA over Baseline-H100",
        "conv",
        "AA-51P-35T",
        "BH-40P_T",
        "cost",
        COST,
        "1.4x",
        "1.15x",
    ),
    Faster(
        f"{ISO_COST}: AA over Baseline-H100",
        "code",
        "AA-66P-20T",
        "BH-40P_T",
        "cost",
        COST,
        "1.4x",
        "1.62x",
    ),
)

CHEAPER: Final = (
    Cheaper("power of HHcap", "conv", "HHcap", "BH", "power", "-25 %", "-15 %"),
    Cheaper("power of HHcap", "code", "HHcap", "BH", "power", "-25 %", "-44 to -47 %"),
    Cheaper("cost of AA", "conv", "AA", "BH", "cost", "-25 %", "-17 %"),
    Cheaper("cost of AA", "code", "AA", "BH", "cost", "-25 %", "-44 to -45 %"),
)

STARRED: Final = "HH-27P-3T"
"""Of the paper's figure 12: what serves 70 requests of code a second at the least cost."""
