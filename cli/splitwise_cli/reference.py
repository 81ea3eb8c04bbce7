"""docs/cli.md: every command with its options, printed from the functions that typer calls."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

import typer
from typer.models import ArgumentInfo

from splitwise_cli.main import app

_HEAD: Final = """# splitwise

Exit status: 0 when what was asked holds, 2 for what the reader can fix (with an error on stderr
that names the place, the wrong and the fix; [errors.md](errors.md) lists the codes), 130 after
Ctrl-C, 1 otherwise. `-h` shows the same help as this page.
"""

_WORDS: Final = {Path: "PATH", int: "INTEGER", float: "SECONDS", str: "TEXT"}


@dataclass(frozen=True, slots=True)
class _Parameter:
    """One argument or option of a command."""

    names: list[str]
    usage: str
    default: Any
    help: str

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty

    @property
    def row(self) -> str:
        names = ", ".join(f"`{name}`" for name in self.names)
        default = "" if self.default is None or self.default is False else f"`{self.default}`"
        return f"| {names} | {'**required**' if self.required else default} | {self.help} |\n"


def reference() -> str:
    """The document: a section for each command, in the order of `splitwise -h`."""
    return _HEAD + "".join(_section(*found) for found in _commands("splitwise", app))


def _commands(path: str, group: typer.Typer) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every command with what is typed to reach it."""
    for command in group.registered_commands:
        assert command.callback is not None
        yield f"{path} {command.name or command.callback.__name__}", command.callback
    for inner in group.registered_groups:
        assert inner.typer_instance is not None
        whole = inner.typer_instance.registered_callback
        if whole is not None and whole.callback is not None:
            yield f"{path} {inner.name}", whole.callback
        yield from _commands(f"{path} {inner.name}", inner.typer_instance)


def _section(path: str, command: Callable[..., Any]) -> str:
    signature = inspect.signature(command, eval_str=True)
    parameters = [
        _parameter(one)
        for one in signature.parameters.values()
        if one.annotation is not typer.Context
    ]
    usage = " ".join([path, *(p.usage if p.required else f"[{p.usage}]" for p in parameters)])
    rows = "".join(parameter.row for parameter in parameters)
    table = f"\n| | default | |\n|---|---|---|\n{rows}" if rows else ""
    return f"\n## {path}\n\n```\n{usage}\n```\n\n{inspect.getdoc(command)}\n{table}"


def _parameter(parameter: inspect.Parameter) -> _Parameter:
    kind, info = get_args(parameter.annotation)
    if isinstance(info, ArgumentInfo):
        name = parameter.name.upper()
        return _Parameter([name], name, parameter.default, info.help or "")
    written = [info.default, *(info.param_decls or ())]  # in Annotated, a first name is `default`
    given = [name for name in written if isinstance(name, str)]
    names = sorted(given or [f"--{parameter.name.replace('_', '-')}"], key=len)
    usage = names[-1] if kind is bool else f"{names[-1]} {info.metavar or _word(kind)}"
    return _Parameter(names, usage, parameter.default, info.help or "")


def _word(kind: Any) -> str:
    """What stands for a value: its choices, or the name of its type."""
    wanted = [part for part in get_args(kind) if part is not type(None)]
    if get_origin(kind) is Literal:
        return "|".join(wanted)
    return _word(wanted[0]) if wanted else _WORDS[kind]
