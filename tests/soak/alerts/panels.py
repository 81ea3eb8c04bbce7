"""Dashboards' queries that only an operator can answer, held against what Kubernetes knows."""

import math
from collections.abc import Iterator
from typing import Final

from monitoring.dashboards import BOARDS
from monitoring.prometheus import Prometheus
from monitoring.questions import Question, filled, questions
from tests.support.operated import Operated

LOOKED_AT: Final = "[30m:2s]"


def wrong_panels(prometheus: Prometheus, cluster: Operated) -> list[str]:
    """What they show that cannot be, or is not so; best when pools have grown and shrunk."""
    return [*_unanswered(prometheus, cluster), *_untrue(prometheus, cluster)]


def operators_questions() -> Iterator[Question]:
    """All of all dashboards, the marks of decisions too."""
    for board in BOARDS:
        yield from (one for one in questions(board) if one.needs_operator)


def _unanswered(prometheus: Prometheus, cluster: Operated) -> Iterator[str]:
    variables = {
        "namespace": cluster.namespace,
        "cluster": cluster.name,
        "pool": ".*",
        "__rate_interval": "20s",
    }
    for question in operators_questions():
        expr = filled(question.expr, variables)
        least, most = (
            prometheus.ask(f"{which}_over_time(({expr}){LOOKED_AT})") for which in ("min", "max")
        )
        if not most:
            yield f"{question.board}, {question.panel}: no answer at any time"
        for sample in [*least, *most]:
            if not math.isfinite(sample.value) or sample.value < 0:
                yield f"{question.board}, {question.panel}: {sample.value}"


def _untrue(prometheus: Prometheus, cluster: Operated) -> Iterator[str]:
    of_it = f'namespace="{cluster.namespace}",cluster="{cluster.name}"'
    status = cluster.get()["status"]
    decisions = f"max_over_time(splitwise_operator_scale_decisions_total{{{of_it}}}{LOOKED_AT})"
    expected: dict[str, float] = {
        "sum(splitwise_operator_leaders)": 1,
        "sum(splitwise_operator_clusters)": 1,
        f"splitwise_cluster_behind_generations{{{of_it}}}": 0,
        f"sum({decisions})": len(status["scaling"]),  # an operator that was killed counts anew
    }
    for pool in status["pools"]:
        for state in ("desired", "current", "ready", "updated", "draining"):
            chosen = f'{of_it},pool="{pool["name"]}",state="{state}"'
            expected[f"splitwise_pool_workers{{{chosen}}}"] = pool[state]
    for expr, value in expected.items():
        shown = prometheus.number(expr)
        if shown != value:
            yield f"{expr} is {shown:g}, where Kubernetes knows {value:g}"
