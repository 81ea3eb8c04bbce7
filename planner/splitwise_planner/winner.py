"""What comes of a plan's winner: one simulation of it to look at, and a cluster to apply."""

from splitwise_planner.catalog import load_catalog
from splitwise_planner.deploy import cluster_yaml
from splitwise_planner.design import Design
from splitwise_planner.measured.rules import rules_for
from splitwise_planner.modes import simulation_of
from splitwise_planner.phase_times import load_phase_times
from splitwise_planner.planning import Plan
from splitwise_planner.request import Request, workload_of
from splitwise_planner.simulation import Answer
from splitwise_planner.slo import judge, reference_for


def at_work(request: Request, plan: Plan) -> Answer:
    """The winner on the first seed, at the rate that was asked for. Raises UserError."""
    assert request.rate is not None
    design = _winner(plan)
    model = load_catalog(request.catalog).model(request.model)
    times = load_phase_times(request.phase_times)
    trace = workload_of(request).at(request.rate, 0, request.hour)
    run = simulation_of(
        request.mode,
        times,
        request.model,
        model,
        design,
        request.faults,
        scheduling=request.scheduling,
    )
    outcome, used = run(trace)
    verdict = judge(outcome, reference_for(times, request.model, model))
    return Answer(design, trace, outcome, verdict, request.mode, used)


def cluster_of(request: Request, plan: Plan, model_path: str) -> str:
    """The winner as a SplitwiseCluster file. Raises UserError (plan-undeployable)."""
    design = _winner(plan)
    catalog = load_catalog(request.catalog)
    model = catalog.model(request.model)
    times = load_phase_times(request.phase_times)
    rules = rules_for(times, request.model, model, design)
    return cluster_yaml(request, catalog, design, rules, model_path, plan.day)


def _winner(plan: Plan) -> Design:
    design = plan.sized[0].design
    assert design is not None, "a plan without a winner is an error"
    return design
