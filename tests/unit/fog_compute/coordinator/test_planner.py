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

from fog_compute.coordinator.placement import (
    Decision,
    Requirements,
    WorkerState,
    WorkerView,
    select,
)
from fog_compute.coordinator.planner import (
    Ask,
    Assign,
    AttemptView,
    Expire,
    GiveUp,
    Park,
    Placement,
    Send,
    SessionView,
    Tell,
    View,
    place_waiting,
    plan,
    requirements_of,
)
from fog_compute.store import Waiting
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


def seen(one: Attempt, *, busy: bool = False, submit_at: datetime = NOW) -> AttemptView:
    return AttemptView(one, busy, submit_at)


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


def test_offered_attempt_is_submitted_once_at_a_time() -> None:
    offered = attempt("h", AttemptState.OFFERED)

    assert plan(View(NOW, {"h": seen(offered)})).actions == (Send("h"),)
    assert plan(View(NOW, {"h": seen(offered, busy=True)})).actions == ()


def test_submission_is_repeated_when_its_pause_is_over() -> None:
    offered = seen(attempt("h", AttemptState.OFFERED), submit_at=NOW + SECOND)
    view = View(NOW, {"h": offered})

    assert plan(view).actions == ()
    assert plan(view).wake_at == NOW + SECOND
    assert plan(replace(view, now=NOW + SECOND)).actions == (Send("h"),)


def test_confirmed_attempt_is_not_submitted_again() -> None:
    running = attempt("h", AttemptState.RUNNING)

    assert plan(View(NOW, {"h": seen(running)})).actions == ()


def test_lease_that_ran_out_expires() -> None:
    silent = attempt("h", AttemptState.RUNNING, lease_until=NOW)

    assert plan(View(NOW, {"h": seen(silent)})).actions == (Expire("h"),)


def test_lease_that_ran_out_counts_only_where_the_worker_could_be_heard() -> None:
    """INV-TASK-36."""
    silent = attempt("r", AttemptState.RUNNING, lease_until=NOW)
    offered = attempt("o", AttemptState.OFFERED, lease_until=NOW)
    deaf = {one.handle: replace(seen(one), deaf=True) for one in (silent, offered)}

    made = plan(View(NOW, deaf))

    assert made.actions == (Send("o"),)
    assert made.wake_at is None


def test_submission_under_way_keeps_its_attempt_from_expiring() -> None:
    offered = attempt("h", AttemptState.OFFERED, lease_until=NOW)

    assert plan(View(NOW, {"h": seen(offered, busy=True)})).actions == ()
    assert plan(View(NOW, {"h": seen(offered)})).actions == (Expire("h"),)


def test_session_is_polled_when_due_and_never_twice_at_once() -> None:
    session = SessionView("s", ("h",), polling=False, poll_at=NOW)

    def actions(changed: SessionView) -> tuple[object, ...]:
        return plan(View(NOW, {}, (changed,))).actions

    assert actions(session) == (Ask("s"),)
    assert actions(replace(session, polling=True)) == ()
    assert actions(replace(session, handles=())) == ()
    assert actions(replace(session, poll_at=NOW + SECOND)) == ()


def test_worker_is_told_what_it_may_forget() -> None:
    session = SessionView("s", (), False, NOW, forget=("h",), tell_at=NOW)

    assert plan(View(NOW, {}, (session,))).actions == (Tell("s"),)
    telling = replace(session, telling=True)
    assert plan(View(NOW, {}, (telling,))).actions == ()


MOMENTS = st.integers(-100, 100).map(lambda seconds: NOW + seconds * SECOND)
ATTEMPTS = st.lists(
    st.builds(
        AttemptView,
        st.builds(
            attempt,
            name=st.text("abcd", min_size=1, max_size=4),
            state=st.sampled_from(sorted(OPEN_ATTEMPT_STATES)),
            lease_until=MOMENTS,
        ),
        st.booleans(),
        MOMENTS,
    ),
    max_size=12,
    unique_by=lambda made: made.attempt.handle,
)
SESSIONS = st.lists(
    st.builds(
        SessionView,
        key=st.text("xyz", min_size=1, max_size=4),
        handles=st.lists(st.text("abcd", min_size=1, max_size=4), max_size=3).map(tuple),
        polling=st.booleans(),
        poll_at=MOMENTS,
        forget=st.lists(st.text("abcd", min_size=1, max_size=4), max_size=2).map(tuple),
        telling=st.booleans(),
        tell_at=st.none() | MOMENTS,
    ),
    max_size=5,
    unique_by=lambda made: made.key,
)
VIEWS = st.builds(
    lambda attempts, sessions: View(
        NOW,
        {made.attempt.handle: made for made in attempts},
        tuple(sessions),
    ),
    ATTEMPTS,
    SESSIONS,
)


@given(VIEWS)
def test_every_action_is_allowed_and_none_comes_twice(view: View) -> None:
    made = plan(view)

    assert len(made.actions) == len(set(map(repr, made.actions)))
    for action in made.actions:
        match action:
            case Send():
                offered = view.attempts[action.handle]
                assert offered.attempt.state is AttemptState.OFFERED
                assert not offered.busy
                assert offered.attempt.lease_until > NOW
            case Expire():
                assert view.attempts[action.handle].attempt.lease_until <= NOW
                assert not view.attempts[action.handle].busy
            case Ask():
                session = next(s for s in view.sessions if s.key == action.session)
                assert session.handles
                assert not session.polling
            case Tell():
                session = next(s for s in view.sessions if s.key == action.session)
                assert session.forget
                assert not session.telling


