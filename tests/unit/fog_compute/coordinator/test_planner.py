"""The planner: what it does in each situation, and what it never does in any."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
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
    Send,
    SessionView,
    Tell,
    View,
    plan,
)
from fog_compute.tasks import (
    OPEN_ATTEMPT_STATES,
    OPEN_TASK_STATES,
    Attempt,
    AttemptState,
    Limits,
    Task,
    TaskSpec,
    TaskState,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
SPEC = TaskSpec(module="a" * 64)


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
            WorkerView(f"w{i}", f"fog1w{i}", frozenset({"wasm"}), count, 2**40, places=2 * count)
            for i, count in enumerate(slots)
        ]
        self.asked = 0

    def __call__(self, requirements: Requirements, leased: Mapping[str, int]) -> Decision:
        self.asked += 1
        views = [
            replace(view, leased=view.leased + leased.get(view.name, 0)) for view in self.workers
        ]
        return select(requirements, views, Random(1))


def test_queued_task_is_leased_to_a_fitting_worker() -> None:
    made = plan(View(NOW, {"t": task("t")}, {}), Place(1))

    assert [type(action) for action in made.actions] == [Assign]


def test_task_without_worker_waits_with_the_reason() -> None:
    made = plan(View(NOW, {"t": task("t")}, {}), Place())

    assert made.actions == ()
    assert made.waiting["t"] == "no worker can take it: no worker is known yet"


def test_retry_waits_for_its_time_and_the_plan_says_when() -> None:
    later = NOW + 5 * SECOND
    view = View(NOW, {"t": task("t", TaskState.RETRY, not_before=later)}, {})

    assert plan(view, Place(1)).actions == ()
    assert plan(view, Place(1)).wake_at == later
    assert len(plan(replace(view, now=later), Place(1)).actions) == 1


def test_one_plan_never_leases_more_than_fits() -> None:
    tasks = {f"t{i}": task(f"t{i}") for i in range(10)}

    made = plan(View(NOW, tasks, {}), Place(1, 2))

    leases = Counter(
        a.decision.worker.name for a in made.actions if isinstance(a, Assign) and a.decision.worker
    )
    assert leases == {"w0": 2, "w1": 4}
    assert len(made.waiting) == 4


def test_tasks_that_fit_nowhere_hold_up_nobody_and_cost_one_look() -> None:
    large = TaskSpec(module="a" * 64, limits=Limits(memory_bytes=2**31))
    tasks = {f"a{i:03}": task(f"a{i:03}", spec=large) for i in range(200)}
    tasks |= {f"b{i:03}": task(f"b{i:03}") for i in range(100)}
    place = Place(64)
    place.workers = [replace(view, memory_bytes=2**30) for view in place.workers]

    made = plan(View(NOW, tasks, {}), place)

    assert len(made.actions) == 64
    assert len(made.waiting) == 236
    assert made.waiting["a000"] == made.waiting["a199"]
    assert made.waiting["b099"] == "others are before it in the queue"
    assert place.asked == 65


def test_worker_that_refused_a_task_is_left_out_until_its_pause_is_over() -> None:
    later = NOW + 5 * SECOND
    view = View(NOW, {"t": task("t"), "u": task("u")}, {}, refused_by={"t": {"w0": later}})

    made = plan(view, Place(1))

    assert [a.task_id for a in made.actions if isinstance(a, Assign)] == ["u"]
    assert made.waiting["t"] == "no worker can take it: 1 refused it"
    assert made.wake_at == later
    assert len(plan(replace(view, now=later), Place(1)).actions) == 2


def test_offered_attempt_is_submitted_once_at_a_time() -> None:
    offered = attempt("h", AttemptState.OFFERED)

    assert plan(View(NOW, {}, {"h": seen(offered)}), Place()).actions == (Send("h"),)
    assert plan(View(NOW, {}, {"h": seen(offered, busy=True)}), Place()).actions == ()


def test_submission_is_repeated_when_its_pause_is_over() -> None:
    offered = seen(attempt("h", AttemptState.OFFERED), submit_at=NOW + SECOND)
    view = View(NOW, {}, {"h": offered})

    assert plan(view, Place()).actions == ()
    assert plan(view, Place()).wake_at == NOW + SECOND
    assert plan(replace(view, now=NOW + SECOND), Place()).actions == (Send("h"),)


def test_confirmed_attempt_is_not_submitted_again() -> None:
    running = attempt("h", AttemptState.RUNNING)

    assert plan(View(NOW, {}, {"h": seen(running)}), Place()).actions == ()


def test_lease_that_ran_out_expires() -> None:
    silent = attempt("h", AttemptState.RUNNING, lease_until=NOW)

    assert plan(View(NOW, {}, {"h": seen(silent)}), Place()).actions == (Expire("h"),)


def test_lease_that_ran_out_counts_only_where_the_worker_could_be_heard() -> None:
    """INV-TASK-36."""
    silent = attempt("r", AttemptState.RUNNING, lease_until=NOW)
    offered = attempt("o", AttemptState.OFFERED, lease_until=NOW)
    deaf = {one.handle: replace(seen(one), deaf=True) for one in (silent, offered)}

    made = plan(View(NOW, {}, deaf), Place())

    assert made.actions == (Send("o"),)
    assert made.wake_at is None


def test_submission_under_way_keeps_its_attempt_from_expiring() -> None:
    offered = attempt("h", AttemptState.OFFERED, lease_until=NOW)

    assert plan(View(NOW, {}, {"h": seen(offered, busy=True)}), Place()).actions == ()
    assert plan(View(NOW, {}, {"h": seen(offered)}), Place()).actions == (Expire("h"),)


def test_session_is_polled_when_due_and_never_twice_at_once() -> None:
    session = SessionView("s", ("h",), polling=False, poll_at=NOW)

    def actions(changed: SessionView) -> tuple[object, ...]:
        return plan(View(NOW, {}, {}, (changed,)), Place()).actions

    assert actions(session) == (Ask("s"),)
    assert actions(replace(session, polling=True)) == ()
    assert actions(replace(session, handles=())) == ()
    assert actions(replace(session, poll_at=NOW + SECOND)) == ()


def test_worker_is_told_what_it_may_forget() -> None:
    session = SessionView("s", (), False, NOW, forget=("h",), tell_at=NOW)

    assert plan(View(NOW, {}, {}, (session,)), Place()).actions == (Tell("s"),)
    telling = replace(session, telling=True)
    assert plan(View(NOW, {}, {}, (telling,)), Place()).actions == ()


MOMENTS = st.integers(-100, 100).map(lambda seconds: NOW + seconds * SECOND)
TASKS = st.lists(
    st.builds(
        task,
        name=st.text("tuvw", min_size=1, max_size=4),
        state=st.sampled_from(sorted(OPEN_TASK_STATES)),
        not_before=st.none() | MOMENTS,
    ),
    max_size=12,
    unique_by=lambda made: made.id,
)
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
    lambda tasks, attempts, sessions: View(
        NOW,
        {made.id: made for made in tasks},
        {made.attempt.handle: made for made in attempts},
        tuple(sessions),
    ),
    TASKS,
    ATTEMPTS,
    SESSIONS,
)
PLACES = st.lists(st.integers(1, 3), max_size=3).map(lambda slots: Place(*slots))


@given(VIEWS, PLACES)
def test_every_action_is_allowed_and_none_comes_twice(view: View, place: Place) -> None:
    made = plan(view, place)

    assert len(made.actions) == len(set(map(repr, made.actions)))
    for action in made.actions:
        match action:
            case Assign():
                assert view.tasks[action.task_id].state in (TaskState.QUEUED, TaskState.RETRY)
                assert action.decision.worker is not None
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


@given(VIEWS, PLACES)
def test_plan_is_a_function_of_its_arguments(view: View, place: Place) -> None:
    assert plan(view, place) == plan(view, place)


@given(VIEWS, PLACES)
def test_plan_never_sleeps_past_something_due(view: View, place: Place) -> None:
    made = plan(view, place)

    assert made.wake_at is None or made.wake_at > NOW
    pending = [entry.attempt.lease_until for entry in view.attempts.values()]
    pending += [s.poll_at for s in view.sessions if s.handles and not s.polling]
    future = [moment for moment in pending if moment > NOW]
    assert not future or (made.wake_at is not None and made.wake_at <= min(future))


@given(VIEWS, PLACES)
def test_every_runnable_task_is_leased_or_told_why_not(view: View, place: Place) -> None:
    made = plan(view, place)

    leased = {action.task_id for action in made.actions if isinstance(action, Assign)}
    runnable = {
        name
        for name, one in view.tasks.items()
        if one.state in (TaskState.QUEUED, TaskState.RETRY)
        and (one.not_before is None or one.not_before <= NOW)
    }
    assert leased | made.waiting.keys() == runnable
    assert not leased & made.waiting.keys()


def test_task_that_no_worker_could_take_is_given_up_after_a_good_while_and_not_before() -> None:
    """INV-TASK-42."""
    large = task("t", spec=TaskSpec(module="a" * 64, limits=Limits(memory_bytes=2**31)))
    place = Place(1)
    place.workers = [replace(place.workers[0], memory_bytes=2**30)]
    view = View(NOW, {"t": large}, {}, hopeless_since={"t": NOW - 50 * MINUTE})

    early = plan(view, place)
    late = plan(replace(view, now=NOW + 11 * MINUTE), place)

    assert early.actions == ()
    assert early.hopeless == {"t"}
    assert early.wake_at == NOW + 10 * MINUTE
    assert late.actions == (GiveUp("t", early.waiting["t"]),)


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
    view = View(NOW, {"t": task("t")}, {}, hopeless_since={"t": NOW - 5000 * MINUTE})

    made = plan(view, place)

    assert made.actions == ()
    assert made.hopeless == frozenset()


def test_task_without_any_worker_waits_for_one() -> None:
    """INV-TASK-42."""
    view = View(NOW, {"t": task("t")}, {}, hopeless_since={"t": NOW - 5000 * MINUTE})

    assert plan(view, Place()).actions == ()
