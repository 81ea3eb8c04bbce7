"""The few kinds of panels that dashboards are made of, and how they look."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from grafana_foundation_sdk.builders import common as styles
from grafana_foundation_sdk.builders import dashboard as grafana
from grafana_foundation_sdk.builders import heatmap as heatmaps
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.stat import Panel as StatPanel
from grafana_foundation_sdk.builders.table import Panel as TablePanel
from grafana_foundation_sdk.builders.timeseries import Panel as LinesPanel
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models.dashboard import (
    DataTransformerConfig,
    DynamicConfigValue,
    FieldColorModeId,
    Threshold,
    ThresholdsMode,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE: Final = common.DataSourceRef(type_val="prometheus", uid="${datasource}")
WHOLE: Final = 24
"""Columns of a dashboard."""

COUNT: Final = "short"
PART: Final = "percentunit"
SECONDS: Final = "s"
BYTES: Final = "bytes"
BYTES_PER_S: Final = "binBps"
TOKENS: Final = "suffix: tokens"
TOKENS_PER_S: Final = "suffix: tokens/s"
REQUESTS_PER_S: Final = "reqps"
PER_S: Final = "ops"
WATTS: Final = "watt"
JOULES: Final = "joule"
DOLLARS: Final = "currencyUSD"

Panel = LinesPanel | StatPanel | heatmaps.Panel | TablePanel
_Panel = TypeVar("_Panel", LinesPanel, StatPanel, heatmaps.Panel, TablePanel)


@dataclass(frozen=True, slots=True)
class Query:
    """What Prometheus is asked for, and how each line of the answer is called."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True)
class Limits:
    """From where on a value is worth a `look`, and from where on it is `bad`.

    Where `bad` is the lower one, low values are the bad ones.
    """

    look: float
    bad: float

    def steps(self) -> list[Threshold]:
        """As Grafana has them: a colour from each value on."""
        rising = self.look < self.bad
        first, last = ("green", "red") if rising else ("red", "green")
        low, high = sorted((self.look, self.bad))
        bounds = ((first, None), ("yellow", low), (last, high))
        return [Threshold(color=color, value=value) for color, value in bounds]


def lines(
    title: str,
    about: str,
    unit: str,
    *queries: Query,
    width: int = 12,
    limits: Limits | None = None,
    stacked: bool = False,
    most: float | None = None,
) -> LinesPanel:
    """Values over time; `limits` are dashed, and `most` ends the axis."""
    panel = _begin(LinesPanel(), title, about, width, height=8).unit(unit).min(0)
    panel.line_width(1).fill_opacity(30 if stacked else 8)
    panel.show_points(common.VisibilityMode.NEVER)
    panel.color_scheme(grafana.FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
    panel.legend(
        styles.VizLegendOptions()
        .show_legend(True)
        .display_mode(common.LegendDisplayMode.TABLE)
        .placement(common.LegendPlacement.BOTTOM)
        .calcs(["lastNotNull", "max"])
    )
    shown = styles.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI)
    panel.tooltip(shown.sort(common.SortOrder.DESCENDING))
    if stacked:
        panel.stacking(styles.StackingConfig().mode(common.StackingMode.NORMAL).group("A"))
    if most is not None:
        panel.max(most)
    if limits is not None:
        dashed = styles.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
        panel.thresholds(_thresholds(limits)).thresholds_style(dashed)
    return _asking(panel, queries)


def number(
    title: str,
    about: str,
    unit: str,
    *queries: Query,
    limits: Limits | None = None,
    without: str = "no data",
) -> StatPanel:
    """The last value of each line, large, with its past; `without` is said where there is none."""
    panel = _begin(StatPanel(), title, about, 1, height=4).unit(unit).no_value(without)
    panel.graph_mode(common.BigValueGraphMode.AREA).text_mode(common.BigValueTextMode.AUTO)
    panel.reduce_options(styles.ReduceDataOptions().calcs(["lastNotNull"]))
    if limits is None:
        color = grafana.FieldColor().mode(FieldColorModeId.FIXED).fixed_color("blue")
        panel.color_scheme(color)
    else:
        color = grafana.FieldColor().mode(FieldColorModeId.THRESHOLDS)
        panel.color_scheme(color).thresholds(_thresholds(limits))
    return _asking(panel, queries)


def heat(title: str, about: str, unit: str, buckets: str, width: int = 12) -> heatmaps.Panel:
    """How the values of a histogram are spread, over time."""
    panel = _begin(heatmaps.Panel(), title, about, width, height=8)
    panel.calculate(False).cell_gap(1).y_axis(heatmaps.YAxisConfig().unit(unit))
    colors = heatmaps.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Blues")
    panel.color(colors.steps(64).exponent(0.5)).hide_legend()
    target = _target(0, Query(buckets, "{{le}}")).format(PromQueryFormat.HEATMAP)
    return panel.with_target(target)


def table(
    title: str,
    about: str,
    keys: Mapping[str, str],
    columns: Sequence[tuple[str, str, str]],
    url: str,
) -> TablePanel:
    """A row for each combination of the labels `keys` (label to heading), which leads to `url`.

    Each column is a heading, a unit and the expression of its values.
    """
    panel = _begin(TablePanel(), title, about, WHOLE, height=8)
    headings = dict(keys)
    for place, (heading, unit, expr) in enumerate(columns):
        target = _target(place, Query(expr, heading)).format(PromQueryFormat.TABLE)
        panel.with_target(target.instant())
        headings[f"Value #{_letter(place)}"] = heading
        panel.override_by_name(heading, [DynamicConfigValue(id_val="unit", value=unit)])
    leads = [{"title": "Open", "url": url}]
    for heading in keys.values():
        panel.override_by_name(heading, [DynamicConfigValue(id_val="links", value=leads)])
    panel.with_transformation(DataTransformerConfig(id_val="merge", options={}))
    shape = {
        "excludeByName": {"Time": True},
        "renameByName": headings,
        "indexByName": {name: place for place, name in enumerate(headings)},
    }
    return panel.with_transformation(DataTransformerConfig(id_val="organize", options=shape))


def _begin(panel: _Panel, title: str, about: str, width: int, height: int) -> _Panel:
    return panel.title(title).description(about).datasource(SOURCE).span(width).height(height)


def _asking(panel: _Panel, queries: Sequence[Query]) -> _Panel:
    for place, query in enumerate(queries):
        panel.with_target(_target(place, query))
    return panel


def _target(place: int, query: Query) -> Dataquery:
    target = Dataquery().datasource(SOURCE).ref_id(_letter(place)).range()
    return target.expr(query.expr).legend_format(query.legend)


def _letter(place: int) -> str:
    return chr(ord("A") + place)


def _thresholds(limits: Limits) -> grafana.ThresholdsConfig:
    return grafana.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(limits.steps())
