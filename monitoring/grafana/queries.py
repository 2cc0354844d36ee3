"""Every question that the dashboards ask, as Prometheus or Loki takes it.

From the JSON files that Grafana reads, so that what is tried is what is shown. Needs nothing but
the standard library.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

__all__ = ["FOLDER", "Asked", "queries"]

FOLDER: Final = Path(__file__).resolve().parent / "dashboards"

_VARIABLE: Final = re.compile(r"\$\{(\w+)(?::\w+)?\}|\$(\w+)")

_STAND_IN: Final = re.compile(r"(?: > 0)? or on\(\) label_replace\(vector\(0\),.*\)$")


@dataclass(frozen=True, slots=True)
class Asked:
    """One query of one panel.

    Attributes:
        dashboard: the name of its file, without the ending.
        panel: its title.
        ref: which of the panel's queries it is: ``A``, ``B``.
        expr: PromQL or LogQL without variables.
        lines: it is LogQL.
        legend: the name of each series, with its labels in ``{{…}}``.
        instant: only the newest value is asked for.
    """

    dashboard: str
    panel: str
    ref: str
    expr: str
    lines: bool
    legend: str
    instant: bool

    @property
    def bare(self) -> str:
        """The question without what stands in where nothing is above 0."""
        return _STAND_IN.sub("", self.expr)

    def __str__(self) -> str:
        """Where to find it."""
        return f"{self.dashboard}: {self.panel} ({self.ref}): {self.expr}"


def queries(
    folder: Path = FOLDER,
    *,
    lines: bool = False,
    rate_interval: str = "1m",
    interval: str = "15s",
    span: str = "1h",
    chosen: Mapping[str, str] | None = None,
) -> list[Asked]:
    """All queries to Prometheus, or with ``lines`` all to Loki.

    Args:
        folder: where the dashboards lie.
        lines: those to Loki instead.
        rate_interval: for ``$__rate_interval``: four scrapes.
        interval: for ``$__interval``.
        span: for ``$__range``.
        chosen: values of variables; all others stand for what they match when all is chosen.

    Raises:
        KeyError: a query names a variable that its dashboard does not have.
    """
    given = {
        "__rate_interval": rate_interval,
        "__interval": interval,
        "__range": span,
        **(chosen or {}),
    }
    return [
        asked
        for path in sorted(folder.glob("*.json"))
        for asked in _of(path.stem, json.loads(path.read_text("utf-8")), given)
        if asked.lines == lines
    ]


def _of(name: str, dashboard: Mapping[str, Any], given: Mapping[str, str]) -> Iterator[Asked]:
    values = {one["name"]: _every(one) for one in dashboard["templating"]["list"]}
    values.update(given)
    for panel in _panels(dashboard["panels"]):
        for target in panel.get("targets", ()):
            yield Asked(
                dashboard=name,
                panel=panel["title"],
                ref=target["refId"],
                expr=_VARIABLE.sub(lambda found: values[found[1] or found[2]], target["expr"]),
                lines=target["datasource"]["type"] == "loki",
                legend=target.get("legendFormat", ""),
                instant=bool(target.get("instant")) or target.get("queryType") == "instant",
            )


def _panels(panels: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """All panels, those in rows that are folded, too."""
    for panel in panels:
        yield panel
        yield from _panels(panel.get("panels", []))


def _every(variable: Mapping[str, Any]) -> str:
    """What stands for a variable while all is chosen."""
    if variable["type"] == "query":
        return str(variable.get("allValue", ".*"))
    return str(variable.get("query", ""))
