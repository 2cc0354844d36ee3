"""Write the reference of all metrics: `python packaging/metrics_reference.py`.

From the registries of the Python processes and from `betanet metrics`, with the alerts and the
dashboards that ask for each. A test says when it must be written anew.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from prometheus_client.parser import text_string_to_metric_families

from fog_compute.observability.metrics import (
    BackendMetrics,
    Family,
    PanelMetrics,
    Registry,
    WorkerMetrics,
    families_of,
)

ROOT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = ROOT / "docs/reference/metrics.md"
MONITORING: Final = ROOT / "monitoring"
BETANET: Final = Path(sys.executable).with_name("betanet")

INTRODUCTION: Final = """\
# Metrics

Made from the registries of the processes, the rules and the dashboards by
`packaging/metrics_reference.py`.

Each process answers `GET /metrics`; who may ask, and what no metric tells, is in
[monitoring](../spec/monitoring.md).
Whoever scrapes adds the labels `service`, `network` and `instance`, and for mix nodes `role`.
A label's values are listed, or what they are is said in words; a histogram is also there as
`_bucket`, `_sum` and `_count`.
Where a metric is used: alerts by their names, dashboards by their titles.
"""

TABLE: Final = """\
| metric | type | unit | labels | what it tells | used by |
|---|---|---|---|---|---|
"""

_UNITS: Final = (
    ("_timestamp_seconds", "seconds since 1970"),
    ("_time_seconds", "seconds since 1970"),
    ("_seconds", "seconds"),
    ("_bytes", "bytes"),
)
_WORD: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_PARTS: Final = ("_bucket", "_sum", "_count")

Sections = Mapping[str, Iterable[Family]]


def python_sections() -> Sections:
    """What the Python processes export; what every one does is in the last section."""
    every = Registry().families()
    common = {family.name for family in every}
    return {
        title: [one for one in made.registry.families() if one.name not in common]
        for title, made in (
            ("Backend", BackendMetrics()),
            ("Worker", WorkerMetrics()),
            ("Control panel", PanelMetrics()),
        )
    } | {"Every Python process": every}


def rust_sections() -> Sections:
    """What nodes and authorities export, as the program itself says.

    Raises:
        RuntimeError: the program cannot be asked.
    """
    return {"Mix node": _asked("node"), "Directory authority": _asked("authority")}


def page() -> str:
    """The whole page; sections that nothing can be asked about now stay as they are."""
    users = _users()
    parts = [INTRODUCTION]
    parts += [_section(title, families, users) for title, families in python_sections().items()]
    try:
        parts += [_section(title, families, users) for title, families in rust_sections().items()]
    except RuntimeError as error:
        sys.stderr.write(f"{error}: their sections stay as they are\n")
        parts += _as_written(("Mix node", "Directory authority"))
    return "\n".join(parts)


def listed(text: str) -> dict[str, dict[str, set[str]]]:
    """What a written page says: the metrics of each section, and the names of their labels."""
    found: dict[str, dict[str, set[str]]] = {}
    for part in text.split("\n## ")[1:]:
        title, _, rows = part.partition("\n")
        cells = [row.split(" | ") for row in rows.splitlines() if row.startswith("| `")]
        found[title] = {row[0].strip("| `"): set(re.findall(r"`(\w+)`:", row[3])) for row in cells}
    return found


def _asked(what: str) -> list[Family]:
    try:
        done = subprocess.run(
            [BETANET, "metrics", what], capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise RuntimeError(f"{BETANET} cannot be asked: {error.strerror}") from error
    if done.returncode:
        raise RuntimeError(f"{BETANET} does not know what a {what} exports")
    return families_of(text_string_to_metric_families(done.stdout))


def _users() -> Mapping[str, list[str]]:
    """Which alerts and dashboards ask for each series."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    recorded: dict[str, set[str]] = {}
    for rules in sorted((MONITORING / "prometheus/rules").glob("*.yml")):
        for rule in _rules(rules):
            names = set(_WORD.findall(_without_strings(rule["expr"])))
            names |= {other for name in names for other in recorded.get(name, ())}
            if "record" in rule:
                recorded[rule["record"]] = names
            else:
                for name in names:
                    found[name][_alert(rule["alert"])] = None
    for board in sorted((MONITORING / "grafana/dashboards").glob("*.json")):
        model = json.loads(board.read_text("utf-8"))
        for name in sorted(_names_in(model)):
            for each in (name, *recorded.get(name, ())):
                found[each][model["title"]] = None
    return {name: list(users) for name, users in found.items()}


def _rules(path: Path) -> Iterator[dict[str, Any]]:
    for group in yaml.safe_load(path.read_text("utf-8"))["groups"]:
        yield from group["rules"]


def _names_in(model: Any) -> set[str]:
    """All words of the queries of a dashboard."""
    if isinstance(model, list):
        return {name for each in model for name in _names_in(each)}
    if not isinstance(model, dict):
        return set()
    names = {name for each in model.values() for name in _names_in(each)}
    if isinstance(expr := model.get("expr"), str):
        names |= set(_WORD.findall(_without_strings(expr)))
    return names


def _without_strings(expr: str) -> str:
    return re.sub(r'"(?:[^"\\]|\\.)*"', '""', expr)


def _alert(name: str) -> str:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()
    book = ROOT / f"docs/runbooks/{words}.md"
    return f"[{name}](../runbooks/{words}.md)" if book.exists() else name


def _section(title: str, families: Iterable[Family], users: Mapping[str, list[str]]) -> str:
    rows = [
        f"| `{one.name}` | {one.kind} | {_unit(one.name)} | {_labels(one)} | {one.meaning} |"
        f" {_used(one, users)} |"
        for one in families
    ]
    return f"## {title}\n\n{TABLE}" + "\n".join(rows) + "\n"


def _unit(name: str) -> str:
    bare = name.removesuffix("_total")
    return next((unit for suffix, unit in _UNITS if bare.endswith(suffix)), "")


def _labels(family: Family) -> str:
    return "; ".join(
        f"`{label}`: {values if isinstance(values, str) else ', '.join(values)}"
        for label, values in family.labels.items()
    )


def _used(family: Family, users: Mapping[str, list[str]]) -> str:
    names = [family.name]
    if family.kind == "histogram":
        names += [family.name + part for part in _PARTS]
    return ", ".join(dict.fromkeys(user for name in names for user in users.get(name, ())))


def _as_written(titles: Iterable[str]) -> list[str]:
    text = PAGE.read_text("utf-8") if PAGE.exists() else ""
    parts = {part.partition("\n")[0]: part for part in text.split("\n## ")[1:]}
    return [f"## {parts[title].rstrip()}\n" for title in titles if title in parts]


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
    sys.stdout.write(f"{PAGE}\n")
