"""The shapes of panels that the dashboards share.

All in the JSON model that Grafana 10.1 reads and that later majors still take: no panel of the
plugins that went away, each data source by a variable, each panel with a unit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from grafana_foundation_sdk.builders import (
    bargauge,
    loki,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.builders import common as built
from grafana_foundation_sdk.builders import dashboard as boards
from grafana_foundation_sdk.builders import logs as logs_panel
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

__all__ = [
    "BLUE",
    "GREEN",
    "LINES",
    "METRICS",
    "ORANGE",
    "RED",
    "RUNBOOKS",
    "YELLOW",
    "AnyPanel",
    "Query",
    "figure",
    "graph",
    "lines",
    "listing",
    "or_none",
    "ranking",
    "some",
    "states",
]

BLUE: Final = "blue"
GREEN: Final = "green"
YELLOW: Final = "yellow"
ORANGE: Final = "orange"
RED: Final = "red"

METRICS: Final = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")
LINES: Final = dashboard.DataSourceRef(type_val="loki", uid="${loki}")
RUNBOOKS: Final = "${runbooks}"

_LOGS: Final = {"instance": "node", "service": "service"}
"""Labels of metrics, and what the logs are chosen by."""

Steps = Sequence[tuple[float | None, str]]
"""Thresholds: from which value on which colour; the first has no value."""

Shown = Mapping[str, tuple[str, str]]
"""What stands for a value: its text and colour."""

AnyPanel = (
    bargauge.Panel
    | logs_panel.Panel
    | stat.Panel
    | statetimeline.Panel
    | table.Panel
    | timeseries.Panel
)


@dataclass(frozen=True, slots=True)
class Query:
    """One question to Prometheus, or to Loki where the panel is about lines.

    Attributes:
        expr: in PromQL or LogQL.
        legend: the name of each series, with its labels in ``{{…}}``.
        unit: other than the panel's.
        right: drawn against the axis at the right.
        lines: it is LogQL.
        instant: only the newest value is asked for: what looks far back is dear at each step.
    """

    expr: str
    legend: str = ""
    unit: str = ""
    right: bool = False
    lines: bool = False
    instant: bool = False


def or_none(expr: str, label: str, word: str = "none") -> str:
    """``expr``, or one series at 0 whose ``label`` is ``word`` where it has nothing."""
    return f'{expr} or on() label_replace(vector(0), "{label}", "{word}", "", "")'


def some(expr: str, label: str, word: str = "none") -> str:
    """Those series of ``expr`` that are above 0, where most are not; ``word`` where none is."""
    return or_none(f"{expr} > 0", label, word)


def figure(
    title: str,
    description: str,
    *queries: Query,
    unit: str,
    steps: Steps = ((None, BLUE),),
    shown: Shown | None = None,
    width: int = 6,
    empty: str = "",
    runbooks: Sequence[str] = (),
) -> stat.Panel:
    """The newest value, large; behind one value alone, how it was."""
    panel = stat.Panel()
    panel.graph_mode(common.BigValueGraphMode.AREA).color_mode(common.BigValueColorMode.VALUE)
    panel.reduce_options(built.ReduceDataOptions().calcs(["lastNotNull"]))
    if len(queries) > 1 or "{{" in queries[0].legend:
        panel.text_mode(common.BigValueTextMode.VALUE_AND_NAME)
    if len(queries) > 1 or queries[0].legend or queries[0].instant:
        panel.graph_mode(common.BigValueGraphMode.NONE)
    mappings = [_mapping(shown)] if shown else []
    if empty:
        panel.no_value(empty)
        mappings.append(_nothing(empty))
    panel.mappings(mappings)
    panel.thresholds(_thresholds(steps)).color_scheme(
        boards.FieldColor().mode(dashboard.FieldColorModeId.THRESHOLDS)
    )
    _common(panel, title, description, queries, unit, width, 4, runbooks)
    return panel


def graph(
    title: str,
    description: str,
    *queries: Query,
    unit: str,
    steps: Steps = (),
    stacked: bool = False,
    log: bool = False,
    top: float | None = None,
    colours: Mapping[str, str] | None = None,
    width: int = 12,
    empty: str = "",
    runbooks: Sequence[str] = (),
) -> timeseries.Panel:
    """Values over time, from 0 up; thresholds as dashed lines."""
    panel = timeseries.Panel()
    panel.legend(
        built.VizLegendOptions()
        .display_mode(common.LegendDisplayMode.TABLE)
        .placement(common.LegendPlacement.RIGHT)
        .calcs(["lastNotNull", "max"])
        .show_legend(True)
    )
    panel.tooltip(
        built.VizTooltipOptions()
        .mode(common.TooltipDisplayMode.MULTI)
        .sort(common.SortOrder.DESCENDING)
    )
    panel.color_scheme(boards.FieldColor().mode(dashboard.FieldColorModeId.PALETTE_CLASSIC))
    panel.line_width(1).fill_opacity(30 if stacked else 8)
    panel.show_points(common.VisibilityMode.NEVER)
    if log:
        panel.scale_distribution(
            built.ScaleDistributionConfig().type(common.ScaleDistribution.LOG).log(10)
        )
    else:
        panel.min(0)
    if top is not None:
        panel.axis_soft_max(top)
    if empty:
        panel.no_value(empty)
    if stacked:
        panel.stacking(built.StackingConfig().mode(common.StackingMode.NORMAL))
    if steps:
        panel.thresholds(_thresholds(steps)).thresholds_style(
            built.GraphThresholdsStyleConfig().mode(common.GraphTresholdsStyleMode.DASHED)
        )
    _overrides(panel, queries, colours or {})
    _common(panel, title, description, queries, unit, width, 8, runbooks)
    return panel


def states(
    title: str,
    description: str,
    query: Query,
    shown: Shown,
    *,
    width: int = 12,
    runbooks: Sequence[str] = (),
) -> statetimeline.Panel:
    """A bar for each series, coloured by its value."""
    panel = statetimeline.Panel()
    panel.mappings([_mapping(shown)]).show_value(common.VisibilityMode.NEVER)
    panel.row_height(0.8).merge_values(True).fill_opacity(80).line_width(0)
    panel.legend(
        built.VizLegendOptions()
        .display_mode(common.LegendDisplayMode.LIST)
        .placement(common.LegendPlacement.BOTTOM)
        .show_legend(True)
    )
    panel.thresholds(_thresholds(((None, BLUE),)))
    _common(panel, title, description, (query,), "none", width, 8, runbooks)
    return panel


def listing(
    title: str,
    description: str,
    query: Query,
    columns: Mapping[str, str],
    *,
    width: int = 12,
) -> table.Panel:
    """What is so now: one row for each series; ``columns`` are its labels and their titles."""
    panel = table.Panel()
    panel.show_header(True).cell_height(common.TableCellHeight.SM)
    panel.with_transformation(
        dashboard.DataTransformerConfig(
            id_val="organize",
            options={
                "excludeByName": {"Time": True, "Value": True},
                "indexByName": {name: place for place, name in enumerate(columns)},
                "renameByName": dict(columns),
            },
        )
    )
    _common(panel, title, description, (query,), "none", width, 8, (), as_table=True)
    return panel


def ranking(
    title: str, description: str, query: Query, *, unit: str, width: int = 12
) -> bargauge.Panel:
    """What is so now: a bar for each series."""
    panel = bargauge.Panel()
    panel.orientation(common.VizOrientation.HORIZONTAL)
    panel.display_mode(common.BarGaugeDisplayMode.BASIC).show_unfilled(False)
    panel.reduce_options(built.ReduceDataOptions().calcs(["lastNotNull"]))
    panel.thresholds(_thresholds(((None, ORANGE),))).min(0)
    _common(panel, title, description, (query,), unit, width, 8, ())
    return panel


def lines(title: str, description: str, query: Query, *, height: int = 12) -> logs_panel.Panel:
    """Lines of logs, newest first."""
    panel = logs_panel.Panel()
    panel.show_time(True).wrap_log_message(True).enable_log_details(True)
    panel.show_labels(False).show_common_labels(False).prettify_log_message(False)
    panel.sort_order(common.LogsSortOrder.DESCENDING)
    panel.dedup_strategy(common.LogsDedupStrategy.NONE)
    _common(panel, title, description, (query,), "none", 24, height, ())
    return panel


def kebab(alert: str) -> str:
    """The name of an alert's runbook: ``ServiceDown`` is ``service-down``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", alert).lower()


