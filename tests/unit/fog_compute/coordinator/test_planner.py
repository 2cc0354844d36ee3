"""The planner: what it does in each situation, and what it never does in any."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fog_compute.backoff import Backoff
from fog_compute.coordinator.agenda import Agenda
from fog_compute.coordinator.attempts import OpenAttempt
from fog_compute.coordinator.phases import Deed, Phase, PhaseEvent
from fog_compute.coordinator.placement import (
    Decision,
    Requirements,
    WorkerState,
    WorkerView,
    select,
)
from fog_compute.coordinator.planner import (
    Placed,
    Plan,
    place_waiting,
    plan,
    requirements_of,
)
from fog_compute.coordinator.sessions import Errand, Planned, Session
from fog_compute.levels import PrivacyLevel
from fog_compute.store import Failed, Leased, Parked
from fog_compute.tasks import (
    OPEN_ATTEMPT_STATES,
    Attempt,
    AttemptState,
    Task,
    TaskSpec,
    TaskState,
)
from tests.members import GROUP

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
SPEC = TaskSpec(module="a" * 64, group=GROUP)


def task(name: str, state: TaskState = TaskState.QUEUED, **more: object) -> Task:
    made = Task(id=name, spec=SPEC, state=state, version=1, created_at=NOW, updated_at=NOW)
    return replace(made, **more)  # type: ignore[arg-type]  # fields given by name in tests


def attempt(name: str, state: AttemptState, lease_until: datetime = NOW + 60 * SECOND) -> Attempt:
    return Attempt(
        handle=name,
        task_id="t",
        number=1,
        worker="w",
        address="fog1w",
        state=state,
        lease_until=lease_until,
        created_at=NOW,
        updated_at=NOW,
    )


class Place:
    """Places on the given workers, as the coordinator does."""

    def __init__(self, *slots: int) -> None:
        self.workers = [
            WorkerView(
                *(f"w{i}", f"fog1w{i}", frozenset({"wasm"}), count, 2**40),
                groups=frozenset({GROUP}),
                places=2 * count,
            )
            for i, count in enumerate(slots)
        ]

    def __call__(self, requirements: Requirements, *, leased: Mapping[str, int]) -> Decision:
        views = [
            replace(view, leased=view.leased + leased.get(view.name, 0)) for view in self.workers
        ]
        return select(requirements, views, Random(1))


LEASE, LAST = 60 * SECOND, 20 * SECOND
POLLS = Backoff(0.05, 15, factor=2)


class Open:
    """Attempts and sessions that are open, and an agenda that they are all new to."""

    def __init__(self, *records: OpenAttempt, deaf: bool = False) -> None:
        self.agenda: Agenda[Planned] = Agenda()
        self.records = records
        self.deaf = deaf
        for record in records:
            self.agenda.touch(record)

    def session(self, key: str) -> Session:
        row = attempt("h", AttemptState.HELD)
        made = Session(key, PrivacyLevel.PRIVATE, GROUP, row, POLLS, NOW, self.agenda)
        self.agenda.touch(made)
        return made

    def happen(self, record: OpenAttempt, event: PhaseEvent, now: datetime = NOW) -> None:
        record.happen(event, now, LEASE, LAST)
        self.agenda.touch(record)

    def plan(self, now: datetime = NOW) -> Plan:
        return plan(
            self.agenda,
            now,
            lambda _: self.deaf,
            lambda record, event: record.happen(event, now, LEASE, LAST),
        )


def record(
    name: str,
    state: AttemptState,
    lease_until: datetime = NOW + 60 * SECOND,
    *,
    phase: Phase = Phase.RESTING,
    submit_at: datetime | None = None,
) -> OpenAttempt:
    row = attempt(name, state)
    return OpenAttempt(task("t"), row, lease_until, phase=phase, submit_at=submit_at)


def test_offered_attempt_is_submitted_once_at_a_time() -> None:
    offered = record("h", AttemptState.OFFERED)
    work = Open(offered)

    assert work.plan().attempts == ((Deed.SUBMIT, offered),)
    work.agenda.touch(offered)
    assert not work.plan()


def test_submission_is_repeated_when_its_pause_is_over() -> None:
    offered = record("h", AttemptState.OFFERED, phase=Phase.SUBMITTING)
    work = Open(offered)
    work.happen(offered, PhaseEvent.SPOKEN)
    again = NOW + 0.25 * SECOND

    assert not (waits := work.plan())
    assert waits.wake_at == again
    assert work.plan(again).attempts == ((Deed.SUBMIT, offered),)


def test_confirmed_attempt_is_not_submitted_again() -> None:
    assert not Open(record("h", AttemptState.RUNNING)).plan()


def test_who_was_silent_for_a_lease_is_looked_for() -> None:
    silent = record("h", AttemptState.RUNNING, NOW)

    assert Open(silent).plan().attempts == ((Deed.CHECK, silent),)
    assert silent.phase is Phase.CHECKING


def test_lease_that_ran_out_counts_only_where_the_worker_could_be_heard() -> None:
    """INV-TASK-36."""
    silent = record("r", AttemptState.RUNNING, NOW)
    offered = record("o", AttemptState.OFFERED, NOW)
    work = Open(silent, offered, deaf=True)

    made = work.plan()

    assert made.attempts == ((Deed.SUBMIT, offered),)
    assert made.wake_at is None
    work.deaf = False
    work.agenda.touch(silent)
    assert work.plan().attempts == ((Deed.CHECK, silent),)


def test_submission_under_way_keeps_its_attempt_from_expiring() -> None:
    offered = record("h", AttemptState.OFFERED, NOW, phase=Phase.SUBMITTING)
    work = Open(offered)

    assert not work.plan()
    work.happen(offered, PhaseEvent.SPOKEN)
    assert work.plan().attempts == ((Deed.CHECK, offered),)


def test_session_is_polled_when_due_and_never_twice_at_once() -> None:
    work = Open()
    session = work.session("s")
    assert not work.plan()
    session.follow(record("h", AttemptState.HELD), NOW)

    assert not (waits := work.plan())
    assert waits.wake_at == NOW + 0.05 * SECOND
    assert work.plan(waits.wake_at).sessions == ((Errand.POLL, session),)
    session.poll_now(NOW)
    assert not work.plan(NOW + SECOND)
    session.end_poll(NOW, news=True)
    session.poll_now(NOW)
    assert work.plan().sessions == ((Errand.POLL, session),)


def test_worker_is_told_what_it_may_forget_and_then_the_session_ends() -> None:
    work = Open()
    session = work.session("s")
    session.drop("h", NOW, cancel=True)

    told_at = work.plan().wake_at
    assert told_at is not None
    assert work.plan(told_at).sessions == ((Errand.TELL, session),)
    assert not work.plan(told_at + MINUTE)
    session.told(("h",))
    session.end_tell(told_at)

    over_at = work.plan(told_at).wake_at
    assert over_at is not None
    assert not work.plan(over_at - SECOND)
    assert work.plan(over_at).sessions == ((Errand.END, session),)
    session.drop("late", over_at, cancel=True)
    assert not work.plan(over_at + MINUTE)


def test_a_round_looks_at_what_is_due_or_was_touched_and_at_nothing_else() -> None:
    """INV-TASK-121: whatever is open beside it, and however often leases are renewed."""
    looked = []
    for count in (70, 7000):
        held = [record(f"h{i}", AttemptState.HELD) for i in range(count)]
        late = record("late", AttemptState.OFFERED, submit_at=NOW + 9 * SECOND)
        work = Open(*held, late)
        work.plan()
        assert work.agenda.looked == count + 1

        for one in held:
            one.happen(PhaseEvent.HEARD, NOW + SECOND, LEASE, LAST)
        work.plan(NOW + 2 * SECOND)
        work.happen(held[3], PhaseEvent.HEARD, NOW + 2 * SECOND)
        work.plan(NOW + 3 * SECOND)
        assert work.plan(NOW + 9 * SECOND).attempts == ((Deed.SUBMIT, late),)
        looked.append(work.agenda.looked - count - 1)

    assert looked == [2, 2]


MOMENTS = st.integers(-100, 100).map(lambda seconds: NOW + seconds * SECOND)
RECORDS = st.lists(
    st.builds(
        record,
        name=st.text("abcd", min_size=1, max_size=4),
        state=st.sampled_from(sorted(OPEN_ATTEMPT_STATES)),
        lease_until=MOMENTS,
        phase=st.sampled_from(sorted(set(Phase) - {Phase.OVER})),
        submit_at=st.none() | MOMENTS,
    ),
    max_size=12,
    unique_by=lambda made: made.handle,
)


@given(RECORDS, st.booleans())
def test_every_deed_is_allowed_and_nothing_due_is_slept_through(
    records: list[OpenAttempt], deaf: bool
) -> None:
    before = {one: (one.phase, one.lease_until, one.submit_at) for one in records}
    work = Open(*records, deaf=deaf)

    made = work.plan()

    begun = [one for _, one in made.attempts]
    assert len(begun) == len(set(begun))
    for deed, one in made.attempts:
        phase, lease_until, submit_at = before[one]
        assert phase in (Phase.RESTING, Phase.WARNED)
        if deed is Deed.SUBMIT:
            assert one.row.state is AttemptState.OFFERED
            assert submit_at is None or submit_at <= NOW
            assert deaf or lease_until > NOW
        else:
            assert deed is Deed.CHECK
            assert lease_until <= NOW
            assert not deaf
    resting = [one for one in records if one.phase in (Phase.RESTING, Phase.WARNED)]
    due = [] if deaf else [one.lease_until for one in resting]
    due += [
        one.submit_at for one in resting if one.row.state is AttemptState.OFFERED and one.submit_at
    ]
    assert made.wake_at == min(due, default=None)
    assert made.wake_at is None or made.wake_at > NOW
    assert not work.plan()


Waits = tuple[Task, tuple[Attempt, ...]]


def placed_on(now: datetime, tasks: Sequence[Waits], place: Place) -> list[Placed]:
    def lease(one: Task, worker: WorkerView, reason: str) -> Leased:
        return Leased(one.id, f"h{one.id}", worker.name, worker.address, now, reason)

    return place_waiting(now, tasks, place, lease)


def waiting(name: str, *attempts: Attempt, **more: object) -> Waits:
    return task(name, **more), attempts  # type: ignore[arg-type]  # fields by name


def refused_by(worker: str, at: datetime) -> Attempt:
    declined = attempt(f"{worker}{at}", AttemptState.DECLINED)
    return replace(declined, worker=worker, updated_at=at, refused=True)


def kinds(placed: Sequence[Placed]) -> list[tuple[str, str]]:
    return [(type(one).__name__, one.task_id) for one in placed]


def test_waiting_task_is_given_to_a_fitting_worker() -> None:
    (placed,) = placed_on(NOW, [waiting("t")], Place(1))

    assert isinstance(placed, Leased)
    assert placed.worker == "w0"


def test_more_than_the_places_is_never_given() -> None:
    placed = placed_on(NOW, [waiting(f"t{i}") for i in range(11)], Place(1, 2))

    given_to = Counter(one.worker for one in placed if isinstance(one, Leased))
    assert given_to == {"w0": 2, "w1": 4}
    assert kinds(placed) == [("Leased", f"t{i}") for i in range(6)]


def test_worker_that_refused_a_task_is_left_out_until_its_pause_is_over() -> None:
    refused = refused_by("w0", NOW - 3 * SECOND)
    place = Place(1)

    (now,) = placed_on(NOW, [waiting("t", refused)], place)
    assert now == Parked("t", NOW + SECOND, NOW)
    (later,) = placed_on(NOW + 8 * SECOND, [waiting("t", refused)], place)
    assert isinstance(later, Leased)


def test_pause_of_a_refusal_doubles_and_is_bounded() -> None:
    for times, pause in ((1, 10), (2, 20), (4, 80), (9, 600), (40, 600)):
        refusals = [refused_by("w0", NOW)] * times
        needed = requirements_of(task("t"), refusals, NOW + (pause - 1) * SECOND)
        assert needed.refused_by == {"w0"}
        assert not requirements_of(task("t"), refusals, NOW + pause * SECOND).refused_by


def test_worker_that_lost_a_task_is_asked_only_when_nobody_else_fits() -> None:
    lost = replace(attempt("h", AttemptState.LOST), worker="w0")

    placed = placed_on(NOW, [waiting(f"t{i}", lost) for i in range(5)], Place(3, 1))

    assert [one.worker for one in placed if isinstance(one, Leased)] == [
        *["w1"] * 2,
        *["w0"] * 3,
    ]


@pytest.mark.parametrize(("hopeless_s", "pause_s"), [(0, 1), (7, 7), (2000, 30)])
def test_task_that_every_worker_refuses_is_looked_at_less_and_less_often(
    hopeless_s: int, pause_s: int
) -> None:
    refused = [refused_by("w0", NOW)] * 12
    since = NOW - hopeless_s * SECOND

    (placed,) = placed_on(NOW, [waiting("t", *refused, hopeless_since=since)], Place(1))

    assert placed == Parked("t", NOW + pause_s * SECOND, since)


def test_task_that_every_worker_refuses_is_given_up_after_a_good_while_and_not_before() -> None:
    """INV-TASK-42."""
    since = NOW - 50 * MINUTE
    refused = [refused_by("w0", NOW + 9 * MINUTE)] * 12
    one = waiting("t", *refused, hopeless_since=since, reason="no time")

    (early,) = placed_on(NOW + 9.9 * MINUTE, [one], Place(1))
    (late,) = placed_on(NOW + 10 * MINUTE, [one], Place(1))

    assert early == Parked("t", NOW + 10 * MINUTE, since)
    text = "no worker can take it: 1 refused it; no time; it waited for another worker for an hour"
    assert late == Failed("t", text)


@pytest.mark.parametrize(
    "other",
    [
        {"state": WorkerState.BUSY},
        {"state": WorkerState.LOST},
        {"leased": 1000},
    ],
)
def test_task_waits_for_a_worker_that_could_take_it_as_long_as_it_is_listed(
    other: dict[str, object],
) -> None:
    """INV-TASK-42."""
    place = Place(1, 1)
    small, able = place.workers
    place.workers = [replace(small, memory_bytes=2**10), replace(able, **other)]  # type: ignore[arg-type]  # fields by name

    (placed,) = placed_on(NOW, [waiting("t", hopeless_since=NOW - 5000 * MINUTE)], place)

    assert placed == Parked("t", NOW + SECOND, None)


def test_task_without_any_worker_waits_for_one() -> None:
    """INV-TASK-42."""
    (placed,) = placed_on(NOW, [waiting("t", hopeless_since=NOW - 5000 * MINUTE)], Place())

    assert placed == Parked("t", NOW + SECOND, None)


WAITING = st.lists(
    st.builds(
        waiting,
        st.text("tuvw", min_size=1, max_size=4),
        st.builds(
            lambda state, worker, refused: replace(
                attempt("h", state), worker=worker, refused=refused
            ),
            st.sampled_from([AttemptState.LOST, AttemptState.DECLINED]),
            st.sampled_from(["w0", "w1"]),
            st.booleans(),
        ),
        hopeless_since=st.none() | MOMENTS,
    ),
    max_size=12,
    unique_by=lambda made: made[0].id,
)
PLACES = st.lists(st.integers(1, 3), max_size=3)


@given(WAITING, PLACES)
def test_each_task_is_dealt_with_once_and_the_oldest_are_never_passed_over(
    tasks: list[Waits], slots: list[int]
) -> None:
    placed = placed_on(NOW, tasks, Place(*slots))

    order = [one[0].id for one in tasks]
    assert [one.task_id for one in placed] == [
        name for name in order if name in {one.task_id for one in placed}
    ]
    assert not tasks or placed
    given_to = Counter(one.worker for one in placed if isinstance(one, Leased))
    assert all(given_to[f"w{i}"] <= 2 * count for i, count in enumerate(slots))
    assert placed_on(NOW, tasks, Place(*slots)) == placed
