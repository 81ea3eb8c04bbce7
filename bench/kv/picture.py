"""The overlap curve as a picture: what is seen of a transfer, pushed at the end and by layer."""

from collections.abc import Sequence
from math import log10
from pathlib import Path
from typing import Final

from bench.kv.overlap import Point

WIDTH: Final = 760
PANEL: Final = 250  # height of one
LEFT: Final = 64
COLOURS: Final = ("#b6bcc6", "#2f6f9f")  # at the end, by layer
DECADES: Final = (-1, 4)  # 0.1 ms to 10 s


def draw(points: Sequence[Point], file: Path) -> None:
    """Writes an SVG with a panel for each model and transport; both axes say their unit."""
    kinds = list(dict.fromkeys((point.model, point.over) for point in points))
    height = PANEL * len(kinds) + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
    ]
    for number, kind in enumerate(kinds):
        own = [point for point in points if (point.model, point.over) == kind]
        parts += _panel(own, f"{kind[0]} over {kind[1]}", number * PANEL)
    parts += _legend(height - 22)
    file.write_text("\n".join([*parts, "</svg>\n"]))


def _panel(points: Sequence[Point], title: str, top: int) -> list[str]:
    bottom = top + PANEL - 40
    parts = [f'<text x="{LEFT}" y="{top + 22}" font-weight="bold">{title}: seen, ms</text>']
    for decade in range(DECADES[0], DECADES[1] + 1):
        y = _y(10.0**decade, bottom)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - 16}" stroke="#e4e7eb"/>')
        parts.append(
            f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{10**decade:g}</text>'
        )
    step = (WIDTH - LEFT - 16) / len(points)
    for number, point in enumerate(points):
        middle = LEFT + step * (number + 0.5)
        for side, seconds in enumerate((point.at_end_s, point.by_layer_s)):
            x, y = middle - 52 + 54 * side, _y(seconds * 1e3, bottom)
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="50" height="{bottom - y:.1f}" '
                f'fill="{COLOURS[side]}"/>'
            )
            label = f"{seconds * 1e3:.1f}"
            parts.append(
                f'<text x="{x + 25:.1f}" y="{y - 4:.1f}" text-anchor="middle">{label}</text>'
            )
        label = f"{point.tokens} tokens, {point.mib} MiB"
        parts.append(
            f'<text x="{middle:.1f}" y="{bottom + 16}" text-anchor="middle">{label}</text>'
        )
    return parts


def _y(milliseconds: float, bottom: int) -> float:
    low, high = DECADES
    part = (log10(max(milliseconds, 10.0**low)) - low) / (high - low)
    return bottom - part * (PANEL - 80)


def _legend(y: int) -> list[str]:
    parts = []
    for side, text in enumerate(("pushed at the end of the prompt", "pushed by layer")):
        x = LEFT + 240 * side
        parts.append(f'<rect x="{x}" y="{y - 10}" width="12" height="12" fill="{COLOURS[side]}"/>')
        parts.append(f'<text x="{x + 18}" y="{y}">{text}</text>')
    return parts
