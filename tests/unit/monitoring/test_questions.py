"""INV-MON-20: panels ask for metrics that there are, by labels and values that these have."""

from __future__ import annotations

import re

import pytest

import metrics_reference
from monitoring.grafana.queries import Asked, queries
from tests.unit.monitoring.promql import Selected, grouped, selected
from tests.unit.monitoring.rule_files import Recorded, rules

OF_TARGETS = {"service", "network", "instance", "role"}
OF_OTHERS = {
    # Prometheus itself.
    "up": {},
    "ALERTS": {"alertname": set(), "alertstate": {"firing", "pending"}, "severity": set()},
    # The node exporter.
    "node_cpu_seconds_total": {"mode": {"idle", "user", "system", "iowait"}},
    "node_memory_MemAvailable_bytes": {},
    "node_memory_MemTotal_bytes": {},
}
WORD = re.compile(r"[a-z_]+")


def known() -> dict[str, dict[str, set[str]]]:
    """Labels and their values, where these are listed, of every series by its name."""
    found: dict[str, dict[str, set[str]]] = {**OF_OTHERS}
    for row in metrics_reference.PAGE.read_text("utf-8").splitlines():
        cells = row.strip("| ").split(" | ")
        if not row.startswith("| `"):
            continue
        name, kind, labels = cells[0].strip("` "), cells[1], cells[3]
        values = {
            label: set(listing) if all(map(WORD.fullmatch, listing)) else set()
            for label, text in re.findall(r"`(\w+)`: ([^;]*)", labels)
            for listing in [text.strip().split(", ")]
        }
        found[name] = values
        if kind == "histogram":
            found[f"{name}_bucket"] = {**values, "le": set()}
            found[f"{name}_sum"] = found[f"{name}_count"] = values
    for rule in rules():
        if isinstance(rule, Recorded):
            found[rule.name] = {}
    return found


KNOWN = known()


def flaws(asked: str) -> list[str]:
    """What an expression asks for that there is not."""
    found = []
    for one in selected(asked):
        if one.metric not in KNOWN:
            found.append(f"no metric {one.metric}")
            continue
        labels = KNOWN[one.metric]
        for label, value in one.labels:
            if label not in {*labels, *OF_TARGETS}:
                found.append(f"{one.metric} has no label {label}")
            elif labels.get(label) and not set(value.split("|")) <= labels[label]:
                found.append(f"{one.metric} has no {label} {value}")
    has = OF_TARGETS.union(*(KNOWN.get(one.metric, {}) for one in selected(asked)))
    by = set().union(*grouped(asked))
    return [*found, *(f"nothing has the label {label}" for label in by - has)]


@pytest.mark.parametrize(
    "asked", queries(), ids=lambda one: f"{one.dashboard}-{one.panel}-{one.ref}"
)
def test_a_panel_asks_for_what_there_is(asked: Asked) -> None:
    assert flaws(asked.expr) == [], asked


@pytest.mark.parametrize(
    ("expr", "flaw"),
    [
        ("rate(fog_taks_total[5m])", "no metric fog_taks_total"),
        ('fog_tasks{status="queued"}', "fog_tasks has no label status"),
        ('fog_tasks{state=~"queued|waiting"}', "fog_tasks has no state queued|waiting"),
        ("sum by (state) (fog_store_waiting)", "nothing has the label state"),
        ("histogram_quantile(0.5, rate(fog_tasks_bucket[5m]))", "no metric fog_tasks_bucket"),
    ],
)
def test_what_there_is_not_is_told(expr: str, flaw: str) -> None:
    assert flaw in flaws(expr)


def test_selectors_are_found_wherever_they_stand() -> None:
    expr = (
        "sum by (x) (rate(a_total{b='c'}[5m])) / on (x) (d > 1) or"
        " label_replace(topk(3, -e), 'y', 'z', '', '') unless max_over_time(f[10m:1m])"
    )

    assert set(selected(expr)) == {
        Selected("a_total", (("b", "c"),), 300),
        Selected("d", (), None),
        Selected("e", (), None),
        Selected("f", (), None),
    }
