"""The agenda against a plain list of times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fog_compute.coordinator.agenda import SLACK, Agenda

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
STEPS = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.none() | st.integers(-5, 30), st.integers(0, 6)),
    max_size=50,
)


def look(
    due: dict[str, datetime | None], seen: list[str], now: datetime, name: str
) -> datetime | None:
    """Look at one of those that are due at some times."""
    seen.append(name)
    at = due[name]
    if at is not None and at <= now:
        due[name] = None
    return due[name]


@given(STEPS)
def test_everything_is_looked_at_once_it_is_due_and_put_off_only_by_looking(
    steps: list[tuple[str, int | None, int]],
) -> None:
    """INV-TASK-121."""
    agenda: Agenda[str] = Agenda()
    due: dict[str, datetime | None] = {}
    now = NOW
    for thing, seconds, passed in steps:
        now += passed * SECOND
        due[thing] = None if seconds is None else now + seconds * SECOND
        agenda.touch(thing)
        for again in range(2):
            expected = {name for name, at in due.items() if at is not None and at <= now}
            seen: list[str] = []
            wake_at = agenda.round(now, partial(look, due, seen, now))
            assert len(seen) == len(set(seen))
            assert expected <= set(seen)
            pending = [at for at in due.values() if at is not None]
            assert not pending or (wake_at is not None and now < wake_at <= min(pending))
            assert not again or not expected


def test_what_is_dropped_is_not_looked_at_and_its_entries_do_not_pile_up() -> None:
    agenda: Agenda[int] = Agenda()
    for number in range(37 * SLACK):
        agenda.touch(number)
        agenda.round(NOW, lambda _: NOW + 3600 * SECOND)
        agenda.drop(number)
    looked = agenda.looked

    assert len(agenda._heap) <= SLACK + 1
    assert agenda.round(NOW + 7200 * SECOND, lambda _: None) is None
    assert agenda.looked == looked


def test_what_moves_to_an_earlier_time_is_looked_at_then() -> None:
    agenda: Agenda[str] = Agenda()
    agenda.touch("a")
    agenda.round(NOW, lambda _: NOW + 60 * SECOND)
    agenda.touch("a")
    assert agenda.round(NOW, lambda _: NOW + 5 * SECOND) == NOW + 5 * SECOND

    seen: list[str] = []
    agenda.round(NOW + 5 * SECOND, seen.append)
    assert seen == ["a"]
    assert agenda.round(NOW + 90 * SECOND, seen.append) is None
    assert seen == ["a"]


def test_what_an_error_keeps_from_its_turn_has_it_in_the_next_round() -> None:
    agenda: Agenda[str] = Agenda()
    for thing in "abc":
        agenda.touch(thing)

    def breaks(thing: str) -> None:
        if thing == "b":
            raise ValueError(thing)

    with pytest.raises(ValueError, match="b"):
        agenda.round(NOW, breaks)

    seen: list[str] = []
    agenda.round(NOW, seen.append)
    assert seen == ["b", "c"]
