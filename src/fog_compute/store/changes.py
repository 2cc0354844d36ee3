"""What can be changed in the store, and the pure function that says what each change does.

A change names what happened; `apply_change` turns it into new rows by the tables of
`fog_compute.tasks.model`.  The writer calls it inside its transaction on rows it has just read, so
a change that the present state does not allow never reaches the database.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeAlias

from fog_compute.errors import NotFound, StoreError
from fog_compute.levels import PrivacyLevel
from fog_compute.store.damage import RowDamaged
from fog_compute.tasks.model import (
    OPEN_ATTEMPT_STATES,
    WAITING_TASK_STATES,
    Attempt,
    AttemptEvent,
    AttemptState,
    InvalidTransition,
    Task,
    TaskEvent,
    TaskState,
)
from fog_compute.tasks.result import TaskResult


class Conflict(StoreError):
    """The row is no longer in a state that allows the change; nothing of the call was written."""


class Fenced(Conflict):
    """Another backend has taken this one for dead: what it owned is no longer its own."""

    def __init__(self) -> None:
        """Say so."""
        super().__init__("this backend was taken for dead by another one: it joins anew")


@dataclass(frozen=True, slots=True)
class Leased:
    """A new attempt, given to a worker: queued or retry → leased."""

    task_id: str
    handle: str
    worker: str
    address: str
    lease_until: datetime
    reason: str = ""  # why this worker: kept in the task's history beside the attempt


@dataclass(frozen=True, slots=True)
class Held:
    """The worker confirmed that it has the attempt: offered → held; the task stays leased."""

    handle: str
    lease_until: datetime


@dataclass(frozen=True, slots=True)
class Started:
    """The worker says that it runs: → running, for both."""

    handle: str
    lease_until: datetime


@dataclass(frozen=True, slots=True)
class Reported:
    """The whole result is here and is stored: → reported, for both."""

    handle: str
    result: TaskResult
    receipt: bytes = b""  # what its worker signed
    blob: str | None = None  # where the store put a large one


@dataclass(frozen=True, slots=True)
class Settled:
    """The reported result is the task's result: reported → accepted, settled."""

    handle: str


@dataclass(frozen=True, slots=True)
class Declined:
    """The worker would not take it: leased → queued; counts as no try.

    ``refused`` says that it will never take it.
    """

    handle: str
    reason: str
    not_before: datetime | None = None
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Parked:
    """Nobody can take it now: it waits on, and is not looked at for a while.  No state changes."""

    task_id: str
    not_before: datetime
    hopeless_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Retried:
    """The attempt came to nothing: → retry.

    ``how`` says lost (the worker or its runner lost it) or expired (silence); ``counts`` whether
    it is one of the task's ``max_attempts``.
    """

    handle: str
    reason: str
    how: AttemptState = AttemptState.LOST
    counts: bool = True
    not_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The module is at fault or tries ran out: → failed, with its open attempt.

    ``how`` says what became of the attempt: failed, or as for `Retried` if that was the last try.
    """

    task_id: str
    reason: str
    how: AttemptState = AttemptState.FAILED


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The requester no longer wants it: → cancelled, with its open attempt."""

    task_id: str
    reason: str = "cancelled by the requester"


Change: TypeAlias = (
    Leased | Held | Started | Reported | Settled | Declined | Parked | Retried | Failed | Cancelled
)


_RETRIED_AS: Final = {
    AttemptState.LOST: AttemptEvent.LOSE,
    AttemptState.EXPIRED: AttemptEvent.EXPIRE,
    AttemptState.FAILED: AttemptEvent.FAIL,
}


@dataclass(frozen=True, slots=True)
class Written:
    """The rows that a call changed, as it left them; a task of which only attempts changed too."""

    tasks: tuple[Task, ...] = ()
    attempts: tuple[Attempt, ...] = ()


@dataclass(frozen=True, slots=True)
class LevelDelta:
    """What a change adds to the statistics of one privacy level."""

    submitted: int = 0
    accepted: int = 0
    failed: int = 0
    cancelled: int = 0
    attempts: int = 0
    retries: int = 0
    run_ms: int = 0

    def __add__(self, other: LevelDelta) -> LevelDelta:
        """Sum, field by field."""
        return LevelDelta(
            *(
                getattr(self, f.name) + getattr(other, f.name)
                for f in dataclasses.fields(LevelDelta)
            )
        )


@dataclass(frozen=True, slots=True)
class MadeUnder:
    """What was made under an idempotency key: the first task, and how many, where that is kept."""

    first: str
    count: int | None


