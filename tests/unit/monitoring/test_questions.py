"""INV-MON-20: panels ask for metrics that there are, by labels and values that these have."""

from __future__ import annotations

import re

import pytest

from monitoring.grafana.queries import Asked, queries
from tests.unit.monitoring import rule_files
from tests.unit.monitoring.promql import Selected, selected

WORD = re.compile(r"[a-z_]+")
OF_ALERTS = {"alertname", "alertstate", "severity", *rule_files.OF_TARGETS}

EXPORTED = rule_files.exported()
LABELS = {
    name: labels | {"role"} if name in {"up", *EXPORTED} and "role" not in labels else labels
    for name, labels in rule_files.known().items()
} | {"ALERTS": frozenset(OF_ALERTS)}
"""The labels of every series; a node's role is one of those that its target gives."""

ANSWERS = rule_files.Answers(LABELS)


def wrong_values(expr: str) -> list[str]:
    """What labels are asked for that they cannot be, where the reference lists what they can."""
    found = []
    for one in selected(expr):
        for label, value in one.labels:
            listed = EXPORTED.get(one.metric, {}).get(label, "").strip().split(", ")
            if len(listed) > 1 and all(map(WORD.fullmatch, listed)):
                found += [
                    f"{one.metric} has no {label} {word}"
                    for word in value.split("|")
                    if word not in listed
                ]
    return found


@pytest.mark.parametrize(
    "asked", queries(), ids=lambda one: f"{one.dashboard}-{one.panel}-{one.ref}"
)
def test_a_panel_asks_for_what_there_is(asked: Asked) -> None:
    # A quantile is asked of buckets, and no longer has their bounds.
    left = (ANSWERS.labels(asked.expr) or frozenset()) - {"le"}

    assert wrong_values(asked.expr) == []
    wanted = set(re.findall(r"\{\{(\w+)\}\}", asked.legend))
    if not asked.instant:
        # All that tells series apart, but what each series of a panel has in common.
        assert wanted == left - {"job", "service", "network", "instance", "role"} | (wanted & left)
    assert wanted <= left


@pytest.mark.parametrize(
    ("expr", "flaw"),
    [
        ("rate(fog_taks_total[5m])", "fog_taks_total"),
        ('fog_tasks{status="queued"}', "fog_tasks has no label status"),
        ("sum by (state) (fog_store_waiting)", "state"),
        ("histogram_quantile(0.5, rate(fog_tasks_bucket[5m]))", "fog_tasks_bucket"),
        ("fog_tasks / fog_attempts_total", "on one side only"),
    ],
)
def test_what_there_is_not_is_told(expr: str, flaw: str) -> None:
    with pytest.raises((KeyError, rule_files.Mixed), match=flaw):
        ANSWERS.labels(expr)


def test_values_that_a_label_never_has_are_told() -> None:
    assert wrong_values('fog_tasks{state=~"queued|waiting"}') == ["fog_tasks has no state waiting"]


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
