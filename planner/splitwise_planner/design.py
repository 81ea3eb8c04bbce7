"""Clusters by name: which machines compute prompts, which decode, and how many of each.

The names are those of the Splitwise paper (ISCA 2024, Table V): two letters for the machines of the
two phases, as in `HA-35P-8T`; `BA-70P_T` and `BH-40P_T` are baselines, whose machines do both.
Ours: `HH@70/4-35P-8T` caps the GPUs of its token machines (of a baseline, of all) at 70 % of their
power, and makes workers of four GPUs each.
"""

import re
from dataclasses import dataclass, replace
from typing import Any, Final

from splitwise_core.errors import UserError
from splitwise_core.latency.power import LEAST_SHARE, PowerModel, prompt_slowdown
from splitwise_planner.catalog import Catalog, Machine

KINDS: Final = ("AA", "HH", "HA", "HHcap", "BA", "BH")
"""The paper's designs; any pair of the catalogue's letters is one too."""

MAX_MACHINES: Final = 10_000

_VARIANT: Final = r"(?:@\d+)?(?:/\d+)?"
_KIND: Final = re.compile(r"(?P<letters>[A-Za-z]+)(?:@(?P<cap>\d+))?(?:/(?P<degree>\d+))?")
_SPLIT: Final = re.compile(rf"(?P<kind>[A-Za-z]+{_VARIANT})-(?P<prompt>\d+)P-(?P<token>\d+)T")
_MIXED: Final = re.compile(rf"(?P<kind>B[A-Za-z]+{_VARIANT})-(?P<prompt>\d+)P_T")

GPU_SHARE: Final = 0.6
"""Of a machine's power to provision, what a cap on its GPUs takes part of: the released notebooks
count a DGX-H100 whose GPUs are at half their power as 0.7 of one."""


@dataclass(frozen=True, slots=True)
class Design:
    """A kind with its numbers; `token` is 0 where each machine does both phases."""

    kind: str
    prompt: int
    token: int
    prompt_machine: Machine
    token_machine: Machine
    tensor_parallel: int = 0  # GPUs of a worker; 0: as many as the model has in the catalogue

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
    match = _KIND.fullmatch(kind)
    if match is None:
        raise _refused(kind, "is not a kind of design", "write HH, BH, HH@70 or HH@70/4")
    letters, cap, degree = match.group("letters", "cap", "degree")
    pair = _machines(letters, catalog)
    if cap is not None:
        capped_token = _capped(kind, pair[1], int(cap))
        pair = (capped_token if letters[0] == "B" else pair[0], capped_token)
    if degree is not None and int(degree) < 1:
        raise _refused(kind, "has workers without GPUs", "give 1 or more, as in HH/4")
    return Design(kind, prompt, token, *pair, tensor_parallel=int(degree or 0))


def cluster_as_dict(design: Design) -> dict[str, Any]:
    """For scripts: its name, its machines, and what they cost and draw an hour."""
    return {
        "design": str(design),
        "prompt_machines": design.prompt,
        "token_machines": design.token,
        "machines": design.machines,
        "dollars_per_hour": round(design.dollars_per_hour, 2),
        "power_units": round(design.power_units, 2),
    }


def _machines(letters: str, catalog: Catalog) -> tuple[Machine, Machine]:
    """The machines for prompts and for tokens."""
    known = {machine.letter: machine for machine in catalog.machines.values()}
    if letters[:1] == "B":
        pair = (letters[1:], letters[1:])
    else:
        pairs = ((letters[:cut], letters[cut:]) for cut in range(1, len(letters)))
        pair = next((p for p in pairs if p[0] in known and p[1] in known), (letters, ""))
    if pair[0] not in known or pair[1] not in known:
        fix = f"use the letters {', '.join(sorted(known))}, or B and one of them"
        raise _refused(letters, "names no machines", fix)
    return known[pair[0]], known[pair[1]]


def _capped(kind: str, machine: Machine, percent: int) -> Machine:
    """The machine with its GPUs at a share of their power."""
    least = round(100 * LEAST_SHARE)
    if not least <= percent <= 100:
        wrong = f"caps power at {percent} %"
        raise _refused(kind, wrong, f"give {least} to 100: below, nothing was measured")
    if machine.prompt_slowdown != 1:
        raise _refused(kind, f"caps a machine {machine.letter}, which has a cap", "leave out one")
    share = percent / 100
    watts = machine.idle_watts, machine.prompt_watts, machine.token_watts
    if None not in watts:
        idle_w, prompt_w, token_w = (watt for watt in watts if watt is not None)
        capped = PowerModel(idle_w, prompt_w, token_w).capped(share)
        watts = capped.idle_w, capped.prompt_w, capped.token_w
    return replace(
        machine,
        power_units=machine.power_units * (1 - GPU_SHARE * (1 - share)),
        prompt_slowdown=prompt_slowdown(share),
        idle_watts=watts[0],
        prompt_watts=watts[1],
        token_watts=watts[2],
    )


def _refused(name: str, wrong: str, fix: str) -> UserError:
    return UserError("invalid-design", where=repr(name), wrong=wrong, fix=fix)
