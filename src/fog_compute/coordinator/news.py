"""What a worker's answer changes, as pure functions from records to changes of the store.

A module at fault fails its task once two attempts found the same: one worker's word ends no task.
Infrastructure at fault (a lost runner, a restarted worker, silence) is retried until the task's
tries run out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from fog_compute.backoff import Backoff
from fog_compute.store.changes import (
    Change,
    Declined,
    Failed,
    Held,
    Reported,
    Retried,
    Settled,
    Started,
)
from fog_compute.tasks import Attempt, AttemptState, Task, TaskResult
from fog_compute.tasks.messages import (
    FINISHED,
    LOST,
    QUEUED,
    RETURNED,
    RUNNING,
    UNKNOWN,
    AttemptStatus,
)
from fog_compute.tasks.pacing import RATIO
from fog_compute.text import one_line

__all__ = ["News", "after_loss", "after_result", "after_status", "contradicted"]

RETRY: Final = Backoff(1, 60)
"""Before the third and each later try; the second is at once."""

QUEUE_LEASES: Final = 10
"""Leases, on top of its own wall time, that an attempt waits for a slot before it goes elsewhere.

What runs before it may be longer than that, so it is given back, which counts as no try.
"""

_NOT_STARTED: Final = (AttemptState.OFFERED, AttemptState.HELD)


@dataclass(frozen=True, slots=True)
class News:
    """What follows from a worker's word about an attempt.

    Attributes:
        changes: of the store.
        alive: whether it is a sign of life, which renews the lease; that is not written.
    """

    changes: Sequence[Change] = ()
    alive: bool = False


def after_status(
    task: Task,
    attempt: Attempt,
    status: AttemptStatus,
    *,
    now: datetime,
    lease: timedelta,
    held_since: datetime,
    running_since: datetime | None,
    moving: bool,
) -> News:
    """What follows from a status without a whole result.

    Args:
        task: the task.
        attempt: its open attempt, which the status is about.
        status: what the worker says.
        now: the time.
        lease: silence after which an attempt expires.
        held_since: when the worker took it.
        running_since: when the worker first said that it runs; None if it never did.
        moving: whether a result that the worker says it has is on its way.
    """
    until = now + lease
    if status.state == LOST:
        return News(after_loss(task, attempt, "the runner was lost", now=now))
    if status.state == UNKNOWN:
        return News(after_loss(task, attempt, "the worker restarted and forgot it", now=now))
    if status.state == RETURNED:
        return News(
            [
                Declined(
                    attempt.handle, "the worker could not run it to its end now, and gave it back"
                )
            ]
        )
    if status.state == QUEUED and attempt.state is AttemptState.OFFERED:
        return News([Held(attempt.handle, until)], alive=True)
    if status.state in (RUNNING, FINISHED) and attempt.state in _NOT_STARTED:
        return News([Started(attempt.handle, until)], alive=True)
    if status.state == FINISHED:
        return News(alive=moving)
    if running_since is not None:
        if now > latest_end(task, attempt, running_since) + lease:
            reason = "the worker let it run for longer than its limit"
            how = AttemptState.EXPIRED
            return News(after_loss(task, attempt, reason, now=now, how=how))
    elif now > held_since + timedelta(seconds=task.spec.limits.wall_s) + QUEUE_LEASES * lease:
        return News([Declined(attempt.handle, "the worker let it wait for too long")])
    return News(alive=True)


def latest_end(task: Task, attempt: Attempt, running_since: datetime) -> datetime:
    """When an attempt that keeps its limit has ended, and its worker says so.

    The worker shows an end at the next edge of its grid, which is by up to √2 farther from the
    beginning of the attempt than the end itself.
    """
    begun = min(attempt.created_at, running_since)
    end = running_since + timedelta(seconds=task.spec.limits.wall_s)
    return begun + (end - begun) * RATIO


def after_result(
    task: Task,
    attempt: Attempt,
    result: TaskResult,
    earlier: Sequence[Attempt],
    receipt: bytes = b"",
) -> list[Change]:
    """What a whole result changes: accepted, or failed if the module is at fault.

    A fault is asked of another worker first, where there is one; it ends the task when a second
    attempt brings the same, or when no try is left.

    Args:
        task: the task.
        attempt: its open attempt, whose result this is.
        result: what its worker says.
        earlier: the task's attempts before it.
        receipt: what the worker signed for it.
    """
    report = Reported(attempt.handle, result, receipt)
    if result.fault is None:
        return [report, Settled(attempt.handle)]
    reason = one_line(result.detail) or f"the module failed: {result.fault.value}"
    claim = f"{result.fault.value}: "
    agreeing = [
        one.worker
        for one in earlier
        if one.state is AttemptState.FAILED and one.reason.startswith(claim)
    ]
    if agreeing:
        alone = set(agreeing) == {attempt.worker}
        says = "the same worker said so twice" if alone else "a second worker says so too"
        return [report, Failed(task.id, f"{reason} ({says})")]
    if task.tries + 1 >= task.spec.max_attempts:
        return [report, Failed(task.id, f"{reason} (one worker says so, and no try is left)")]
    return [Retried(attempt.handle, claim + reason, how=AttemptState.FAILED)]


def contradicted(result: TaskResult, earlier: Sequence[Attempt]) -> frozenset[str]:
    """Who claimed a fault of a task that a later attempt did not find, if that ends the task.

    Two that claim different faults contradict nobody yet: either may be right.

    Args:
        result: what the later attempt brought.
        earlier: the attempts before it.
    """
    claims = [(one.worker, one.reason) for one in earlier if one.state is AttemptState.FAILED]
    if result.fault is None:
        return frozenset(worker for worker, _ in claims)
    agreed = f"{result.fault.value}: "
    right = {worker for worker, reason in claims if reason.startswith(agreed)}
    return frozenset(worker for worker, _ in claims if right and worker not in right)


def after_loss(
    task: Task,
    attempt: Attempt,
    reason: str,
    *,
    now: datetime,
    how: AttemptState = AttemptState.LOST,
    counts: bool = True,
) -> list[Change]:
    """What the loss of an attempt changes: another try, or the end if this was the last.

    One that does not count, because nobody knows whose fault it was, leaves the tries as they are.
    """
    if not counts:
        return [
            Retried(attempt.handle, reason, how=how, counts=False, not_before=now + RETRY.delay(0))
        ]
    tries = task.tries + 1
    if tries >= task.spec.max_attempts:
        text = f"{reason}, and this was try {tries} of {task.spec.max_attempts}"
        return [Failed(task.id, text, how=how)]
    return [
        Retried(
            attempt.handle,
            reason,
            how=how,
            not_before=now + RETRY.delay(tries - 2) if tries > 1 else None,
        )
    ]
