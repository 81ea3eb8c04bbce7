"""The winning plan as a SplitwiseCluster: what `splitwise up` and the operator take."""

from typing import Any, Final

import yaml

from splitwise_core.errors import UserError
from splitwise_core.manifest import parse_cluster
from splitwise_planner.catalog import Catalog, Machine
from splitwise_planner.design import Design
from splitwise_planner.hours import PHASES, DayPlan
from splitwise_planner.measured.failures import told_of
from splitwise_planner.measured.rules import BLOCK_TOKENS, MAX_SEQUENCES, Hardware, Rules
from splitwise_planner.request import Request
from splitwise_planner.schedule import Schedule, clock

MACHINE_LABEL: Final = "node.kubernetes.io/instance-type"
"""What tells nodes of different machines apart: the catalogue's name stands in it."""

ON_CPU: Final = "cpu"
"""A GPU of this name in the catalogue is none: its workers compute on the CPU."""


def cluster_yaml(
    request: Request,
    catalog: Catalog,
    design: Design,
    rules: Rules,
    model_path: str,
    day: DayPlan | None,
) -> str:
    """The file, with what it was planned for on top; with a day, pools scale by it.

    Raises UserError: plan-undeployable where Splitwise's own workers could not be what was planned,
    invalid-spec for what no cluster may be told.
    """
    degree = design.tensor_parallel or rules.model.tensor_parallel
    if degree > 1:
        raise UserError(
            "plan-undeployable",
            where=str(design),
            wrong=f"has workers of {degree} GPUs each, and a worker of Splitwise's drives one",
            fix="plan with --tensor-parallel 1 and phase times of one GPU",
        )
    document: dict[str, Any] = {
        "apiVersion": "splitwise.dev/v1alpha1",
        "kind": "SplitwiseCluster",
        "metadata": {"name": _name(request.model)},
        "spec": {
            "model": {"name": request.model, "path": model_path},
            "pools": _pools(catalog, design, rules, day),
        },
    }
    if scheduling := request.scheduling.as_spec():
        document["spec"]["scheduling"] = scheduling
    parse_cluster(document)
    return "\n".join([*_remarks(request, design, day), yaml.safe_dump(document, sort_keys=False)])


def _pools(
    catalog: Catalog, design: Design, rules: Rules, day: DayPlan | None
) -> list[dict[str, Any]]:
    """A pool for each phase, or one for both."""
    pools = [_pool("mixed", design.prompt, design.prompt_machine, rules.prompt, rules, catalog)]
    if design.splits:
        pools[0] |= {"name": "prompt", "role": "prompt"}
        token = _pool("token", design.token, design.token_machine, rules.token, rules, catalog)
        pools.append(token)
    if day is not None:
        for pool, phase in zip(pools, PHASES):
            schedule = day.schedule(phase)
            pool["autoscaling"] = _autoscaling(schedule, day.day.time_zone, rules.workers)
            del pool["replicas"]
    return pools


def _pool(
    role: str, machines: int, machine: Machine, hardware: Hardware, rules: Rules, catalog: Catalog
) -> dict[str, Any]:
    kv_mib = hardware.blocks * BLOCK_TOKENS * rules.model.kv_bytes_per_token >> 20
    pool: dict[str, Any] = {
        "name": role,
        "role": role,
        "replicas": machines * rules.workers,
        "kvMemory": f"{max(kv_mib, 1)}Mi",
        "maxSequences": MAX_SEQUENCES,
    }
    if machine.gpu != ON_CPU:
        pool["gpu"] = {"resource": "nvidia.com/gpu"}
        names = [name for name, one in catalog.machines.items() if one.letter == machine.letter]
        pool["nodeSelector"] = {MACHINE_LABEL: names[0]}
    return pool


def _autoscaling(schedule: Schedule, time_zone: str, workers: int) -> dict[str, Any]:
    """What a pool's machines of a day are in workers, of which a machine has so many."""
    found: dict[str, Any] = {
        "by": "Load",
        "minReplicas": schedule.least * workers,
        "maxReplicas": schedule.most * workers,
    }
    if schedule.periods:
        found["schedule"] = [
            {
                "begins": clock(period.begins_min),
                "ends": clock(period.ends_min),
                "timeZone": time_zone,
                "minReplicas": period.machines * workers,
            }
            for period in schedule.periods
        ]
    return found


def _name(model: str) -> str:
    """A Kubernetes name out of a model's."""
    letters = [c if c.isascii() and c.isalnum() else "-" for c in model.lower()]
    return "".join(letters).strip("-")[:40].strip("-") or "planned"


def _remarks(request: Request, design: Design, day: DayPlan | None) -> list[str]:
    """What a reader has to know who did not plan it."""
    lines = [
        f"# Planned as {design} for {request.rate:g} requests/s of {request.trace.name}, "
        f"in {request.mode} mode.",
        "# A simulation: measure with `splitwise bench` before you rely on it.",
    ]
    if request.faults is not None:
        lines.append(f"# Its objectives held while machines failed: {told_of(request.faults)}.")
    if day is not None:
        lines.append(f"# Pools follow {day.day.name}, from {day.least} to {day.most}.")
    if "@" in design.kind:
        watts = design.token_machine.prompt_watts
        cap = f"{watts:.0f} W" if watts is not None else "its share of their power"
        lines.append(f"# Cap each GPU of the token machines at {cap}: nothing here does it.")
    return lines
