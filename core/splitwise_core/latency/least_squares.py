"""Least squares for a handful of coefficients, in plain Python: no room needs numpy for it."""

from collections.abc import Sequence
from typing import Final

_SINGULAR: Final = 1e-12
"""A pivot below this share of the largest value: the column says nothing that others do not."""


def fitted(rows: Sequence[Sequence[float]], values: Sequence[float]) -> list[float]:
    """Coefficients that make rows * coefficients come near `values`, by the ratio of both.

    Every value is above zero and counts by its own size, so that 1 % of a short time is as wrong as
    1 % of a long one. A column that others make up has the coefficient 0.
    """
    columns = range(len(rows[0]))
    scaled = [[cell / value for cell in row] for row, value in zip(rows, values)]
    # Columns of very different size, such as 1 and n * n, would lose digits side by side.
    size = [max(abs(row[c]) for row in scaled) or 1.0 for c in columns]
    scaled = [[cell / size[c] for c, cell in enumerate(row)] for row in scaled]
    matrix = [[sum(row[a] * row[b] for row in scaled) for b in columns] for a in columns]
    vector = [sum(row[a] for row in scaled) for a in columns]
    return [found / size[c] for c, found in enumerate(_solved(matrix, vector))]


def _solved(matrix: list[list[float]], vector: list[float]) -> list[float]:
    """The solution of a symmetric system, by elimination with pivots."""
    count = len(vector)
    least = _SINGULAR * max(matrix[i][i] for i in range(count))
    left = list(range(count))
    order: list[int] = []
    while left:
        pivot = max(left, key=lambda i: matrix[i][i])
        left.remove(pivot)
        if matrix[pivot][pivot] <= least:
            continue
        order.append(pivot)
        for row in left:
            factor = matrix[row][pivot] / matrix[pivot][pivot]
            vector[row] -= factor * vector[pivot]
            matrix[row] = [a - factor * b for a, b in zip(matrix[row], matrix[pivot])]
    solution = [0.0] * count
    for pivot in reversed(order):
        known = sum(matrix[pivot][c] * solution[c] for c in range(count) if c != pivot)
        solution[pivot] = (vector[pivot] - known) / matrix[pivot][pivot]
    return solution
