"""`splitwise simulate`, `plan` and `profile`, as typer takes them."""

import typer

from splitwise_cli import planner_flags


def simulate(
    model: planner_flags.Model,
    design: planner_flags.Design,
    trace: planner_flags.Trace,
    out: planner_flags.Out = None,
    report: planner_flags.Report = None,
    mode: planner_flags.Mode = "compat",
    mtbf: planner_flags.Mtbf = None,
    repair: planner_flags.Repair = 10.0,
    link_mtbf: planner_flags.LinkMtbf = None,
    link_repair: planner_flags.LinkRepair = 10.0,
    seed: planner_flags.FaultSeed = 0,
    autoscale: planner_flags.Autoscale = None,
    start: planner_flags.Start = 60.0,
    borrowing: planner_flags.Borrowing = True,
    prefix_caching: planner_flags.PrefixCaching = True,
    disaggregation: planner_flags.Disaggregation = "Always",
    catalog: planner_flags.Catalog = None,
    phase_times: planner_flags.PhaseTimes = None,
    json: planner_flags.Json = False,
) -> None:
    """Simulate a trace on a cluster. Exit status 1: some requests never ended."""
    from splitwise_cli.commands.simulate import Options
    from splitwise_cli.commands.simulate import simulate as run

    options = Options(
        model=model,
        design=design,
        trace=trace,
        out=out,
        report=report,
        mode=mode,
        mtbf_hours=mtbf,
        repair_minutes=repair,
        link_mtbf_hours=link_mtbf,
        link_repair_minutes=link_repair,
        seed=seed,
        least=autoscale,
        start_s=start,
        borrowing=borrowing,
        prefix_caching=prefix_caching,
        disaggregation=disaggregation,
        catalog=catalog,
        phase_times=phase_times,
    )
    if not run(options, json):
        raise typer.Exit(1)


def plan(
    model: planner_flags.Model,
    trace: planner_flags.Trace,
    designs: planner_flags.Designs,
    rate: planner_flags.Rate = None,
    objective: planner_flags.Objective = "cost",
    max_cost: planner_flags.MaxCost = None,
    max_power: planner_flags.MaxPower = None,
    max_machines: planner_flags.MaxMachines = None,
    power_caps: planner_flags.PowerCaps = None,
    tensor_parallel: planner_flags.TensorParallel = None,
    headroom: planner_flags.Headroom = 1.0,
    spare: planner_flags.Spare = 0,
    day: planner_flags.Day = None,
    time_zone: planner_flags.TimeZone = None,
    start: planner_flags.Start = 60.0,
    mtbf: planner_flags.Mtbf = None,
    repair: planner_flags.Repair = 10.0,
    disaggregation: planner_flags.Disaggregation = "Always",
    seeds: planner_flags.Seeds = 5,
    duration: planner_flags.Duration = 120.0,
    mode: planner_flags.Mode = "compat",
    frontier: planner_flags.Frontier = False,
    resume: planner_flags.Resume = None,
    report: planner_flags.Report = None,
    cluster: planner_flags.ClusterOut = None,
    model_path: planner_flags.ModelPath = None,
    catalog: planner_flags.Catalog = None,
    phase_times: planner_flags.PhaseTimes = None,
    json: planner_flags.Json = False,
) -> None:
    """Find the cheapest clusters that keep the paper's nine objectives, or what clusters can do."""
    from splitwise_cli.commands.plan import Options
    from splitwise_cli.commands.plan import plan as run

    run(
        Options(
            model=model,
            trace=trace,
            designs=designs,
            rate=rate,
            objective=objective,
            budgets=(max_cost, max_power, max_machines),
            power_caps=power_caps,
            tensor_parallel=tensor_parallel,
            headroom=headroom,
            spare=spare,
            day=(day, time_zone, start),
            failures=(mtbf, repair),
            disaggregation=disaggregation,
            seeds=seeds,
            duration_s=duration,
            mode=mode,
            frontier=frontier,
            resume=resume,
            report=report,
            cluster=cluster,
            model_path=model_path,
            catalog=catalog,
            phase_times=phase_times,
        ),
        json,
    )


def profile(
    phase_times: planner_flags.PhaseTimes = None,
    benchmark: planner_flags.Benchmark = None,
    model: planner_flags.MeasuredModel = None,
    gpu: planner_flags.Gpu = None,
    tensor_parallel: planner_flags.MeasuredTensorParallel = 1,
    token_workers: planner_flags.TokenWorkers = 1,
    out: planner_flags.TimesOut = None,
    json: planner_flags.Json = False,
) -> None:
    """Report how well the planner's models fit measured phase times; take such from benchmarks."""
    from splitwise_cli.commands.profile import profile as run

    run(phase_times, benchmark or [], (model, gpu, tensor_parallel), token_workers, out, json)