@given(VIEWS)
def test_plan_is_a_function_of_its_arguments(view: View) -> None:
    assert plan(view) == plan(view)


@given(VIEWS)
def test_plan_never_sleeps_past_something_due(view: View) -> None:
    made = plan(view)

    assert made.wake_at is None or made.wake_at > NOW
    pending = [entry.attempt.lease_until for entry in view.attempts.values()]
    pending += [s.poll_at for s in view.sessions if s.handles and not s.polling]
    future = [moment for moment in pending if moment > NOW]
    assert not future or (made.wake_at is not None and made.wake_at <= min(future))


def waiting(name: str, *attempts: Attempt, **more: object) -> Waiting:
    return Waiting(task(name, **more), attempts)  # type: ignore[arg-type]  # fields by name


def refused_by(worker: str, at: datetime) -> Attempt:
    declined = attempt(f"{worker}{at}", AttemptState.DECLINED)
    return replace(declined, worker=worker, updated_at=at, refused=True)


def kinds(placed: Sequence[Placement]) -> list[tuple[str, str]]:
    return [(type(one).__name__, one.task_id) for one in placed]


def test_waiting_task_is_given_to_a_fitting_worker() -> None:
    (placed,) = place_waiting(NOW, [waiting("t")], Place(1))

    assert isinstance(placed, Assign)
    assert placed.worker.name == "w0"


def test_more_than_the_places_is_never_given() -> None:
    placed = place_waiting(NOW, [waiting(f"t{i}") for i in range(11)], Place(1, 2))

    given_to = Counter(one.worker.name for one in placed if isinstance(one, Assign))
    assert given_to == {"w0": 2, "w1": 4}
    assert kinds(placed) == [("Assign", f"t{i}") for i in range(6)]


def test_worker_that_refused_a_task_is_left_out_until_its_pause_is_over() -> None:
    refused = refused_by("w0", NOW - 3 * SECOND)
    place = Place(1)

    (now,) = place_waiting(NOW, [waiting("t", refused)], place)
    assert now == Park("t", NOW + SECOND, NOW)
    (later,) = place_waiting(NOW + 8 * SECOND, [waiting("t", refused)], place)
    assert isinstance(later, Assign)


def test_pause_of_a_refusal_doubles_and_is_bounded() -> None:
    for times, pause in ((1, 10), (2, 20), (4, 80), (9, 600), (40, 600)):
        refusals = [refused_by("w0", NOW)] * times
        needed = requirements_of(task("t"), refusals, NOW + (pause - 1) * SECOND)
        assert needed.refused_by == {"w0"}
        assert not requirements_of(task("t"), refusals, NOW + pause * SECOND).refused_by


def test_worker_that_lost_a_task_is_asked_only_when_nobody_else_fits() -> None:
    lost = replace(attempt("h", AttemptState.LOST), worker="w0")

    placed = place_waiting(NOW, [waiting(f"t{i}", lost) for i in range(5)], Place(3, 1))

    assert [one.worker.name for one in placed if isinstance(one, Assign)] == [
        *["w1"] * 2,
        *["w0"] * 3,
    ]


@pytest.mark.parametrize(("hopeless_s", "pause_s"), [(0, 1), (7, 7), (2000, 30)])
def test_task_that_every_worker_refuses_is_looked_at_less_and_less_often(
    hopeless_s: int, pause_s: int
) -> None:
    refused = [refused_by("w0", NOW)] * 12
    since = NOW - hopeless_s * SECOND

    (placed,) = place_waiting(NOW, [waiting("t", *refused, hopeless_since=since)], Place(1))

    assert placed == Park("t", NOW + pause_s * SECOND, since)


def test_task_that_every_worker_refuses_is_given_up_after_a_good_while_and_not_before() -> None:
    """INV-TASK-42."""
    since = NOW - 50 * MINUTE
    refused = [refused_by("w0", NOW + 9 * MINUTE)] * 12
    one = waiting("t", *refused, hopeless_since=since, reason="no time")

    (early,) = place_waiting(NOW + 9.9 * MINUTE, [one], Place(1))
    (late,) = place_waiting(NOW + 10 * MINUTE, [one], Place(1))

    assert early == Park("t", NOW + 10 * MINUTE, since)
    text = "no worker can take it: 1 refused it; no time; it waited for another worker for an hour"
    assert late == GiveUp("t", text)


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

    (placed,) = place_waiting(NOW, [waiting("t", hopeless_since=NOW - 5000 * MINUTE)], place)

    assert placed == Park("t", NOW + SECOND, None)


def test_task_without_any_worker_waits_for_one() -> None:
    """INV-TASK-42."""
    (placed,) = place_waiting(NOW, [waiting("t", hopeless_since=NOW - 5000 * MINUTE)], Place())

    assert placed == Park("t", NOW + SECOND, None)


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
    unique_by=lambda made: made.task.id,
)
PLACES = st.lists(st.integers(1, 3), max_size=3)


@given(WAITING, PLACES)
def test_each_task_is_dealt_with_once_and_the_oldest_are_never_passed_over(
    tasks: list[Waiting], slots: list[int]
) -> None:
    placed = place_waiting(NOW, tasks, Place(*slots))

    order = [one.task.id for one in tasks]
    assert [one.task_id for one in placed] == [
        name for name in order if name in {one.task_id for one in placed}
    ]
    assert not tasks or placed
    given_to = Counter(one.worker.name for one in placed if isinstance(one, Assign))
    assert all(given_to[f"w{i}"] <= 2 * count for i, count in enumerate(slots))
    assert place_waiting(NOW, tasks, Place(*slots)) == placed
