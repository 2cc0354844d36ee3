"""Words of strangers: bounded, printable, on one line."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fog_compute.text import counted, escape_json, one_line, printable

texts = st.text(st.characters(exclude_categories=()), max_size=400)
limits = st.integers(0, 60)


def obeyed(text: str) -> set[str]:
    """The characters that a terminal does not merely show."""
    return {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")}


@given(texts, limits)
@example("\x1b]0;owned\x07\x1b[2J\nsecond line", 40)
@example("\u202egnp.exe\u2028", 20)
def test_a_line_is_printable_and_within_its_bound(text: str, limit: int) -> None:
    """INV-TASK-33."""
    line = one_line(text, limit)
    assert len(line) <= limit
    assert obeyed(line) == set()
    assert line == line.strip()
    assert one_line(line, limit) == line


@given(texts)
def test_only_what_was_cut_ends_as_cut(text: str) -> None:
    line = one_line(text, 1000)
    words = "".join(c if c.isprintable() else " " for c in text).split()
    assert line.split() == words


def test_a_text_without_end_costs_no_more_than_its_line() -> None:
    """INV-TASK-33."""
    assert one_line("N" * 40_000_000, 7) == "NNNNNN…"
    assert one_line(" " * 40_000_000 + "x", 7) == "…"


@given(texts, limits)
def test_lines_keep_their_ends_and_nothing_else_that_is_obeyed(text: str, limit: int) -> None:
    """INV-TASK-33."""
    shown = printable(text, limit + 1)
    assert len(shown) <= limit + 1
    assert obeyed(shown) <= {"\n"}


@given(st.recursive(texts, lambda inner: st.lists(inner) | st.dictionaries(texts, inner)))
def test_an_escaped_document_reads_equal(value: object) -> None:
    """INV-TASK-33."""
    escaped = escape_json(json.dumps(value, ensure_ascii=False))
    assert json.loads(escaped) == value
    assert not {c for c in obeyed(escaped) if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")}


@pytest.mark.parametrize(
    ("number", "words", "text"),
    [
        (0, ("hop",), "0 hops"),
        (1, ("hop",), "1 hop"),
        (2, ("hop",), "2 hops"),
        (1, ("entry", "entries"), "1 entry"),
        (3, ("entry", "entries"), "3 entries"),
    ],
)
def test_what_is_counted_is_said_as_one_says_it(
    number: int, words: tuple[str, ...], text: str
) -> None:
    """INV-WORDS-06."""
    assert counted(number, *words) == text
