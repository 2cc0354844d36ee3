"""What a worker's answer changes, as pure functions from records to changes of the store.

A module at fault fails its task at once: another worker would find the same. Infrastructure at
fault (a lost runner, a restarted worker, silence) is retried until the task's tries run out.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from fog_compute.store.changes import Accept, Change, Fail, Hold, Renew, Report, Retry, Start
from fog_compute.tasks import Attempt, AttemptState, Task, TaskResult
from fog_compute.tasks.wire import FINISHED, LOST, QUEUED, RUNNING, UNKNOWN, AttemptStatus

__all__ = ["after_loss", "after_result", "after_status", "one_line"]

RETRY_PAUSE: Final = timedelta(seconds=1)
"""Wait before the third and each later try, times the tries before it; the second is at once."""

_NOT_STARTED: Final = (AttemptState.OFFERED, AttemptState.HELD)

LINE_LENGTH: Final = 300


def after_status(
    task: Task,
    attempt: Attempt,
    status: AttemptStatus,
    *,
    now: datetime,
    lease: timedelta,
) -> list[Change]:
    """What a status without a whole result changes; an empty list if nothing."""
    until = now + lease
    if status.state == LOST:
        return after_loss(task, attempt, "the runner was lost", now=now)
    if status.state == UNKNOWN:
        return after_loss(task, attempt, "the worker restarted and forgot it", now=now)
    if status.state == QUEUED and attempt.state is AttemptState.OFFERED:
        return [Hold(attempt.handle, until)]
    if status.state in (RUNNING, FINISHED) and attempt.state in _NOT_STARTED:
        return [Start(attempt.handle, until)]
    # One write per half lease is enough to keep it.
    return [Renew(attempt.handle, until)] if attempt.lease_until - now < lease / 2 else []


def after_result(task: Task, attempt: Attempt, result: TaskResult) -> list[Change]:
    """What a whole result changes: accepted, or failed if the module is at fault."""
    report = Report(attempt.handle, result)
    if result.trap is None:
        return [report, Accept(attempt.handle)]
    reason = one_line(result.detail) or f"the module failed: {result.trap.value}"
    return [report, Fail(task.id, reason)]


def after_loss(
    task: Task,
    attempt: Attempt,
    reason: str,
    *,
    now: datetime,
    how: AttemptState = AttemptState.LOST,
) -> list[Change]:
    """What the loss of an attempt changes: another try, or the end if this was the last."""
    tries = task.tries + 1
    if tries >= task.spec.max_attempts:
        return [Fail(task.id, f"{reason}, and this was try {tries} of {task.spec.max_attempts}")]
    pause = RETRY_PAUSE * (tries - 1)
    return [
        Retry(
            attempt.handle,
            reason,
            how=how,
            not_before=now + pause if pause else None,
        )
    ]


def one_line(text: str) -> str:
    """A worker's words as one printable line of bounded length."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:LINE_LENGTH]
