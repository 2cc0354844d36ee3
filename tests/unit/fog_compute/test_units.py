"""Sizes and durations as people write them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fog_compute.errors import ConfigError
from fog_compute.units import format_bytes, format_duration, parse_bytes, parse_duration


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("1000", 1000),
        ("64k", 65536),
        ("256MiB", 2**28),
        ("1.5 GiB", 3 * 2**29),
        ("2MB", 2_000_000),
    ],
)
def test_sizes_are_read(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 30), ("250ms", 0.25), ("10m", 600), ("1.5 h", 5400), ("2d", 172800)],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "MiB", "-1", "1e3", "1 parsec", "١٢", "1" * 40, "1 2"])
def test_nonsense_is_refused_with_an_example(text: str) -> None:
    for parse in (parse_bytes, parse_duration):
        with pytest.raises(ConfigError):
            parse(text)


@given(st.text(max_size=20))
def test_no_text_breaks_the_parsers(text: str) -> None:
    for parse in (parse_bytes, parse_duration):
        with contextlib.suppress(ConfigError):
            assert parse(text) >= 0


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**30, "1.0 GiB")]
)
def test_sizes_are_written(count: int, text: str) -> None:
    assert format_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.34, "340 ms"), (2.44, "2.4 s"), (185, "3 min 05 s"), (7620, "2 h 07 min")],
)
def test_durations_are_written(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
