"""Writes what stands in docs/ from the tables, models and commands in the code."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from splitwise_cli import reference as commands
from splitwise_core import errors, spec_reference, telemetry
from splitwise_operator import conditions

DOCS: Final = Path(__file__).parent

GENERATED: Final[Mapping[str, Callable[[], str]]] = {
    "api.md": spec_reference.reference,
    "cli.md": commands.reference,
    "conditions.md": conditions.reference,
    "errors.md": errors.reference,
    "metrics.md": telemetry.reference,
}


def main() -> None:
    """Writes every file."""
    for name, text in GENERATED.items():
        (DOCS / name).write_text(text(), "utf-8")


if __name__ == "__main__":
    main()
