"""What a dashboard asks of Prometheus, with its variables filled in as Grafana does."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from monitoring.dashboards import Board, document
from splitwise_core.metric import Component
from splitwise_core.telemetry import METRICS


@dataclass(frozen=True, slots=True)
class Question:
    """One query of one panel, or of what is marked on all panels."""

    board: str
    panel: str
    kind: str
    unit: str
    legend: str
    expr: str

    def named(self, labels: Mapping[str, str]) -> str:
        """What the legend says of a line with these labels."""
        text = re.sub(r"{{(\w+)}}", lambda label: labels.get(label[1], ""), self.legend)
        return text.strip()

    @property
    def needs_operator(self) -> bool:
        """Whether only an operator, on Kubernetes, has all that is asked for."""
        own = (metric for metric in METRICS if metric.component is Component.OPERATOR)
        return any(metric.name in self.expr for metric in own)


def questions(board: Board) -> Iterator[Question]:
    """All queries of a dashboard, in the order in which they stand there."""
    for panel in document(board)["panels"]:
        units = dict(_units(panel))
        for target in panel.get("targets", []):
            legend = target["legendFormat"]
            yield Question(
                board=board.title,
                panel=panel["title"],
                kind=panel["type"],
                unit=units.get(legend) or units.get("", ""),
                legend=legend,
                expr=target["expr"],
            )
    for marks in board.marks:
        query = marks.query
        yield Question(board.title, marks.name, "annotation", "", query.legend, query.expr)


def _units(panel: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The unit of all values (""), and those of single columns by their headings."""
    fields = panel.get("fieldConfig", {})
    yield "", fields.get("defaults", {}).get("unit", "")
    for own in fields.get("overrides", []):
        for given in own["properties"]:
            if given["id"] == "unit":
                yield own["matcher"]["options"], given["value"]


def filled(expr: str, variables: Mapping[str, str]) -> str:
    """The expression with a value for each variable; `__rate_interval` is one of them.

    Raises ValueError for a variable without a value.
    """
    for name, value in variables.items():
        expr = expr.replace(f"${name}", value)
    if "$" in expr:
        raise ValueError(f"a variable has no value: {expr}")
    return expr
