"""Write the reference of the dashboards: `python packaging/dashboards_reference.py`.

A test says when it must be written anew.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))

from monitoring.grafana.queries import FOLDER, Asked, queries  # noqa: E402

PAGE: Final = ROOT / "docs/reference/dashboards.md"

INTRODUCTION: Final = """\
# Dashboards

Made from `monitoring/grafana/dashboards` by `packaging/dashboards_reference.py`.

What each panel answers, and what it asks of Prometheus or Loki.
The queries stand here as they can be typed into either, over all nodes and services; on a dashboard `[1m]` is four scrapes, and what is `[1h]` for a panel of “this time” is the time that is shown.
The dashboards themselves are made from `monitoring/grafana/boards` by `make dashboards`.
A name such as `service:fog_messages_undelivered:ratio_rate1h` is recorded by Prometheus from the rules in `monitoring/prometheus/rules`.
"""  # noqa: E501
_FIRST: Final = ("overview", "betanet", "compute", "messaging", "logs")


def page() -> str:
    """The whole page."""
    asked = [*queries(), *queries(lines=True)]
    return INTRODUCTION + "".join(_dashboard(name, asked) for name in _FIRST)


def _dashboard(name: str, asked: list[Asked]) -> str:
    made = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    title = made["title"].removeprefix("fog: ")
    head = f"\n## {title[0].upper()}{title[1:]}\n\n{made['description']}\n"
    here = [one for one in asked if one.dashboard == name]
    return head + "".join(
        _panel(panel, [one for one in here if one.panel == panel["title"]])
        for panel in made["panels"]
    )


def _panel(panel: dict[str, Any], asked: list[Asked]) -> str:
    sentences = re.sub(r"(?<=\.) (?=[A-Z`])", "\n", panel["description"])
    language = "logql" if asked[0].lines else "promql"
    exprs = "\n".join(one.expr for one in asked)
    alerts = [
        f"[{link['title'].removeprefix('Runbook: ')}](../runbooks/{link['url'].rpartition('/')[2]})"
        for link in panel.get("links", ())
    ]
    told = f"Alerts: {', '.join(alerts)}.\n" if alerts else ""
    return f"\n### {panel['title']}\n\n{sentences}\n{told}\n```{language}\n{exprs}\n```\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
