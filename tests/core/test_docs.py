"""Generated documents say what the code says."""

from collections.abc import Callable
from pathlib import Path

import pytest

from splitwise_cli import reference as commands
from splitwise_core import errors, spec_reference, telemetry

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("api.md", spec_reference.reference, id="fields"),
        pytest.param("cli.md", commands.reference, id="commands"),
        pytest.param("errors.md", errors.reference, id="errors"),
        pytest.param("metrics.md", telemetry.reference, id="metrics"),
    ],
)
def test_a_generated_document_is_up_to_date(name: str, text: Callable[[], str]) -> None:
    assert (DOCS / name).read_text("utf-8") == text(), "run `make generate`"


@pytest.mark.parametrize("text", [spec_reference.reference(), commands.reference()])
def test_nothing_in_a_reference_goes_unexplained(text: str) -> None:
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert rows
    assert not [row for row in rows if row.endswith(("|  |", "| None |"))]
