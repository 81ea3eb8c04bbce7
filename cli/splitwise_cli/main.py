"""The `splitwise` command: arguments in, an exit status out. Commands are imported when they run.

Exit status: 0 when what was asked holds, 2 for what the reader can fix, 130 after Ctrl-C, else 1.
"""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from splitwise_cli.bench import flags
from splitwise_cli.bench_app import bench_app
from splitwise_cli.planner_app import plan, profile, simulate
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
app.add_typer(bench_app, name="bench")
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
    url: Annotated[
        str | None,
        typer.Option(
            help="Instead: watch the load of the cluster behind this router, and say whether it "
            "should be disaggregated, and how split."
        ),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0.1, max=86400, help="How long to watch the load, with --url.")
    ] = 10.0,
    output: TableOrJson = "table",
) -> None:
    """Say what this machine lacks to run a cluster, and the fix. Exit status 1: it lacks some.

    With --url, whether a running cluster's load should be disaggregated, from what it measured.
    """
    if url is not None:
        from splitwise_cli.commands.advise import advise_on

        advise_on(url, seconds, output)
        return
    from splitwise_cli.commands.doctor import doctor as run

    if not run(file, output):
        raise typer.Exit(1)


@app.command()
def chat(
    url: flags.Url = None,
    message: Annotated[
        str | None, typer.Option("--message", "-m", help="Ask this once, and end.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="Longest answer, in tokens.")] = 256,
    state_dir: State = None,
) -> None:
    """Talk to the model: a question a line, answers as they come."""
    from splitwise_cli.commands.chat import chat as run

    run(url, message, max_tokens, state_dir)


@app.command()
def top(
    url: Annotated[
        str | None, typer.Option(help="A router's address. Default: the cluster on this machine.")
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option("--cluster", "-c", help="A SplitwiseCluster on Kubernetes, by KUBECONFIG."),
    ] = None,
    namespace: Annotated[
        str | None,
        typer.Option("--namespace", "-n", help="With --cluster. Default: kubectl's own."),
    ] = None,
    interval: Annotated[
        float, typer.Option(min=0.2, max=3600, help="Time between two looks.")
    ] = 2.0,
    once: Annotated[
        bool, typer.Option("--once", help="Look twice, an interval apart, print once, and end.")
    ] = False,
    output: TableOrJson = "table",
    state_dir: State = None,
) -> None:
    """Watch a cluster live: pools, queues, KV, times of requests. Ctrl-C ends it.

    With -o json, or where stdout is no terminal, each look is printed below the last.
    """
    from splitwise_cli.commands.top import top as run

    run((url, cluster, namespace, state_dir), interval, once, output)


for command in (simulate, plan, profile):
    app.command()(command)


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
