"""Streams of others: order, gaps, and what is remembered of what came."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fog_compute.p2p.core import ordering
from fog_compute.p2p.core.ordering import InStream, Place


def feed(stream: InStream, sequences: list[int], now: float = 0.0) -> list[int]:
    shown: list[int] = []
    for sequence in sequences:
        if stream.arrive(sequence, now) in {Place.NEXT, Place.LATE}:
            shown.append(sequence)
        shown += stream.release(now, 10.0)
    return shown


@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(0, 60))
def test_any_order_with_repeats_is_shown_once_and_in_order(
    seed: int, count: int, repeats: int
) -> None:
    """INV-P2P-06."""
    rng = Random(seed)
    coming = [*range(count), *(rng.randrange(count) for _ in range(repeats))]
    rng.shuffle(coming)
    stream = InStream()

    assert feed(stream, coming) == list(range(count))
    assert (stream.waiting, stream.gap_since, stream.missing) == (0, None, [])


def test_gap_is_waited_for_and_then_passed_over() -> None:
    """INV-P2P-06."""
    stream = InStream()
    assert feed(stream, [0, 2, 3, 7], now=100.0) == [0]

    assert stream.release(109.9, 10.0) == []
    assert stream.release(110.0, 10.0) == [2, 3, 7]
    assert stream.missing == [(1, 2), (4, 7)]


def test_what_comes_too_late_is_shown_once_all_the_same() -> None:
    """INV-P2P-06."""
    stream = InStream()
    feed(stream, [0, 5])
    stream.release(1000.0, 10.0)

    assert [stream.arrive(one, 1001.0) for one in (3, 3, 1, 4, 2, 2, 0, 5)] == [
        Place.LATE,
        Place.SEEN,
        Place.LATE,
        Place.LATE,
        Place.LATE,
        Place.SEEN,
        Place.SEEN,
        Place.SEEN,
    ]
    assert stream.missing == []


def test_each_gap_is_waited_for_since_what_is_behind_it_came() -> None:
    """INV-P2P-06."""
    stream = InStream()
    stream.arrive(1, 0.0)
    stream.arrive(3, 6.0)

    assert stream.release(10.0, 10.0) == [1]
    assert stream.release(15.9, 10.0) == []
    assert stream.release(16.0, 10.0) == [3]


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """INV-P2P-09."""
    monkeypatch.setattr(ordering, "MAX_HELD", 5)
    stream = InStream()

    assert feed(stream, [2, 3, 4, 5, 6]) == []
    assert feed(stream, [8]) == [2, 3, 4, 5, 6]
    assert stream.waiting == 1


def test_ranges_that_were_passed_over_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """INV-P2P-09: what is forgotten counts as seen, so that nothing is shown twice."""
    monkeypatch.setattr(ordering, "MAX_RANGES", 3)
    stream = InStream()
    for sequence in range(1, 20, 2):
        stream.arrive(sequence, 0.0)
    stream.release(10.0, 10.0)

    assert stream.missing == [(14, 15), (16, 17), (18, 19)]
    assert stream.arrive(2, 20.0) is Place.SEEN


@pytest.mark.parametrize("sequence", [-1, 2**32, 2**40])
def test_no_place_is_below_nothing_or_above_the_end(sequence: int) -> None:
    """INV-P2P-09."""
    assert InStream().arrive(sequence, 0.0) is Place.SEEN


def test_jump_to_the_end_costs_one_range() -> None:
    """INV-P2P-09."""
    stream = InStream()
    stream.arrive(2**32 - 1, 0.0)

    assert stream.release(10.0, 10.0) == [2**32 - 1]
    assert stream.missing == [(0, 2**32 - 1)]
    assert stream.arrive(2**31, 11.0) is Place.LATE
