"""The `splitwise` command: arguments in, an exit status out. Commands are imported when they run.

Exit status: 0 when what was asked holds, 2 for what the reader can fix, 1 otherwise.
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
)
model_app = typer.Typer(help="Make a checkpoint to try things with.", no_args_is_help=True)
app.add_typer(model_app, name="model")

ClusterFile = Annotated[Path, typer.Option("--file", "-f", help="A SplitwiseCluster file.")]
Port = Annotated[int | None, typer.Option(help="Router port, instead of the file's.")]
State = Annotated[
    Path | None,
    typer.Option(help="Where the running cluster is kept; ~/.local/state/splitwise/default."),
]


@app.command()
def up(
    file: ClusterFile,
    port: Port = None,
    detach: Annotated[bool, typer.Option(help="Return as soon as the cluster is ready.")] = False,
    state_dir: State = None,
    wait: Annotated[float, typer.Option(help="Seconds within which it must be ready.")] = 120.0,
) -> None:
    """Run a cluster as processes on this machine."""
    from splitwise_cli.commands.up import up as run

    run(file, port, detach, state_dir, wait)


@app.command()
def down(state_dir: State = None) -> None:
    """Stop the cluster that runs on this machine."""
    from splitwise_cli.commands.down import down as run

    run(state_dir)


@app.command()
def status(
    output: Annotated[Literal["table", "json"], typer.Option("--output", "-o")] = "table",
    state_dir: State = None,
) -> None:
    """Show the pods of the running cluster."""
    from splitwise_cli.commands.status import status as run

    run(output, state_dir)


@app.command()
def render(
    file: ClusterFile,
    output: Annotated[Literal["yaml", "json"], typer.Option("--output", "-o")] = "yaml",
    port: Port = None,
) -> None:
    """Print every object that a cluster consists of."""
    from splitwise_cli.commands.render import render as run

    run(file, output, port)


@app.command()
def doctor(
    file: Annotated[Path | None, typer.Option("--file", "-f", help="Check this file too.")] = None,
    output: Annotated[Literal["table", "json"], typer.Option("--output", "-o")] = "table",
) -> None:
    """Say what is wrong with this machine, and the fix."""
    from splitwise_cli.commands.doctor import doctor as run

    if not run(file, output):
        raise typer.Exit(1)


@app.command()
def chat(
    url: Annotated[str | None, typer.Option(help="A router; default: the running cluster.")] = None,
    message: Annotated[str | None, typer.Option("--message", "-m", help="Ask once.")] = None,
    max_tokens: Annotated[int, typer.Option(help="Longest answer, in tokens.")] = 256,
    state_dir: State = None,
) -> None:
    """Talk to the model."""
    from splitwise_cli.commands.chat import chat as run

    run(url, message, max_tokens, state_dir)


@model_app.command("tiny")
def model_tiny(directory: Path) -> None:
    """Train the tiny model whose answers can be checked: about a minute on two cores."""
    from splitwise_cli.commands.model import tiny as run

    run(directory)


@model_app.command("random")
def model_random(
    directory: Path,
    preset: Annotated[str, typer.Option(help="A real model's shape, such as smollm2-135m.")],
    seed: Annotated[int, typer.Option()] = 0,
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
    """Runs the command; errors go to stderr."""
    try:
        app(standalone_mode=False)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except typer.Exit as done:
        return done.exit_code
    except typer.Abort:
        return 130
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        return _report(error)
    return 0


def _report(error: Exception) -> int:
    """The exit status for what is no UserError: wrong usage, a failed start, or a bug."""
    from click import ClickException

    if isinstance(error, ClickException):
        error.show()
        return error.exit_code
    from splitwise_cli.commands.up import Failed

    if isinstance(error, Failed):
        sys.stderr.write(str(error))
        return 2
    raise error


if __name__ == "__main__":
    sys.exit(main())
