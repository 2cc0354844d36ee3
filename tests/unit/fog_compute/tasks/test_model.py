"""The tables of states, driven at random, and what a task may say."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fog_compute.errors import InvalidTask, NotFound
from fog_compute.store.changes import (
    Cancelled,
    Change,
    Conflict,
    Declined,
    Failed,
    Held,
    Leased,
    Parked,
    Reported,
    Retried,
    Rows,
    Settled,
    Started,
    apply_change,
    new_tasks,
)
from fog_compute.tasks import TaskResult
from fog_compute.tasks.environment import check_env, env_bytes
from fog_compute.tasks.ids import new_handle, new_task_id, seed_from, seed_of
from fog_compute.tasks.model import (
    ATTEMPT_TRANSITIONS,
    OPEN_ATTEMPT_STATES,
    TRANSITIONS,
    Attempt,
    AttemptEvent,
    AttemptState,
    InvalidTransition,
    Limits,
    Task,
    TaskEvent,
    TaskSpec,
    TaskState,
    transition,
    transition_attempt,
)

SHA = "ab" * 32
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
RESULT = TaskResult(0, b"out", b"", 1, 2, 3)


def test_every_event_that_no_table_names_is_refused() -> None:
    """INV-TASK-01."""
    for state, event in itertools.product(TaskState, TaskEvent):
        if event in TRANSITIONS[state]:
            assert transition(state, event) is TRANSITIONS[state][event]
        else:
            with pytest.raises(InvalidTransition, match=state.value):
                transition(state, event)
    for held, happened in itertools.product(AttemptState, AttemptEvent):
        if happened in ATTEMPT_TRANSITIONS[held]:
            assert transition_attempt(held, happened) is ATTEMPT_TRANSITIONS[held][happened]
        else:
            with pytest.raises(InvalidTransition, match=held.value):
                transition_attempt(held, happened)


def test_final_states_are_the_three_ends() -> None:
    """INV-TASK-01."""
    assert {s for s in TaskState if s.final} == {
        TaskState.ACCEPTED,
        TaskState.FAILED,
        TaskState.CANCELLED,
    }
    assert {s for s in AttemptState if s.final} == set(AttemptState) - OPEN_ATTEMPT_STATES


def test_every_state_can_be_reached_and_left() -> None:
    reached = {TaskState.QUEUED} | {s for out in TRANSITIONS.values() for s in out.values()}
    assert reached == set(TaskState)
    for state in TaskState:
        if not state.final:
            assert TRANSITIONS[state][TaskEvent.CANCEL] is TaskState.CANCELLED
            assert TRANSITIONS[state][TaskEvent.FAIL] is TaskState.FAILED


class Changes(RuleBasedStateMachine):
    """Throws changes of all kinds, sensible or not, at one task: INV-TASK-01, 02, 03, 05."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = Rows()
        self.handles = [f"{i:032x}" for i in range(4)]
        self.accepted = 0
        self.ended: TaskState | None = None

    @initialize()
    def make(self) -> None:
        task = Task("t", TaskSpec(module=SHA), TaskState.QUEUED, 1, NOW, NOW)
        new_tasks(self.rows, [task])

    def attempt_change(self, change: Change) -> bool:
        trial = self.rows.fork()
        try:
            apply_change(trial, change, NOW)
        except (Conflict, NotFound):
            return False
        self.rows = trial
        return True

    @rule(data=st.data())
    def throw(self, data: st.DataObject) -> None:
        handle = data.draw(st.sampled_from(self.handles))
        until = NOW + timedelta(seconds=data.draw(st.integers(0, 100)))
        changes: list[Change] = [
            Leased("t", handle, "w", "a", until),
            Leased("t", handle, "w", "a", until),
            Held(handle, until),
            Started(handle, until),
            Parked("t", until),
            Reported(handle, RESULT),
            Settled(handle),
            Declined(handle, "busy"),
            Retried(handle, "lost"),
            Retried(handle, "silent", how=AttemptState.EXPIRED, counts=False),
            Retried(handle, "wrong", how=AttemptState.SETTLED),
            Failed("t", "bad"),
            Cancelled("t"),
        ]
        change = data.draw(st.sampled_from(changes))
        named = self.rows.tasks["t"].attempt
        before = self.rows.tasks["t"]
        taken = self.attempt_change(change)
        if taken and isinstance(change, Settled):
            self.accepted += 1
            assert named == change.handle
        if taken and not isinstance(change, Leased | Parked | Failed | Cancelled):
            assert named == change.handle
        if not taken:
            assert self.rows.tasks["t"] is before
        if before.state.final:
            assert not taken

    @invariant()
    def holds(self) -> None:
        if "t" not in self.rows.tasks:
            return
        task = self.rows.tasks["t"]
        open_handles = [h for h, a in self.rows.attempts.items() if a.state in OPEN_ATTEMPT_STATES]
        assert len(open_handles) <= 1
        assert all(task.attempt == h for h in open_handles)
        assert self.accepted == (task.state is TaskState.ACCEPTED)
        assert [t.version for t in self.rows.history] == list(range(1, task.version + 1))
        assert (task.finished_at is not None) == task.state.final
        statistics = self.rows.statistics[task.spec.privacy]
        assert statistics.submitted == 1
        assert statistics.accepted + statistics.failed + statistics.cancelled == task.state.final
        assert statistics.attempts == len(self.rows.attempts) == task.leases


