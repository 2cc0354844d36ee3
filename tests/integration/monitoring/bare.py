"""What an alert looks at, without what it compares that with."""

from __future__ import annotations

import re
from typing import Any, Final

import promql_parser

COMPARISONS: Final = frozenset({"==", "!=", ">", "<", ">=", "<="})
SETS: Final = frozenset({"and", "or", "unless"})

_GUARD: Final = re.compile(r"\((\w+(?:\{[^{}]*\})?) > 0\)")
"""A figure that is only looked at where it is more than none, inside of arithmetic."""


def bare(expression: str) -> list[str]:
    """All that has to have data, so that the alert can tell whether it is so.

    Each side of ``and``, ``or`` and ``unless`` stands for itself.
    """
    return [_GUARD.sub(r"\1", one.prettify()) for one in _operands(promql_parser.parse(expression))]


def _operands(node: Any) -> list[Any]:  # promql_parser has no types
    if isinstance(node, promql_parser.ParenExpr):
        return _operands(node.expr)
    if isinstance(node, promql_parser.NumberLiteral):
        return []
    if isinstance(node, promql_parser.BinaryExpr) and str(node.op) in COMPARISONS | SETS:
        return [*_operands(node.lhs), *_operands(node.rhs)]
    return [node]
