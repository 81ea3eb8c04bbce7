"""The set-ups as a picture: a panel for each time, with three percentiles."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

WIDTH: Final = 760
PANEL: Final = 190  # height of one
LEFT: Final = 64
ROW: Final = 22  # height of a line of the legend
COLOURS: Final = ("#2f6f9f", "#b6bcc6", "#d08b3e", "#4f8f5b")
TITLES: Final = {"ttft": "time to first token", "tbt": "time between tokens", "e2e": "whole answer"}
PERCENTILES: Final = (50, 90, 99)

Result = Mapping[str, Mapping[str, float]]


def draw(result: Result, file: Path) -> None:
    """Writes an SVG: bars from 0, each with its value in milliseconds."""
    height = PANEL * len(TITLES) + 24 + ROW * -(-len(result) // 2)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
    ]
    for number, figure in enumerate(TITLES):
        parts += _panel(result, figure, number * PANEL)
    parts += _legend(result, PANEL * len(TITLES) + ROW)
    file.write_text("\n".join([*parts, "</svg>\n"]))


def _panel(result: Result, figure: str, top: int) -> list[str]:
    bottom, room = top + PANEL - 30, PANEL - 80
    most_s = max(found[f"{figure}_p99_s"] for found in result.values())
    parts = [f'<text x="{LEFT}" y="{top + 22}" font-weight="bold">{TITLES[figure]}, ms</text>']
    parts.append(f'<path d="M{LEFT} {bottom}H{WIDTH - 16}" stroke="#e4e7eb"/>')
    step = (WIDTH - LEFT - 16) / len(PERCENTILES)
    for place, percentile in enumerate(PERCENTILES):
        middle = LEFT + step * (place + 0.5)
        for side, found in enumerate(result.values()):
            seconds = found[f"{figure}_p{percentile}_s"]
            x, tall = middle - 28 * len(result) + 56 * side, room * seconds / most_s
            parts.append(
                f'<rect x="{x:.1f}" y="{bottom - tall:.1f}" width="52" height="{tall:.1f}" '
                f'fill="{COLOURS[side]}"/>'
            )
            label = f"{seconds * 1e3:.3g}" if seconds < 1 else f"{seconds * 1e3:.0f}"
            parts.append(
                f'<text x="{x + 26:.1f}" y="{bottom - tall - 4:.1f}" '
                f'text-anchor="middle">{label}</text>'
            )
        parts.append(
            f'<text x="{middle:.1f}" y="{bottom + 16}" text-anchor="middle">P{percentile}</text>'
        )
    return parts


def _legend(result: Result, y: int) -> list[str]:
    parts = []
    for side, (name, found) in enumerate(result.items()):
        x, line = LEFT + WIDTH // 2 * (side % 2), y + ROW * (side // 2)
        parts.append(
            f'<rect x="{x}" y="{line - 10}" width="12" height="12" fill="{COLOURS[side]}"/>'
        )
        text = f"{name}: goodput {found['goodput_rps']:.2f}/s"
        parts.append(f'<text x="{x + 18}" y="{line}">{text}</text>')
    return parts