TestChanges = Changes.TestCase


def test_a_late_report_of_an_expired_attempt_changes_nothing() -> None:
    """INV-TASK-02, INV-TASK-03."""
    rows = Rows()
    new_tasks(rows, [Task("t", TaskSpec(module=SHA), TaskState.QUEUED, 1, NOW, NOW)])
    for change in (
        Leased("t", "0" * 32, "w", "a", NOW),
        Retried("0" * 32, "silent", how=AttemptState.EXPIRED),
        Leased("t", "1" * 32, "v", "b", NOW),
    ):
        apply_change(rows, change, NOW)
    with pytest.raises(Conflict, match="no longer open"):
        apply_change(rows, Reported("0" * 32, RESULT), NOW)
    apply_change(rows, Reported("1" * 32, RESULT), NOW)
    apply_change(rows, Settled("1" * 32), NOW)
    with pytest.raises(Conflict):
        apply_change(rows, Settled("1" * 32), NOW)
    assert rows.tasks["t"].state is TaskState.ACCEPTED


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ({"module": "xyz"}, "module"),
        ({"module": SHA.upper()}, "module"),
        ({"module": SHA, "stdin": "0"}, "stdin"),
        ({"module": SHA, "inputs": {"/etc/passwd": SHA}}, "/etc/passwd"),
        ({"module": SHA, "inputs": {"a/../b": SHA}}, "a/../b"),
        ({"module": SHA, "inputs": {"tmp/x": SHA}}, "empty when a task begins"),
        ({"module": SHA, "inputs": {"out": SHA}}, "empty when a task begins"),
        ({"module": SHA, "inputs": {"d/" * 65 + "x": SHA}}, "folders deep, and 64 are allowed"),
        (
            {"module": SHA, "inputs": {f"{i}/{'d/' * 40}x": SHA for i in range(150)}},
            "files and folders: at most 4096",
        ),
        ({"module": SHA, "inputs": {"a\nb": SHA}}, "control"),
        ({"module": SHA, "inputs": {"a": SHA, "a/b": SHA}}, "file and a folder"),
        ({"module": SHA, "inputs": {"a": "no"}}, "SHA-256"),
        ({"module": SHA, "argv": ("a\0b",)}, "zero byte"),
        ({"module": SHA, "argv": ("a\ud800b",)}, "half a character"),
        ({"module": SHA, "argv": ("a" * 70_000,)}, "64 KiB"),
        ({"module": SHA, "env": {"": "x"}}, "''"),
        ({"module": SHA, "env": {"A=B": "x"}}, "'A=B'"),
        ({"module": SHA, "env": {"A\nB": "x"}}, "control"),
        ({"module": SHA, "env": {"FINE": "x", "WRONG": "a\0b"}}, "'WRONG' holds a zero byte"),
        ({"module": SHA, "env": {"WRONG": "a\ud800b"}}, "'WRONG' holds half a character"),
        ({"module": SHA, "env": {"FINE": "x", "LARGE": "y" * 70_000}}, "most of them 'LARGE'"),
        ({"module": SHA, "env": {f"V{i}": "" for i in range(300)}}, "300 variables"),
        ({"module": SHA, "seed": "ab"}, "`seed` is no SHA-256"),
        ({"module": SHA, "max_attempts": 0}, "max_attempts"),
        ({"module": SHA, "inputs": {f"f{i}": SHA for i in range(257)}}, "256"),
    ],
)
def test_a_task_that_cannot_run_is_refused_by_name(spec: dict[str, object], named: str) -> None:
    with pytest.raises(InvalidTask, match=named):
        TaskSpec(**spec)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    "limits",
    [
        {"memory_bytes": 1},
        {"fuel": 0},
        {"wall_s": 0.0},
        {"wall_s": float("nan")},
        {"output_bytes": -1},
        {"scratch_bytes": 2**60},
    ],
)
def test_limits_that_no_worker_could_honour_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(InvalidTask, match=next(iter(limits))):
        Limits(**limits)  # type: ignore[arg-type]  # wrong on purpose


