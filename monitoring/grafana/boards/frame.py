"""A dashboard around its panels: variables, links, and the text of its file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final

from grafana_foundation_sdk.builders import dashboard as boards
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard

from fog_compute.cli.monitoring import config
from monitoring.grafana.boards.shapes import LINES, METRICS, RUNBOOKS, AnyPanel

__all__ = ["as_json", "board", "choice", "choice_of_lines"]

_TAG: Final = "fog-compute"
_REFRESH: Final = "30s"


def choice(name: str, label: str, metric: str, *, of: str = "") -> boards.QueryVariable:
    """A variable: all values, or some, that a label has on ``metric``."""
    query = f"label_values({metric}, {of or name})"
    return _every(
        boards.QueryVariable(name)
        .label(label)
        .datasource(METRICS)
        .query({"query": query, "refId": f"variable-{name}"})
    )


def choice_of_lines(name: str, label: str) -> boards.QueryVariable:
    """A variable: all values, or some, that a label has on lines of logs."""
    query: dict[str, object] = {
        "label": name, "refId": f"variable-{name}", "stream": "", "type": 1,
    }  # fmt: skip
    chosen = _every(boards.QueryVariable(name).label(label).datasource(LINES).query(query))
    # Loki refuses a query all of whose matchers could be empty.
    return chosen.all_value(".+")


def _every(variable: boards.QueryVariable) -> boards.QueryVariable:
    return (
        variable.multi(True)
        .include_all(True)
        .current(dashboard.VariableOption(selected=True, text=["All"], value=["$__all"]))
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
    )


def board(
    uid: str,
    title: str,
    description: str,
    panels: Iterable[AnyPanel],
    *,
    variables: Iterable[Builder[dashboard.VariableModel]] = (),
    since: str = "now-1h",
    loki_too: bool = False,
) -> dashboard.Dashboard:
    """A dashboard of panels, laid out row by row in the order given."""
    made = (
        boards.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([_TAG])
        .refresh(_REFRESH)
        .time(since, "now")
        .timezone("browser")
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .readonly()
        .annotations([])
        .link(
            boards.DashboardLink("Dashboards")
            .type(dashboard.DashboardLinkType.DASHBOARDS)
            .tags([_TAG])
            .keep_time(True)
        )
        .link(
            boards.DashboardLink("Runbooks")
            .type(dashboard.DashboardLinkType.LINK)
            .icon("doc")
            .url(f"{RUNBOOKS}/README.md")
            .tooltip("What to do when an alert fires")
            .target_blank(True)
        )
    )
    made.with_variable(_source("datasource", "Prometheus", "prometheus"))
    if loki_too:
        made.with_variable(_source("loki", "Loki", "loki"))
    made.with_variable(boards.ConstantVariable("runbooks").label("Runbooks").value(config.RUNBOOKS))
    for variable in variables:
        made.with_variable(variable)
    for number, panel in enumerate(panels, 1):
        made.with_panel(panel.id(number))
    return made.build()


def as_json(made: dashboard.Dashboard) -> str:
    """The text of a dashboard's file."""
    return json.dumps(made, cls=JSONEncoder, sort_keys=True, indent=1, ensure_ascii=False) + "\n"


def _source(name: str, label: str, kind: str) -> boards.DatasourceVariable:
    current = dashboard.VariableOption(selected=True, text=kind, value=kind)
    return boards.DatasourceVariable(name).label(label).type(kind).current(current)
