"""Pictures as SVG: lines over an axis, and points with names. Numbers in, text out."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import floor, log10
from typing import Final

WIDTH: Final = 720
HEIGHT: Final = 300
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 34, 44
COLOURS: Final = ("#3b82b8", "#d0622f", "#4f9440", "#8a6bb8", "#a88a2a", "#7b8592")
"""Each is seen on white as on near black: at least 3 to 1."""


@dataclass(frozen=True, slots=True)
class Line:
    """Points to join; `named` points get their names beside them and are not joined."""

    name: str
    points: Sequence[tuple[float, float]]
    labels: Sequence[str] = ()


def chart(
    title: str, x_name: str, y_name: str, lines: Sequence[Line], x_marks: Sequence[float] = ()
) -> str:
    """An SVG of lines over common axes, which begin at zero; that of x ends with its last mark."""
    points = [point for line in lines for point in line.points]
    x_marks = x_marks or _fifths(_round_up(max((x for x, _ in points), default=1.0)))
    x_most = x_marks[-1]
    y_most = _round_up(max((y for _, y in points), default=1.0))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}" font-family="sans-serif" font-size="12" '
        'fill="currentColor">',
        f'<text x="{LEFT}" y="18" font-weight="bold">{escape(title)}</text>',
        *_axes(x_marks, _fifths(y_most), x_name, y_name),
    ]
    for number, line in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        places = [(_x(x, x_most), _y(y, y_most)) for x, y in line.points]
        parts += _labelled(line, places, colour) if line.labels else _joined(places, colour)
        if line.name:
            y = TOP + 14 * number + 8
            parts.append(
                f'<text x="{WIDTH - RIGHT - 6}" y="{y}" text-anchor="end" fill="{colour}">'
                f"{escape(line.name)}</text>"
            )
    return "\n".join([*parts, "</svg>"])


def _joined(places: Sequence[tuple[float, float]], colour: str) -> list[str]:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>']


def _labelled(line: Line, places: Sequence[tuple[float, float]], colour: str) -> list[str]:
    parts = []
    for (x, y), label in zip(places, line.labels):
        end = x > WIDTH - 150
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>')
        parts.append(
            f'<text x="{x - 7 if end else x + 7:.1f}" y="{y + 4:.1f}" fill="{colour}" '
            f'text-anchor="{"end" if end else "start"}">{escape(label)}</text>'
        )
    return parts


def _axes(
    x_marks: Sequence[float], y_marks: Sequence[float], x_name: str, y_name: str
) -> list[str]:
    """A line for each mark of y, and the numbers of all."""
    parts = []
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    for mark in y_marks:
        y = _y(mark, y_marks[-1])
        parts.append(
            f'<path d="M{LEFT} {y:.1f}H{right}" stroke="currentColor" stroke-opacity="0.15"/>'
        )
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{mark:g}</text>')
    for mark in x_marks:
        x = _x(mark, x_marks[-1])
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{mark:g}</text>')
    parts.append(f'<text x="{right}" y="{HEIGHT - 8}" text-anchor="end">{escape(x_name)}</text>')
    parts.append(f'<text x="6" y="{HEIGHT - 8}">{escape(y_name)} ↑</text>')
    return parts


def _fifths(most: float) -> list[float]:
    return [most * fifth / 5 for fifth in range(6)]


def _x(value: float, most: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * value / most


def _y(value: float, most: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / most


def _round_up(value: float) -> float:
    """The next number of which a fifth is short to write."""
    if value <= 0:
        return 1.0
    power = 10.0 ** floor(log10(value))
    return (
        next(step for step in (1.0, 1.5, 2.0, 2.5, 5.0, 10.0) if value <= step * power * 1.000001)
        * power
    )
