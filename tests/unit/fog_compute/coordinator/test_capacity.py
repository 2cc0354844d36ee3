"""How many attempts a worker may hold, learned from what it did."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from fog_compute.coordinator.capacity import AHEAD, FIRST_PLACES, MOST_PLACES, PATIENCE, Capacity

START = datetime(2026, 1, 1, tzinfo=UTC)


def finish(
    capacity: Capacity, count: int, *, slots: int, every: timedelta, at: datetime = START
) -> tuple[Capacity, datetime]:
    """Finish tasks one after another, of a queue that is always full."""
    for _ in range(count):
        capacity = capacity.after_finish(capacity.places(slots, at), at)
        at += every
    return capacity, at


def test_a_claim_only_bounds_from_above() -> None:
    assert Capacity().places(1, START) == 2
    assert Capacity().places(2**32 - 1, START) == FIRST_PLACES


def test_a_slow_worker_holds_no_more_than_keeps_its_slots_at_work() -> None:
    slow, at = finish(Capacity(), 300, slots=3, every=timedelta(minutes=1))

    assert slow.places(3, at) == 6


def test_a_quick_worker_holds_what_it_finishes_ahead() -> None:
    quick, at = finish(Capacity(), 900, slots=1, every=timedelta(milliseconds=20))

    per_s = 50
    assert 0.9 * per_s * AHEAD.total_seconds() < quick.places(1, at) < 1.1 * per_s * 2
    assert quick.places(1, at + timedelta(minutes=1)) == 2


def test_places_double_from_round_to_round_until_trouble_and_then_grow_by_one() -> None:
    at, capacity = START, Capacity()
    sizes = []
    for turn in range(9):
        held = capacity.places(2**20, at)
        for _ in range(held):
            capacity = capacity.after_finish(held, at)
        if turn == 3:
            capacity = capacity.after_trouble(at)
        sizes.append(capacity.places(2**20, at))

    assert sizes[:4] == [8, 16, 32, 32]
    assert all(0 <= later - sooner <= 1 for sooner, later in pairwise(sizes[3:]))
    assert sizes[-1] > 32


def test_places_that_stay_empty_earn_nothing() -> None:
    capacity = Capacity()
    for _ in range(500):
        capacity = capacity.after_finish(1, START)

    assert capacity.places(100, START) == FIRST_PLACES


def test_a_full_worker_that_answers_earns_a_place_now_and_then_and_only_what_it_claims() -> None:
    capacity, at = Capacity(), START
    for _ in range(600):
        capacity = capacity.after_answer(capacity.places(8, at), at)
        at += timedelta(seconds=1)
        if at - START < 9 * PATIENCE:
            assert capacity.places(8, at) <= FIRST_PLACES + (at - START) // PATIENCE

    assert capacity.places(8, at) == 16


@given(
    st.lists(
        st.tuples(st.sampled_from(["finish", "answer", "trouble"]), st.integers(0, 2**40)),
        max_size=400,
    ),
    st.integers(0, 2**63),
    st.integers(-(10**6), 10**6),
)
def test_places_stay_within_bounds_whatever_happens(
    events: list[tuple[str, int]], slots: int, step_ms: int
) -> None:
    capacity, at = Capacity(), START
    for event, held in events:
        at += timedelta(milliseconds=step_ms)
        match event:
            case "finish":
                capacity = capacity.after_finish(held, at)
            case "answer":
                capacity = capacity.after_answer(held, at)
            case _:
                capacity = capacity.after_trouble(at)
        assert 1 <= capacity.places(slots, at) <= MOST_PLACES
