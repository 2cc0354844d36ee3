"""What a worker's whole result changes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from fog_compute.coordinator.news import after_result, contradicted
from fog_compute.store import Failed, Reported, Retried, Settled
from fog_compute.tasks import Attempt, AttemptState, Fault, Task, TaskResult, TaskSpec, TaskState

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TASK = Task("t", TaskSpec(module="a" * 64), TaskState.RUNNING, 3, NOW, NOW, attempt="h")
ATTEMPT = Attempt("h", "t", 2, "w", "fog1w", AttemptState.RUNNING, NOW, NOW, NOW)
TRAP = TaskResult(-1, b"", b"", 1, 1, 1, fault=Fault.TRAP, detail="unreachable")


def earlier(worker: str, reason: str, state: AttemptState = AttemptState.FAILED) -> Attempt:
    return replace(ATTEMPT, handle="e", number=1, worker=worker, state=state, reason=reason)


def test_a_result_without_a_fault_settles_whatever_was_claimed_before() -> None:
    ok = TaskResult(7, b"", b"", 1, 1, 1)
    assert after_result(TASK, ATTEMPT, ok, [earlier("v", "trap: unreachable")]) == [
        Reported("h", ok),
        Settled("h"),
    ]


@pytest.mark.parametrize(
    "before",
    [
        [],
        [earlier("v", "timeout: too long")],
        [earlier("v", "trap: x", AttemptState.LOST)],
        [earlier("v", "trapped: x")],
    ],
)
def test_a_fault_that_nobody_else_claimed_is_asked_of_another(before: list[Attempt]) -> None:
    """INV-TASK-75."""
    assert after_result(TASK, ATTEMPT, TRAP, before) == [
        Retried("h", "trap: unreachable", how=AttemptState.FAILED)
    ]


@pytest.mark.parametrize(
    ("worker", "says"),
    [("v", "a second worker says so too"), ("w", "the same worker said so twice")],
)
def test_a_fault_that_two_attempts_brought_ends_the_task(worker: str, says: str) -> None:
    """INV-TASK-75."""
    assert after_result(TASK, ATTEMPT, TRAP, [earlier(worker, "trap: unreachable")]) == [
        Reported("h", TRAP),
        Failed("t", f"unreachable ({says})"),
    ]


def test_a_fault_on_the_last_try_ends_the_task_and_says_who_says_so() -> None:
    """INV-TASK-75."""
    last = replace(TASK, tries=2)
    assert after_result(last, ATTEMPT, TRAP, []) == [
        Reported("h", TRAP),
        Failed("t", "unreachable (one worker says so, and no try is left)"),
    ]


@pytest.mark.parametrize(
    ("result", "blamed"),
    [
        (TaskResult(7, b"", b"", 1, 1, 1), {"u", "v"}),
        (TRAP, {"u"}),
        (TaskResult(-1, b"", b"", 1, 1, 1, fault=Fault.OUT_OF_FUEL), set()),
    ],
)
def test_who_claimed_a_fault_that_nobody_else_found_is_known_when_the_task_ends(
    result: TaskResult, blamed: set[str]
) -> None:
    """INV-TASK-120."""
    before = [
        earlier("u", "timeout: too long"),
        earlier("v", "trap: unreachable"),
        earlier("w", "the runner was lost", AttemptState.LOST),
    ]
    assert contradicted(result, before) == blamed
