"""Pauses grow, within a bound, and never from nothing."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest

from fog_compute.backoff import Backoff


def test_each_pause_is_longer_by_the_factor_until_the_longest() -> None:
    backoff = Backoff(0.25, 7)

    assert [backoff.after(failures) for failures in range(7)] == [0.25, 0.5, 1, 2, 4, 7, 7]
    assert backoff.delay(3) == timedelta(seconds=2)
    assert Backoff(3, 100, factor=1).after(50) == 3
    assert Backoff(1, 100, factor=math.sqrt(2)).after(2) == pytest.approx(2)


@pytest.mark.parametrize("failures", [63, 10_000, 10**9])
def test_any_number_of_failures_has_a_pause(failures: int) -> None:
    assert Backoff(1, 60).after(failures) == 60


def test_chance_takes_away_no_more_than_the_jitter() -> None:
    backoff = Backoff(8, 60, jitter=0.25)
    drawn = iter((0.0, 0.5, 1.0))

    assert [backoff.after(0, lambda: next(drawn)) for _ in range(3)] == [8, 7, 6]
    assert backoff.after(0) == 8


@pytest.mark.parametrize(
    ("first", "most", "factor", "jitter"),
    [
        (0, 1, 2, 0),
        (2, 1, 2, 0),
        (math.nan, 1, 2, 0),
        (1, math.nan, 2, 0),
        (math.inf, math.inf, 2, 0),
        (1, 2, 0.9, 0),
        (1, 2, math.nan, 0),
        (1, 2, 2, 1.1),
        (1, 2, 2, -0.1),
    ],
)
def test_what_would_not_grow_is_refused(
    first: float, most: float, factor: float, jitter: float
) -> None:
    with pytest.raises(ValueError, match=r"back-off|grow"):
        Backoff(first, most, factor, jitter)
