"""What a dashboard asks of Prometheus, with its variables filled in as Grafana does."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

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
        text = self.legend
        for name, value in labels.items():
            text = text.replace(f"{{{{{name}}}}}", value)
        return text

    @property
    def needs_operator(self) -> bool:
        """Whether only an operator, on Kubernetes, has all that is asked for."""
        own = (metric for metric in METRICS if metric.component is Component.OPERATOR)
        return any(metric.name in self.expr for metric in own)


def questions(board: Board) -> Iterator[Question]:
    """All queries of a dashboard, in the order in which they stand there."""
    for panel in document(board)["panels"]:
        unit = panel.get("fieldConfig", {}).get("defaults", {}).get("unit", "")
        for target in panel.get("targets", []):
            yield Question(
                board=board.title,
                panel=panel["title"],
                kind=panel["type"],
                unit=unit,
                legend=target["legendFormat"],
                expr=target["expr"],
            )
    for marks in board.marks:
        query = marks.query
        yield Question(board.title, marks.name, "annotation", "", query.legend, query.expr)


def filled(expr: str, variables: Mapping[str, str]) -> str:
    """The expression with a value for each variable; `__rate_interval` is one of them.

    Raises ValueError for a variable without a value.
    """
    for name, value in variables.items():
        expr = expr.replace(f"${name}", value)
    if "$" in expr:
        raise ValueError(f"a variable has no value: {expr}")
    return expr
