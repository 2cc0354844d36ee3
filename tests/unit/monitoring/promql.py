"""What a question in PromQL asks for, by its parsed form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import promql_parser


class Selected(NamedTuple):
    """Series that an expression selects: by name, with what is asked of labels, over how long."""

    metric: str
    labels: tuple[tuple[str, str], ...]
    seconds: float | None


def selected(expr: str) -> list[Selected]:
    """Every selector of ``expr``; a ValueError says where it is no PromQL."""
    return [found for node, span in _walk(promql_parser.parse(expr)) for found in _of(node, span)]


def _of(node: Any, span: float | None) -> Iterator[Selected]:
    if isinstance(node, promql_parser.VectorSelector):
        yield Selected(
            node.name or "",
            tuple((one.name, one.value) for one in node.matchers.matchers),
            span,
        )


def _walk(node: Any, span: float | None = None) -> Iterator[tuple[Any, float | None]]:
    yield node, span
    if isinstance(node, promql_parser.MatrixSelector):
        yield from _walk(node.vector_selector, node.range.total_seconds())
        return
    for name in ("expr", "lhs", "rhs", "param"):
        below = getattr(node, name, None)
        if below is not None and not isinstance(below, str):
            yield from _walk(below, span)
    if isinstance(node, promql_parser.Call):
        for argument in node.args:
            yield from _walk(argument, span)
