"""The `splitwise` command: arguments in, an exit status out. Commands are imported when they run.

Exit status: 0 when what was asked holds, 2 for what the reader can fix, 130 after Ctrl-C, else 1.
"""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from splitwise_core.errors import UserError

app = typer.Typer(
    name="splitwise",
    help="LLM inference with prefill and decode on separate machines.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
model_app = typer.Typer(help="Make a checkpoint to try things with.", no_args_is_help=True)
app.add_typer(model_app, name="model")

ClusterFile = Annotated[
    Path,
    typer.Option("--file", "-f", help="A SplitwiseCluster file; docs/api.md lists its fields."),
]
Port = Annotated[int | None, typer.Option(help="Router port, instead of the file's.")]
State = Annotated[
    Path | None,
    typer.Option(
        help="Directory of one running cluster: its lock, status and logs. "
        "Default: ~/.local/state/splitwise/default."
    ),
]
TableOrJson = Annotated[
    Literal["table", "json"], typer.Option("--output", "-o", help="For people, or for scripts.")
]


@app.command()
def up(
    file: ClusterFile,
    port: Port = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return as soon as the cluster is ready.")
    ] = False,
    state_dir: State = None,
    wait: Annotated[
        float, typer.Option(help="Seconds within which it must be ready; else all of it ends.")
    ] = 120.0,
) -> None:
    """Run a cluster as processes on this machine, until Ctrl-C or `splitwise down`."""
    from splitwise_cli.commands.up import up as run

    run(file, port, detach, state_dir, wait)


@app.command()
def down(state_dir: State = None) -> None:
    """Stop the cluster that runs on this machine; return when nothing of it is left."""
    from splitwise_cli.commands.down import down as run

    run(state_dir)


@app.command()
def status(output: TableOrJson = "table", state_dir: State = None) -> None:
    """Show the pods of the running cluster, and where it listens."""
    from splitwise_cli.commands.status import status as run

    run(output, state_dir)


@app.command()
def render(
    file: ClusterFile,
    output: Annotated[
        Literal["yaml", "json"], typer.Option("--output", "-o", help="A YAML stream, or a list.")
    ] = "yaml",
    port: Port = None,
) -> None:
    """Print every Kubernetes object that a cluster consists of, in apply order."""
    from splitwise_cli.commands.render import render as run

    run(file, output, port)


@app.command()
def doctor(
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="Check this SplitwiseCluster file too.")
    ] = None,
    output: TableOrJson = "table",
) -> None:
    """Say what this machine lacks to run a cluster, and the fix. Exit status 1: it lacks some."""
    from splitwise_cli.commands.doctor import doctor as run

    if not run(file, output):
        raise typer.Exit(1)


@app.command()
def chat(
    url: Annotated[
        str | None, typer.Option(help="A router's address. Default: the running cluster's.")
    ] = None,
    message: Annotated[
        str | None, typer.Option("--message", "-m", help="Ask this once, and end.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="Longest answer, in tokens.")] = 256,
    state_dir: State = None,
) -> None:
    """Talk to the model: a question a line, answers as they come."""
    from splitwise_cli.commands.chat import chat as run

    run(url, message, max_tokens, state_dir)


Trace = Annotated[
    Path,
    typer.Option(
        help="Requests: the columns arrival_timestamp, prompt_size and token_size, an Azure LLM "
        "inference trace, or Mooncake's JSON lines."
    ),
]
Model = Annotated[str, typer.Option(help="A model of the catalogue, such as bloom-176b.")]
CatalogFile = Annotated[
    Path | None, typer.Option(help="Machines, prices and models, instead of those that come along.")
]
PhaseTimes = Annotated[
    Path | None, typer.Option(help="Measured phase times, instead of those that come along.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


@app.command()
def simulate(
    model: Model,
    design: Annotated[
        str,
        typer.Option(
            help="Machines for prompts and tokens, as in HH-35P-5T or HA-35P-8T; BH-40P_T: each "
            "does both. A: DGX-A100, H: DGX-H100, Hcap: with capped power."
        ),
    ],
    trace: Trace,
    out: Annotated[
        Path | None, typer.Option(help="A CSV with the times of each request, in order of end.")
    ] = None,
    mode: Annotated[
        Literal["compat"],
        typer.Option(help="compat: the rules of the simulator released with the paper, exactly."),
    ] = "compat",
    catalog: CatalogFile = None,
    phase_times: PhaseTimes = None,
    json: Json = False,
) -> None:
    """Simulate a trace on a cluster. Exit status 1: some requests never ended."""
    from splitwise_cli.commands.simulate import simulate as run

    if not run(model, design, trace, out, catalog, phase_times, json):
        raise typer.Exit(1)


@app.command()
def plan(
    model: Model,
    trace: Trace,
    designs: Annotated[
        str,
        typer.Option(
            help="With --rate kinds to size, as in AA,HH,HA,HHcap,BA,BH; without, whole clusters, "
            "as in HH-35P-5T, whose highest rate is looked for."
        ),
    ],
    rate: Annotated[
        float | None,
        typer.Option(metavar="NUMBER", help="Requests per second, drawn with the trace's sizes."),
    ] = None,
    objective: Annotated[
        Literal["cost", "power", "machines"], typer.Option(help="What is to be least.")
    ] = "cost",
    max_cost: Annotated[
        float | None, typer.Option(metavar="NUMBER", help="Dollars an hour, at most.")
    ] = None,
    max_power: Annotated[
        float | None, typer.Option(metavar="NUMBER", help="Power in the catalogue's unit, at most.")
    ] = None,
    max_machines: Annotated[int | None, typer.Option(help="Machines, at most.")] = None,
    seeds: Annotated[
        int, typer.Option(help="Draws on each of which a plan must keep all objectives.")
    ] = 5,
    duration: Annotated[float, typer.Option(help="How long requests arrive.")] = 120.0,
    mode: Annotated[
        Literal["compat"],
        typer.Option(help="compat: the rules of the simulator released with the paper, exactly."),
    ] = "compat",
    catalog: CatalogFile = None,
    phase_times: PhaseTimes = None,
    json: Json = False,
) -> None:
    """Find the cheapest clusters that keep the paper's nine objectives, or what clusters can do."""
    from splitwise_cli.commands.plan import plan as run

    budgets, files = (max_cost, max_power, max_machines), (catalog, phase_times)
    run(model, trace, designs, rate, objective, budgets, seeds, duration, files, json)


@model_app.command("tiny")
def model_tiny(
    directory: Annotated[Path, typer.Argument(help="Where the checkpoint goes.")],
) -> None:
    """Train the tiny model whose answers can be checked: about a minute on two cores."""
    from splitwise_cli.commands.model import tiny as run

    run(directory)


@model_app.command("random")
def model_random(
    directory: Annotated[Path, typer.Argument(help="Where the checkpoint goes.")],
    preset: Annotated[str, typer.Option(help="A real model's shape, such as smollm2-135m.")],
    seed: Annotated[int, typer.Option(help="Same seed, same weights.")] = 0,
) -> None:
    """Write random weights in a real model's shape, for measuring speed."""
    from splitwise_cli.commands.model import random as run

    run(directory, preset, seed)


@app.command()
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as installed

    print(installed("splitwise"))


def main() -> int:
    """Runs the command and leaves with its exit status; errors go to stderr."""
    try:
        app(prog_name="splitwise")
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