@dataclass(slots=True)
class Rows:
    """The rows that a batch touches, as read and as changed so far.

    Attributes:
        owner: the backend that changes them; None where there is only one.
        fenced: whether it was taken for dead: it may act on no attempt.
    """

    owner: str | None = None
    fenced: bool = False
    tasks: dict[str, Task] = field(default_factory=dict)
    attempts: dict[str, Attempt] = field(default_factory=dict)
    results: dict[str, Reported] = field(default_factory=dict)  # by handle, newly reported
    statistics: dict[PrivacyLevel, LevelDelta] = field(default_factory=dict)
    history: list[Task] = field(default_factory=list)  # each state that a task came to
    keys: dict[str, MadeUnder] = field(default_factory=dict)
    damaged: dict[str, RowDamaged] = field(default_factory=dict)  # by id or handle, never changed

    def fork(self) -> Rows:
        """Return a copy to try changes on."""
        return Rows(
            self.owner,
            self.fenced,
            dict(self.tasks),
            dict(self.attempts),
            dict(self.results),
            dict(self.statistics),
            list(self.history),
            dict(self.keys),
            self.damaged,
        )

    def since(self, before: Rows) -> Written:
        """What was changed from ``before`` on."""
        attempts = [a for h, a in self.attempts.items() if before.attempts.get(h) is not a]
        touched = {attempt.task_id for attempt in attempts}
        tasks = [t for i, t in self.tasks.items() if i in touched or before.tasks.get(i) is not t]
        return Written(tuple(tasks), tuple(attempts))

    def task(self, task_id: str) -> Task:
        """Return a task, or raise `NotFound` or `RowDamaged`."""
        try:
            return self.tasks[task_id]
        except KeyError:
            raise self.damaged.get(task_id) or NotFound(f"there is no task {task_id}") from None

    def open_attempt(self, handle: str) -> tuple[Task, Attempt]:
        """Return the attempt and its task; raise unless it is the task's present attempt.

        And unless whoever changes it is its owner.
        """
        try:
            attempt = self.attempts[handle]
        except KeyError:
            raise self.damaged.get(handle) or NotFound(f"there is no attempt {handle}") from None
        task = self.task(attempt.task_id)
        if attempt.state not in OPEN_ATTEMPT_STATES or task.attempt != handle:
            raise Conflict(f"attempt {handle} is {attempt.state} and no longer open")
        self.check_owner(attempt)
        return task, attempt

    def check_owner(self, attempt: Attempt) -> None:
        """Raise unless whoever changes these rows acts on the attempt."""
        if self.fenced:
            raise Fenced
        if attempt.owner != self.owner:
            raise Conflict(f"another backend acts on attempt {attempt.handle}")

    def put_task(self, task: Task) -> None:
        """Keep a task's next state, with its place in the history."""
        self.tasks[task.id] = task
        self.history.append(task)

    def count(self, task: Task, delta: LevelDelta) -> None:
        """Add to the statistics of the task's level."""
        level = task.spec.privacy
        self.statistics[level] = self.statistics.get(level, LevelDelta()) + delta


def apply_change(rows: Rows, change: Change, now: datetime) -> None:
    """Carry out one change on ``rows``.

    Raises:
        Conflict: the present state does not allow it.
        NotFound: there is no such task or attempt.
    """
    try:
        _apply(rows, change, now)
    except InvalidTransition as err:
        raise Conflict(str(err)) from err


def _apply(rows: Rows, change: Change, now: datetime) -> None:
    match change:
        case Leased():
            _lease(rows, change, now)
        case Held() | Started():
            _sign_of_life(rows, change, now)
        case Reported() | Settled():
            _result(rows, change, now)
        case Declined() | Retried():
            _give_back(rows, change, now)
        case Parked():
            _park(rows, change)
        case Failed() | Cancelled():
            _end(rows, change, now)


def _lease(rows: Rows, change: Leased, now: datetime) -> None:
    task = rows.task(change.task_id)
    if rows.fenced:
        raise Fenced
    if change.handle in rows.attempts:
        raise Conflict(f"attempt {change.handle} exists already")
    number = task.leases + 1
    rows.put_task(
        dataclasses.replace(
            task.after(TaskEvent.LEASE, now, reason=change.reason),
            attempt=change.handle,
            leases=number,
            not_before=None,
        )
    )
    rows.attempts[change.handle] = Attempt(
        handle=change.handle,
        task_id=task.id,
        number=number,
        worker=change.worker,
        address=change.address,
        state=AttemptState.OFFERED,
        lease_until=change.lease_until,
        created_at=now,
        updated_at=now,
        owner=rows.owner,
    )
    rows.count(task, LevelDelta(attempts=1))


