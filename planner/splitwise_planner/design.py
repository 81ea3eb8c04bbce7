"""Clusters by name: which machines compute prompts, which decode, and how many of each.

The names are those of the Splitwise paper (ISCA 2024, Table V): two letters for the machines of the
two phases, as in `HA-35P-8T`; `BA-70P_T` and `BH-40P_T` are baselines, whose machines do both.
"""

import re
from dataclasses import dataclass
from typing import Final

from splitwise_core.errors import UserError
from splitwise_planner.catalog import Catalog, Machine

KINDS: Final = ("AA", "HH", "HA", "HHcap", "BA", "BH")
"""The paper's designs; any pair of the catalogue's letters is one too."""

MAX_MACHINES: Final = 10_000

_SPLIT: Final = re.compile(r"(?P<kind>[A-Za-z]+)-(?P<prompt>\d+)P-(?P<token>\d+)T")
_MIXED: Final = re.compile(r"(?P<kind>B[A-Za-z]+)-(?P<prompt>\d+)P_T")


@dataclass(frozen=True, slots=True)
class Design:
    """A kind with its numbers; `token` is 0 where each machine does both phases."""

    kind: str
    prompt: int
    token: int
    prompt_machine: Machine
    token_machine: Machine

    @property
    def splits(self) -> bool:
        """Whether the phases have machines of their own."""
        return self.kind[0] != "B"

    @property
    def machines(self) -> int:
        """How many in all."""
        return self.prompt + self.token

    @property
    def dollars_per_hour(self) -> float:
        """What they cost."""
        return (
            self.prompt * self.prompt_machine.dollars_per_hour
            + self.token * self.token_machine.dollars_per_hour
        )

    @property
    def power_units(self) -> float:
        """Power to provision for them, in the catalogue's unit."""
        return (
            self.prompt * self.prompt_machine.power_units
            + self.token * self.token_machine.power_units
        )

    def __str__(self) -> str:
        if self.splits:
            return f"{self.kind}-{self.prompt}P-{self.token}T"
        return f"{self.kind}-{self.prompt}P_T"


def parse_design(name: str, catalog: Catalog) -> Design:
    """The design of a name such as HH-35P-5T. Raises UserError (invalid-design)."""
    match = _MIXED.fullmatch(name) or _SPLIT.fullmatch(name)
    if match is None:
        raise _refused(name, "is not a design", "write HH-35P-5T, or BH-40P_T for a baseline")
    found = match.groupdict()
    counts = int(found["prompt"]), int(found.get("token") or 0)
    if sum(counts) > MAX_MACHINES:
        raise _refused(name, f"has {sum(counts)} machines", f"use at most {MAX_MACHINES}")
    design = design_of(found["kind"], *counts, catalog)
    if design.splits == ("token" not in found):
        raise _refused(name, "mixes the two forms", "only baselines end in P_T")
    if design.prompt < 1 or (design.splits and design.token < 1):
        raise _refused(name, "lacks a phase", "give each phase at least one machine")
    return design


def design_of(kind: str, prompt: int, token: int, catalog: Catalog) -> Design:
    """A kind of design with numbers of machines. Raises UserError (invalid-design)."""
    letters = {machine.letter: machine for machine in catalog.machines.values()}
    if kind[:1] == "B":
        pair = (kind[1:], kind[1:])
    else:
        pairs = ((kind[:cut], kind[cut:]) for cut in range(1, len(kind)))
        pair = next((p for p in pairs if p[0] in letters and p[1] in letters), (kind, ""))
    if pair[0] not in letters or pair[1] not in letters:
        known = ", ".join(sorted(letters))
        raise _refused(kind, "names no machines", f"use the letters {known}, or B and one of them")
    return Design(kind, prompt, token, letters[pair[0]], letters[pair[1]])


def _refused(name: str, wrong: str, fix: str) -> UserError:
    return UserError("invalid-design", where=repr(name), wrong=wrong, fix=fix)