def _common(
    panel: AnyPanel,
    title: str,
    description: str,
    queries: Sequence[Query],
    unit: str,
    width: int,
    height: int,
    runbooks: Sequence[str],
    *,
    as_table: bool = False,
) -> None:
    panel.title(title).description(description)
    panel.datasource(LINES if queries[0].lines else METRICS)
    panel.unit(unit).span(width).height(height)
    for number, query in enumerate(queries):
        panel.with_target(_target(query, chr(ord("A") + number), as_table=as_table))
    labels = {label for query in queries for label in _LOGS if f"{{{{{label}}}}}" in query.legend}
    if labels and isinstance(panel, statetimeline.Panel | timeseries.Panel):
        panel.data_links([_log_of(label) for label in sorted(labels)])
    if runbooks:
        panel.links(
            [
                boards.DashboardLink(f"Runbook: {alert}")
                .type(dashboard.DashboardLinkType.LINK)
                .url(f"{RUNBOOKS}/{kebab(alert)}.md")
                .target_blank(True)
                for alert in runbooks
            ]
        )


def _target(query: Query, name: str, *, as_table: bool) -> loki.Dataquery | prometheus.Dataquery:
    if query.lines:
        lines_of = loki.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(name)
        return lines_of.query_type("instant" if query.instant else "range").datasource(LINES)
    asked = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(name)
    if as_table:
        return asked.instant().format(PromQueryFormat.TABLE).datasource(METRICS)
    return (asked.instant() if query.instant else asked.range()).datasource(METRICS)


