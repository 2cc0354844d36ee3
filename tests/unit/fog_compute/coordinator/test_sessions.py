"""Sessions: when a worker is polled, and when it hears what it may forget."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest

from fog_compute.backoff import Backoff
from fog_compute.coordinator.agenda import Agenda
from fog_compute.coordinator.attempts import OpenAttempt
from fog_compute.coordinator.sessions import PIECE_BYTES, Errand, Planned, Session
from fog_compute.levels import PrivacyLevel
from fog_compute.tasks import Attempt, AttemptState, Task, TaskSpec, TaskState
from fog_compute.tasks.messages import FINISHED, AttemptStatus
from fog_compute.tasks.pacing import RATIO

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
POLLS = Backoff(0.05, 30, factor=RATIO)


def session(agenda: Agenda[Planned] | None = None) -> Session:
    agenda = Agenda() if agenda is None else agenda
    return Session("s", PrivacyLevel.PRIVATE, "lab", record("h").row, POLLS, NOW, agenda)


def record(handle: str) -> OpenAttempt:
    task = Task("t", TaskSpec(module="a" * 64), TaskState.LEASED, 1, NOW, NOW, attempt=handle)
    row = Attempt(handle, "t", 1, "w", "fog1w", AttemptState.HELD, NOW, NOW, NOW)
    return OpenAttempt(task, row, NOW)


def next_at(one: Session, errand: Errand) -> datetime:
    """When an errand is due, found by asking for one time after another."""
    now = NOW
    while True:
        errands, at = one.due(now)
        if errand in errands:
            return now
        assert at is not None
        assert at > now
        now = at


def poll(one: Session, now: datetime, *, news: bool = False) -> float:
    """Poll when it is due; return the pause before the next poll."""
    one.begin(Errand.POLL)
    one.end_poll(now, news=news)
    return (next_at(one, Errand.POLL) - now).total_seconds()


def test_pauses_between_polls_grow_by_root_two_up_to_the_longest() -> None:
    """INV-TASK-15."""
    one = session()
    one.follow(record("h"), NOW)

    pauses = [poll(one, NOW) for _ in range(25)]

    assert next_at(one, Errand.POLL) > NOW
    assert pauses[0] == pytest.approx(0.05 * 2**0.5, abs=1e-5)
    assert pauses[-1] == 30
    for shorter, longer in itertools.pairwise(pauses):
        assert longer == pytest.approx(min(shorter * 2**0.5, 30), abs=1e-5)


def test_news_and_new_attempts_shorten_the_pause_again() -> None:
    """INV-TASK-15."""
    one = session()
    one.follow(record("h"), NOW)
    for _ in range(10):
        poll(one, NOW)

    assert poll(one, NOW, news=True) == pytest.approx(0.05)
    for _ in range(10):
        poll(one, NOW)
    one.follow(record("i"), NOW)
    assert next_at(one, Errand.POLL) == NOW + 0.05 * SECOND


def test_result_that_is_moving_is_polled_for_at_once() -> None:
    """INV-TASK-15."""
    one = session()
    large = record("h")
    one.follow(large, NOW)
    large.total = 100_000

    assert poll(one, NOW, news=True) == 0


def test_cancellation_is_not_put_off_by_what_ends_after_it() -> None:
    one = session()
    one.drop("h", NOW, cancel=True)
    for i in range(1, 10):
        one.drop(f"h{i}", NOW + 0.1 * i * SECOND, cancel=False)

    assert next_at(one, Errand.TELL) == NOW + SECOND


def test_cancellation_does_not_wait_for_one_that_was_tried_often() -> None:
    one = session()
    one.drop("h", NOW, cancel=True)
    for _ in range(5):
        one.begin(Errand.TELL)
        one.end_tell(NOW)
    assert next_at(one, Errand.TELL) == NOW + 32 * SECOND

    one.drop("i", NOW, cancel=True)
    assert next_at(one, Errand.TELL) == NOW + SECOND


def test_what_was_heard_puts_nothing_off() -> None:
    one = session()
    one.drop("h", NOW, cancel=False)
    one.told(("h",))
    one.drop("i", NOW + 60 * SECOND, cancel=True)

    assert next_at(one, Errand.TELL) == NOW + 61 * SECOND


def test_results_of_a_session_move_as_long_as_a_good_piece_of_any_arrives() -> None:
    """INV-TASK-22."""
    one = session()
    progress = record("h")
    one.follow(progress, NOW)

    def bring(size: int, now: datetime, name: bytes = b"12345678") -> bool:
        offset = progress.assembler.offset
        status = AttemptStatus(bytes(16), FINISHED, b"", name, 2**20, offset, bytes(size))
        progress.assembler.add(status)
        return one.grew(progress, now)

    assert bring(1000, NOW)
    assert not one.moving(NOW - SECOND)
    assert bring(PIECE_BYTES, NOW)
    assert one.moving(NOW - SECOND)
    assert not one.moving(NOW)

    # Another result from the beginning brings nothing that was not here before.
    progress.assembler.add(AttemptStatus(bytes(16), FINISHED, b"", b"another.", 2**20, 0, b"x"))
    assert not bring(PIECE_BYTES, NOW + 60 * SECOND, b"another.")
    assert not one.moving(NOW)
