"""`splitwise bench compare`: two reports side by side, and what of it is noise."""

import json
import sys
from pathlib import Path
from typing import Final, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from splitwise_cli.bench.compare import Judgement, body, compare, unlike
from splitwise_cli.bench.page import compared, row
from splitwise_cli.bench.runs import read_run
from splitwise_core.errors import writing
from splitwise_planner.document import as_html

_COLOURS: Final = {Judgement.BETTER: "green", Judgement.WORSE: "red"}


def run(first: Path, second: Path, html: Path | None, output: Literal["table", "json"]) -> bool:
    """Prints the comparison; True unless something is worse for real. Raises UserError."""
    a, b = read_run(first), read_run(second)
    differences, about = compare(a, b), unlike(a, b)
    if html is not None:
        with writing(f"--html {html}"):
            page = as_html(f"{a.name} and {b.name}", compared(a, b, differences, about))
            html.write_text(page, "utf-8")
    if output == "json":
        print(json.dumps(body(differences, about), indent=1))
    else:
        console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
        table = Table()
        table.add_column("")
        for name in ("A", "B", "change", "standard error", ""):
            table.add_column(name, justify="right")
        for one in differences:
            *cells, judged = row(one)
            table.add_row(*cells, Text(judged, _COLOURS.get(one.judgement, "")))
        console.print(table)
        for what in about:
            console.print(Text(f"the loads differ in {what}", "yellow"))
    return all(one.judgement is not Judgement.WORSE for one in differences)