def _log_of(label: str) -> boards.DashboardLink:
    """From a series to the lines of the service or node that it is of."""
    return (
        boards.DashboardLink(f"Log of this {_LOGS[label]}")
        .type(dashboard.DashboardLinkType.LINK)
        .url(f"/d/fog-logs?var-{_LOGS[label]}=${{__field.labels.{label}}}&${{__url_time_range}}")
    )


def _mapping(shown: Shown) -> dashboard.ValueMapping:
    return dashboard.ValueMap(
        options={
            value: dashboard.ValueMappingResult(text=text, color=colour, index=place)
            for place, (value, (text, colour)) in enumerate(shown.items())
        }
    )


def _nothing(text: str) -> dashboard.ValueMapping:
    """A share of nothing is no number, and would be shown as `NaN`."""
    return dashboard.SpecialValueMap(
        options=dashboard.DashboardSpecialValueMapOptions(
            match=dashboard.SpecialValueMatch.NULL_AND_NAN,
            result=dashboard.ValueMappingResult(text=text, color=BLUE),
        )
    )


def _thresholds(steps: Steps) -> boards.ThresholdsConfig:
    return (
        boards.ThresholdsConfig()
        .mode(dashboard.ThresholdsMode.ABSOLUTE)
        .steps([dashboard.Threshold(value=value, color=colour) for value, colour in steps])
    )


def _overrides(
    panel: timeseries.Panel, queries: Sequence[Query], colours: Mapping[str, str]
) -> None:
    for number, query in enumerate(queries):
        properties = []
        if query.unit:
            properties.append(dashboard.DynamicConfigValue(id_val="unit", value=query.unit))
        if query.right:
            properties.append(
                dashboard.DynamicConfigValue(id_val="custom.axisPlacement", value="right")
            )
        if properties:
            panel.override_by_query(chr(ord("A") + number), properties)
    for name, colour in colours.items():
        fixed = {"mode": "fixed", "fixedColor": colour}
        panel.override_by_name(name, [dashboard.DynamicConfigValue(id_val="color", value=fixed)])