@given(st.text(st.characters(codec="utf-8"), max_size=2500))
def test_a_reason_is_kept_as_a_bounded_line_whoever_gave_it(reason: str) -> None:
    """INV-TASK-33."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    task = Task("x", TaskSpec("0" * 64), TaskState.QUEUED, 1, now, now)
    attempt = Attempt("h", "x", 1, "w", "fog1w", AttemptState.OFFERED, now, now, now)
    failed = task.after(TaskEvent.FAIL, now, reason=reason)
    declined = attempt.after(AttemptEvent.DECLINE, now, reason=reason)
    for kept in (failed.reason, declined.reason):
        assert kept == "" or kept.isprintable()
        assert len(kept) < 1500


@pytest.mark.parametrize(
    "path", ["a" * 1_000_000, "a/" * 400_000, "\x1b[2J" * 90_000, "\x1b]0;owned\x07"]
)
def test_a_path_that_is_refused_is_not_repeated_at_length(path: str) -> None:
    """INV-TASK-33."""
    with pytest.raises(InvalidTask) as refused:
        TaskSpec("0" * 64, inputs={path: "0" * 64})
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 500


def test_blobs_of_a_task_are_its_module_and_all_inputs() -> None:
    spec = TaskSpec(module=SHA, stdin="cd" * 32, inputs={"a": "ef" * 32, "b": SHA})
    assert spec.blobs == {SHA, "cd" * 32, "ef" * 32}


@given(st.integers(0, 2**40), st.integers(1, 2**30))
def test_task_ids_sort_by_time(start: int, later: int) -> None:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    first = new_task_id(epoch + timedelta(milliseconds=start))
    second = new_task_id(epoch + timedelta(milliseconds=start + later))
    assert first < second
    assert len(first) == len(second) == 26


def test_handles_and_seeds_do_not_tell_the_task() -> None:
    assert new_handle() != new_handle()
    assert len(new_handle()) == 32
    assert seed_of("a") == seed_of("a") != seed_of("b")
    assert len(bytes.fromhex(seed_of("a"))) == 32


def test_a_seed_of_64_digits_is_taken_as_it_is_and_other_words_are_hashed() -> None:
    assert seed_from("5E" * 32) == "5e" * 32
    for words in ("", "5e", "5e" * 33, "gg" * 32, "ü"):
        assert seed_from(words) == seed_from(words) != seed_from(words + "x")
        TaskSpec(module=SHA, seed=seed_from(words))


@given(st.dictionaries(st.text(), st.text()))
def test_an_environment_that_is_taken_can_be_given_to_a_program(env: dict[str, str]) -> None:
    try:
        check_env(env)
    except InvalidTask:
        return
    given = b"".join(f"{name}={value}\0".encode() for name, value in env.items())
    assert len(given) == env_bytes(env)
    read = dict(one.split("=", 1) for one in given.decode().split("\0")[:-1])
    assert read == env


def test_a_limit_in_bytes_is_refused_with_its_bounds_in_units() -> None:
    with pytest.raises(InvalidTask) as refused:
        Limits(memory_bytes=8 * 1024**3)
    assert str(refused.value).endswith(
        "is 8589934592: give 65536 to 4294967296 (64.0 KiB to 4.0 GiB)"
    )