def _sign_of_life(rows: Rows, change: Held | Started, now: datetime) -> None:
    task, attempt = rows.open_attempt(change.handle)
    event = AttemptEvent.HOLD if isinstance(change, Held) else AttemptEvent.START
    rows.attempts[change.handle] = attempt.after(event, now, lease_until=change.lease_until)
    if isinstance(change, Started):
        rows.put_task(dataclasses.replace(task.after(TaskEvent.START, now), hopeless_since=None))
    elif task.hopeless_since is not None:
        rows.tasks[task.id] = dataclasses.replace(task, hopeless_since=None)


def _park(rows: Rows, change: Parked) -> None:
    task = rows.task(change.task_id)
    if task.state not in WAITING_TASK_STATES:
        raise Conflict(f"task {task.id} is {task.state} and waits no more")
    rows.tasks[task.id] = dataclasses.replace(
        task, not_before=change.not_before, hopeless_since=change.hopeless_since
    )


def _result(rows: Rows, change: Reported | Settled, now: datetime) -> None:
    task, attempt = rows.open_attempt(change.handle)
    match change:
        case Reported():
            rows.attempts[change.handle] = attempt.after(AttemptEvent.REPORT, now)
            rows.put_task(task.after(TaskEvent.REPORT, now))
            rows.results[change.handle] = change
            rows.count(task, LevelDelta(run_ms=change.result.wall_ms))
        case Settled():
            rows.attempts[change.handle] = attempt.after(AttemptEvent.SETTLE, now)
            rows.put_task(task.after(TaskEvent.ACCEPT, now))
            rows.count(task, LevelDelta(accepted=1))


def _give_back(rows: Rows, change: Declined | Retried, now: datetime) -> None:
    task, attempt = rows.open_attempt(change.handle)
    attempt_event, task_event, counts = AttemptEvent.DECLINE, TaskEvent.RELEASE, False
    if isinstance(change, Retried):
        if change.how not in _RETRIED_AS:
            raise Conflict(f"an attempt is retried as lost, expired or failed, not as {change.how}")
        attempt_event = _RETRIED_AS[change.how]
        task_event, counts = TaskEvent.RETRY, change.counts
    refused = isinstance(change, Declined) and change.refused
    rows.attempts[change.handle] = dataclasses.replace(
        attempt.after(attempt_event, now, reason=change.reason), refused=refused
    )
    rows.put_task(
        dataclasses.replace(
            task.after(task_event, now, reason=change.reason),
            attempt=None,
            tries=task.tries + counts,
            not_before=change.not_before,
        )
    )
    if isinstance(change, Retried):
        rows.count(task, LevelDelta(retries=1))


def _end(rows: Rows, change: Failed | Cancelled, now: datetime) -> None:
    task = rows.task(change.task_id)
    counts = False
    if isinstance(change, Failed):
        counts = change.how is not AttemptState.FAILED
        attempt_event = _RETRIED_AS[change.how]
        task_event, delta = TaskEvent.FAIL, LevelDelta(failed=1)
    else:
        attempt_event = AttemptEvent.CANCEL
        task_event, delta = TaskEvent.CANCEL, LevelDelta(cancelled=1)
    after = dataclasses.replace(
        task.after(task_event, now, reason=change.reason), tries=task.tries + counts
    )
    attempt = None if task.attempt is None else rows.attempts.get(task.attempt)
    if attempt is not None and attempt.state in OPEN_ATTEMPT_STATES:
        if isinstance(change, Failed):  # a task may be cancelled through any backend
            rows.check_owner(attempt)
        rows.attempts[attempt.handle] = attempt.after(attempt_event, now, reason=change.reason)
    rows.put_task(after)
    rows.count(task, delta)


def new_tasks(rows: Rows, tasks: Sequence[Task], key: str | None = None) -> None:
    """Add tasks that were just described; they must be queued, and ids and key unused.

    The key leads to the first of them.
    """
    if key is not None:
        if key in rows.keys:
            raise Conflict("a task was made under this key already")
        rows.keys[key] = MadeUnder(tasks[0].id, len(tasks))
    for task in tasks:
        if task.id in rows.tasks or task.state is not TaskState.QUEUED:
            raise Conflict(f"task {task.id} exists already")
        rows.put_task(task)
    for level, made in Counter(task.spec.privacy for task in tasks).items():
        rows.statistics[level] = rows.statistics.get(level, LevelDelta()) + LevelDelta(
            submitted=made
        )


def names_of(changes: Iterable[Change]) -> tuple[set[str], set[str]]:
    """Return the task ids and the attempt handles that the changes name."""
    tasks: set[str] = set()
    handles: set[str] = set()
    for change in changes:
        if isinstance(change, Leased | Parked | Failed | Cancelled):
            tasks.add(change.task_id)
        if not isinstance(change, Parked | Failed | Cancelled):
            handles.add(change.handle)
    return tasks, handles
