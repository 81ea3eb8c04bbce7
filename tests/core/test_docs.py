"""Documents say what the code says."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from splitwise_cli import reference as commands
from splitwise_core import errors, spec_reference, telemetry
from splitwise_core.crd import custom_resource_definitions

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text("utf-8")):
        target, _, heading = link.partition("#")
        if "://" not in link:
            there = page.parent / target if target else page
            assert there.exists(), link
            assert not heading or heading in headings(there), link


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    lines = re.findall(r"^#+ (.*)", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", line).lower().replace(" ", "-") for line in lines}


@pytest.mark.parametrize("file", custom_resource_definitions())
def test_the_readme_shows_the_columns_that_kubectl_prints(file: str) -> None:
    (version,) = custom_resource_definitions()[file]["spec"]["versions"]
    own = [made for made in version["additionalPrinterColumns"] if not made.get("priority")]
    header = ["NAME", *(made["name"].upper() for made in own)]
    assert header in [line.split() for line in (ROOT / "README.md").read_text("utf-8").splitlines()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_metric_that_a_page_names_is_there(page: Path) -> None:
    pattern = r"splitwise_\w+_(?:total|seconds|tokens|blocks)\b"
    named = set(re.findall(pattern, page.read_text("utf-8")))
    assert named <= {metric.name for metric in telemetry.METRICS}


def names_of_tests() -> set[str]:
    """The names of all files of tests, and of the tests in them."""
    found = set()
    for file in (ROOT / "tests").rglob("test_*.py"):
        functions = re.findall(r"^(?:async )?def (test_\w+)", file.read_text("utf-8"), re.MULTILINE)
        found |= {file.stem, *functions}
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_test_that_a_page_names_is_there(page: Path) -> None:
    assert set(re.findall(r"\btest_\w+", page.read_text("utf-8"))) <= names_of_tests()
