"""The rules of the monitoring as data, and which labels an expression's answer has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import promql_parser
import yaml

PROMETHEUS: Final = Path(__file__).resolve().parents[3] / "monitoring" / "prometheus"
RULES: Final = sorted((PROMETHEUS / "rules").glob("*.yml"))
TESTS: Final = sorted((PROMETHEUS / "tests").glob("*.yml"))
LISTS: Final = sorted((PROMETHEUS / "targets").glob("*/expected.yml"))

OF_TARGETS: Final = frozenset({"job", "service", "network", "instance"})
"""Labels that every target gives to all its series; a node's gives its role, too."""

METRICS: Final = PROMETHEUS.parents[1] / "docs" / "reference" / "metrics.md"
EXPORTERS: Final = Path(__file__).with_name("exporters.txt")

SERIES: Final = re.compile(r"^([A-Za-z_:][\w:]*)(?:\{(.*)\})?(?: \S+)?$")
_ROW: Final = re.compile(r"^\| `(\w+)` \| (\w+) \| [^|]*\| ([^|]*) \|", re.MULTILINE)
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Alert(NamedTuple):
    """A rule that alerts."""

    name: str
    expr: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


class Recorded(NamedTuple):
    """A rule that writes a series."""

    name: str
    expr: str
    labels: Mapping[str, str]


class Mixed(Exception):
    """The sides of an operation have different labels, so that nothing of them meets."""


def rules() -> list[Alert | Recorded]:
    """Every rule, in the order of the files."""
    return [
        Alert(rule["alert"], rule["expr"], rule["labels"], rule["annotations"])
        if "alert" in rule
        else Recorded(rule["record"], rule["expr"], rule.get("labels", {}))
        for path in [*RULES, *LISTS]
        for group in yaml.safe_load(path.read_text("utf-8"))["groups"]
        for rule in group["rules"]
    ]


def alerts() -> list[Alert]:
    """Every rule that alerts."""
    return [rule for rule in rules() if isinstance(rule, Alert)]


def series_of(text: str) -> tuple[str, dict[str, str]]:
    """A series as it is written in tests and on pages of metrics."""
    match = SERIES.match(text)
    assert match is not None, text
    return match[1], dict(_LABEL.findall(match[2] or ""))


def exported() -> dict[str, dict[str, str]]:
    """Every series that is scraped, by name: its labels with their values as the page has them."""
    found: dict[str, dict[str, str]] = {}
    for name, kind, cell in _ROW.findall(METRICS.read_text("utf-8")):
        labels = dict(re.findall(r"`(\w+)`: ([^;]*)", cell))
        found[name] = labels
        if kind == "histogram":
            found |= {f"{name}_sum": labels, f"{name}_count": labels}
            found[f"{name}_bucket"] = labels | {"le": "a bound"}
    for line in EXPORTERS.read_text("utf-8").splitlines():
        if not line.startswith("#"):
            name, values = series_of(line)
            found[name] = dict.fromkeys(values, "any")
    return found


def known() -> dict[str, frozenset[str]]:
    """The labels of every series that is scraped or recorded, without the role of a node."""
    found = {name: OF_TARGETS | frozenset(labels) for name, labels in exported().items()}
    for rule in rules():
        if isinstance(rule, Recorded):
            found[rule.name] = Answers(found).labels(rule.expr) or frozenset(rule.labels)
    return found


class Answers:
    """Which labels the answer to an expression has, by those of the metrics."""

    def __init__(self, metrics: Mapping[str, frozenset[str]]) -> None:
        """Know ``metrics`` by name, each with its own labels and those of its targets."""
        self._metrics = metrics

    def labels(self, expr: str) -> frozenset[str] | None:
        """The labels of what ``expr`` answers, None for a number.

        Raises:
            Mixed: two sides differ in their labels and no ``on`` says which count.
            KeyError: a metric is unknown, or lacks a label that is asked for.
        """
        return self._of(promql_parser.parse(expr))

    def _of(self, node: Any) -> frozenset[str] | None:
        match type(node).__name__:
            case "NumberLiteral" | "StringLiteral":
                return None
            case "VectorSelector":
                return self._selected(node)
            case "MatrixSelector":
                return self._selected(node.vector_selector)
            case "ParenExpr" | "UnaryExpr" | "SubqueryExpr":
                return self._of(node.expr)
            case "Call":
                return next((found for each in node.args if (found := self._of(each))), None)
            case "AggregateExpr":
                return self._aggregated(node)
            case "BinaryExpr":
                return self._both(node)
            case other:
                raise AssertionError(other)

    def _selected(self, node: Any) -> frozenset[str]:
        labels = self._metrics[node.name]
        for matcher in node.matchers.matchers:
            if matcher.name not in labels:
                raise KeyError(f"{node.name} has no label {matcher.name}")
        return labels

    def _aggregated(self, node: Any) -> frozenset[str]:
        within = self._of(node.expr) or frozenset()
        if str(node.op) in {"topk", "bottomk"}:
            return within
        by = frozenset(node.modifier.labels) if node.modifier else frozenset()
        if not by <= within:
            raise KeyError(f"{sorted(by - within)} is no label of {node.expr}")
        return by

    def _both(self, node: Any) -> frozenset[str] | None:
        left, right = self._of(node.lhs), self._of(node.rhs)
        if left is None or right is None:
            return left or right
        modifier = node.modifier
        on = modifier.matching.labels if modifier and modifier.matching else None
        if on is not None:
            if not set(on) <= left & right:
                raise KeyError(f"{sorted(set(on) - left & right)} is missing on a side of {node}")
        elif left != right and str(node.op) != "or":
            raise Mixed(f"{sorted(left ^ right)} is on one side only of {node}")
        return left
