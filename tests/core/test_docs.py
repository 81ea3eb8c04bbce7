"""Generated documents say what the code says."""

from pathlib import Path

import pytest

from splitwise_core import errors, telemetry

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    ("name", "text"),
    [("errors.md", errors.reference()), ("metrics.md", telemetry.reference())],
    ids=["errors", "metrics"],
)
def test_a_generated_document_is_up_to_date(name: str, text: str) -> None:
    assert (DOCS / name).read_text("utf-8") == text, "run `make generate`"
