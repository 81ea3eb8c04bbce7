"""`splitwise bench` and `splitwise bench compare`, as typer takes them."""

import typer

from splitwise_cli.bench import flags

bench_app = typer.Typer()


@bench_app.callback(invoke_without_command=True)
def bench(
    context: typer.Context,
    url: flags.Url = None,
    trace: flags.TraceFile = None,
    rate: flags.Rate = None,
    requests: flags.Requests = None,
    duration: flags.Duration = None,
    prompt_tokens: flags.PromptTokens = None,
    output_tokens: flags.OutputTokens = None,
    arrivals: flags.Arrivals = None,
    burst: flags.Burst = None,
    time_scale: flags.TimeScale = 1.0,
    length_scale: flags.LengthScale = 1.0,
    seed: flags.Seed = 0,
    timeout: flags.Timeout = 600.0,
    slo_ttft: flags.SloTtft = None,
    slo_tbt: flags.SloTbt = None,
    slo_e2e: flags.SloE2e = None,
    slo: flags.SloRun = None,
    answers: flags.CheckAnswers = "auto",
    model: flags.Model = None,
    json: flags.Json = None,
    html: flags.Html = None,
    out: flags.Rows = None,
    state_dir: flags.State = None,
) -> None:
    """Send a load, each request when it is due, and report what came of it.

    Arrivals never wait for answers. Ctrl-C ends it with the results so far.

    Exit status 1: a request was lost, failed or wrong, none was answered, or an --slo was not kept;
    429 is no fault.
    """
    if context.invoked_subcommand is not None:
        return
    from splitwise_cli.bench.options import Options
    from splitwise_cli.commands.bench import bench as run

    options = Options(
        trace=trace,
        rate=rate,
        requests=requests,
        duration=duration,
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        arrivals=arrivals,
        burst=burst,
        time_scale=time_scale,
        length_scale=length_scale,
        seed=seed,
        timeout=timeout,
        slo_ttft=slo_ttft,
        slo_tbt=slo_tbt,
        slo_e2e=slo_e2e,
        slo_run=slo or (),
        answers=answers,
    )
    if status := run(options, url, model, (json, html, out), state_dir):
        raise typer.Exit(status)


@bench_app.command()
def profile(
    model: flags.MeasuredModel,
    gpu: flags.Gpu,
    out: flags.TimesOut,
    url: flags.Url = None,
    prompt_tokens: flags.PromptSizes = "16,64,128,256,512,900",
    under_way: flags.UnderWay = "2,4,8",
    output_tokens: flags.ProfileOutput = 40,
    repeats: flags.Repeats = 4,
    token_workers: flags.TokenWorkers = 1,
    tensor_parallel: flags.TensorParallel = 1,
    state_dir: flags.State = None,
    output: flags.TableOrJson = "table",
) -> None:
    """Measure how long the phases take on a cluster that does nothing else, for `simulate`.

    Prints what a request costs beside them, as a machine of the catalogue has it.
    """
    from splitwise_cli.bench.profiling import Grid
    from splitwise_cli.commands.bench_profile import counts, run

    grid = Grid(
        counts("--prompt-tokens", prompt_tokens),
        counts("--under-way", under_way),
        output_tokens,
        repeats,
        token_workers,
    )
    run(grid, (model, gpu, tensor_parallel), out, url, state_dir, output)


@bench_app.command()
def compare(
    first: flags.First,
    second: flags.Second,
    html: flags.Html = None,
    output: flags.TableOrJson = "table",
) -> None:
    """Say what of two runs differs for real, and what may be noise.

    Exit status 1: something is worse in the second one, beyond the noise of both.
    """
    from splitwise_cli.commands.compare import run

    if not run(first, second, html, output):
        raise typer.Exit(1)
