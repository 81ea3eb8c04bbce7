"""A dashboard: its variables, its rows, and the links to the others.

In the form that files and ConfigMaps have had since long before Grafana 10, and that all newer ones
read: that of Grafana's newest API is not read by those that are installed.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from grafana_foundation_sdk.builders import dashboard as grafana
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.stat import Panel as StatPanel
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    Dashboard,
    DashboardCursorSync,
    DashboardLinkType,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from monitoring.dashboards.panels import SOURCE, WHOLE, Panel, Query
from splitwise_core.metric import Metric
from splitwise_core.metrics.router import INFLIGHT_REQUESTS
from splitwise_core.metrics.worker import RUNNING

TAG: Final = "splitwise"
REFRESH: Final = "30s"
ROW_HEIGHT: Final = 1
_CHOSEN_BY: Final[dict[str, tuple[Metric, str]]] = {
    "namespace": (INFLIGHT_REQUESTS, ""),
    "cluster": (INFLIGHT_REQUESTS, 'namespace=~"$namespace"'),
    "pool": (RUNNING, 'namespace=~"$namespace", cluster=~"$cluster"'),
}
"""Of which series a variable has its values, given the variables before it."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A choice at the top: of one value, or of several, all of them at first."""

    name: str
    several: bool = True


@dataclass(frozen=True, slots=True)
class Row:
    """A heading and the panels below it."""

    title: str
    panels: Sequence[Panel]


def at_a_glance(*numbers: StatPanel) -> Row:
    """Numbers side by side, which share the whole width alike."""
    assert WHOLE % len(numbers) == 0
    return Row("At a glance", [panel.span(WHOLE // len(numbers)) for panel in numbers])


@dataclass(frozen=True, slots=True)
class Marks:
    """Moments that all panels show, of series that are above 0 then."""

    name: str
    query: Query
    color: str


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard; `uid` is its address in Grafana, and the name of its file."""

    uid: str
    title: str
    about: str
    variables: Sequence[Variable]
    rows: Sequence[Row]
    marks: Sequence[Marks] = ()

    def build(self) -> Dashboard:
        """As Grafana has it. Panels fill each row from left to right, and have numbers of ours."""
        made = grafana.Dashboard(self.title).uid(self.uid).description(self.about).tags([TAG])
        made.readonly().time("now-1h", "now").refresh(REFRESH).timezone("browser")
        made.tooltip(DashboardCursorSync.CROSSHAIR).link(_others())
        made.with_variable(_datasource())
        for variable in self.variables:
            made.with_variable(_variable(variable))
        for marks in self.marks:
            made.annotation(_annotation(marks))
        number = 1
        for row in self.rows:
            made.with_row(grafana.Row(row.title).id(number))
            for panel in row.panels:
                number += 1
                made.with_panel(panel.id(number))
            number += 1
        return made.build()


def address(uid: str, *variables: str) -> str:
    """Where a dashboard is, for what a table's row says of `variables` and for the same time."""
    chosen = "&".join(f"var-{name}=${{__data.fields.{name}}}" for name in variables)
    return f"/d/{uid}?{chosen}&${{__url_time_range}}&${{datasource:queryparam}}"


def _others() -> grafana.DashboardLink:
    link = grafana.DashboardLink("Splitwise").type(DashboardLinkType.DASHBOARDS).tags([TAG])
    return link.as_dropdown(True).include_vars(True).keep_time(True)


def _datasource() -> grafana.DatasourceVariable:
    return grafana.DatasourceVariable("datasource").label("Prometheus").type("prometheus")


def _variable(variable: Variable) -> grafana.QueryVariable:
    metric, given = _CHOSEN_BY[variable.name]
    asked = f"label_values({metric.name}{{{given}}}, {variable.name})"
    made = grafana.QueryVariable(variable.name).label(variable.name.capitalize())
    made.datasource(SOURCE).query(asked)
    made.definition(asked).refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
    made.sort(VariableSort.ALPHABETICAL_ASC)
    if variable.several:
        everything = VariableOption(selected=True, text=["All"], value=["$__all"])
        made.multi(True).include_all(True).all_value(".*").current(everything)
    return made


def _annotation(marks: Marks) -> grafana.AnnotationQuery:
    target = Dataquery().expr(marks.query.expr).legend_format(marks.query.legend)
    made = grafana.AnnotationQuery().name(marks.name).datasource(SOURCE).enable(True)
    made.expr(marks.query.expr).title_format(marks.query.legend).step("15s")
    return made.icon_color(marks.color).target(target.ref_id("Anno").datasource(SOURCE))


def document(board: Board) -> dict[str, Any]:
    """A dashboard as JSON has it."""
    made: dict[str, Any] = json.loads(JSONEncoder().encode(board.build()))
    return made
