"""Reports to keep: Markdown, and one HTML file with its pictures in it, which loads nothing."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final

from splitwise_core.errors import writing

STYLE: Final = (
    ":root{color-scheme:light dark;--line:#e4e7eb;--back:#fff;--text:#222}"
    "@media(prefers-color-scheme:dark){:root{--line:#39424e;--back:#161b22;--text:#e6eaf0}}"
    "body{font:15px/1.5 sans-serif;max-width:760px;margin:2em auto;padding:0 1em;"
    "background:var(--back);color:var(--text)}"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums}"
    "td,th{padding:2px 10px;border-bottom:1px solid var(--line);text-align:right}"
    "td:first-child,th:first-child{text-align:left}pre,.wide{overflow:auto}"
    "svg{width:100%;height:auto}"
)
NOTHING_LOADED: Final = "default-src 'none'; style-src 'unsafe-inline'"
"""What a browser is told that it may fetch and run for a report: its own style alone."""

Table = Sequence[Sequence[str]]
"""Rows of cells, the first of them the header."""

Part = str | Table
"""A paragraph, an SVG, or a table. A paragraph that begins with # is a heading."""


def write_report(path: Path, title: str, parts: Sequence[Part]) -> None:
    """Writes HTML where the name ends in .html, else Markdown without the pictures. Raises
    UserError."""
    text = as_html(title, parts) if path.suffix == ".html" else as_markdown(title, parts)
    with writing(f"--report {path}"):
        path.write_text(text, "utf-8")


def as_markdown(title: str, parts: Sequence[Part]) -> str:
    """Headings, tables and paragraphs."""
    blocks = [f"# {title}"]
    for part in parts:
        if isinstance(part, str):
            if not part.startswith("<svg"):
                blocks.append(f"#{part}" if part.startswith("# ") else part)
            continue
        head, *rows = part
        lines = [head, ["---"] + ["--:"] * (len(head) - 1), *rows]
        blocks.append("\n".join(f"| {' | '.join(row)} |" for row in lines))
    return "\n\n".join(blocks) + "\n"


def as_html(title: str, parts: Sequence[Part]) -> str:
    """One file, in which everything is; readable in a narrow window, by day and by night."""
    head = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{NOTHING_LOADED}">'
        f"<title>{escape(title)}</title><style>{STYLE}</style>"
    )
    body = "\n".join(_text(part) if isinstance(part, str) else _table(part) for part in parts)
    return f"{head}<h1>{escape(title)}</h1>\n{body}</html>\n"


def _text(part: str) -> str:
    if part.startswith("<svg"):
        return part
    if part.startswith("# "):
        return f"<h2>{escape(part[2:])}</h2>"
    return f"<p>{escape(part)}</p>"


def _table(part: Table) -> str:
    rows = []
    for number, row in enumerate(part):
        cell = "td" if number else "th"
        rows.append("<tr>" + "".join(f"<{cell}>{escape(c)}</{cell}>" for c in row) + "</tr>")
    return '<div class="wide"><table>' + "\n".join(rows) + "</table></div>"
