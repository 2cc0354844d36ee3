"""The open attempts in memory: one record for each, with its rows exactly as the store wrote them.

Tasks that wait are in the store alone. An error while something is being committed says nothing of
whether it was: whatever was being changed then is *unclear*, and is read again before memory is
relied on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from fog_compute.clock import Clock
from fog_compute.coordinator.attempts import OpenAttempt
from fog_compute.errors import NotFound
from fog_compute.observability import get_logger
from fog_compute.store import Change, Conflict, Failed, RowDamaged, Store
from fog_compute.store.changes import names_of
from fog_compute.tasks import WAITING_TASK_STATES, Attempt, Task

__all__ = ["Ledger", "Listener"]

_log = get_logger("fog_compute.coordinator")

ATTEMPT_DAMAGED: Final = "the database has no whole row of its attempt any more: submit it again"


@dataclass(frozen=True, slots=True)
class Listener:
    """Who hears of what was written.

    Attributes:
        attempt_begun: an attempt is open.
        attempt_over: one is no more; its row is the last one.
        attempt_left: another backend acts on it now.
        task_waits: a task waits for a worker (again).
        task_over: a task has its end.
    """

    attempt_begun: Callable[[OpenAttempt], None]
    attempt_over: Callable[[OpenAttempt], None]
    attempt_left: Callable[[OpenAttempt], None]
    task_waits: Callable[[Task], None]
    task_over: Callable[[Task], None]


class Ledger:
    """Attempts on which this backend acts; nothing of their rows is changed before it is on disk.

    Attributes:
        records: by handle.
    """

    __slots__ = ("_clock", "_listener", "_longest", "_of_task", "_store", "_unclear", "records")

    def __init__(self, store: Store, clock: Clock, lease: timedelta, listener: Listener) -> None:
        """Know nothing yet; see :meth:`load`. No lease is longer than ``lease``."""
        self._store: Final = store
        self._clock: Final = clock
        self._longest: Final = lease
        self._listener: Final = listener
        self._unclear: set[str] = set()
        self._of_task: Final[dict[str, OpenAttempt]] = {}
        self.records: Final[dict[str, OpenAttempt]] = {}

    @property
    def unclear(self) -> bool:
        """Whether rows must be read again, because nobody knows what was committed."""
        return bool(self._unclear)

    def of_task(self, task_id: str) -> OpenAttempt | None:
        """The open attempt of a task; None if there is none."""
        return self._of_task.get(task_id)

    async def load(self) -> list[OpenAttempt]:
        """Read the open attempts that are not known yet, each with a fresh lease.

        Nobody could hear a worker for this process before: its silence counts from now.

        Returns:
            Their records.

        Raises:
            StoreError: the database cannot be read, or takes no changes.
        """
        await self._store.touch()
        owner, known = self._store.owner, frozenset(self.records)
        tasks = {task.id: task for task in await self._store.tasks.with_open_attempts(owner)}
        # A task whose row is damaged is left out; one whose attempt's row is has its end.
        rows = [
            row for row in await self._store.attempts.open_attempts(owner) if row.task_id in tasks
        ]
        lost = await self._still_as(tasks.keys() - {row.task_id for row in rows}, tasks)
        for task in (*lost, *await self._store.tasks.stranded()):
            with contextlib.suppress(Conflict, NotFound, RowDamaged):
                await self._store.apply([Failed(task.id, ATTEMPT_DAMAGED)])
        until = self._clock.now() + self._longest
        return [
            self._begin(tasks[row.task_id], row, until)
            for row in rows
            if row.handle not in known and row.handle not in self.records
        ]

    async def _still_as(
        self, task_ids: Collection[str], before: Mapping[str, Task]
    ) -> Sequence[Task]:
        """Those of the tasks that are as they were: what was read meanwhile was of them."""
        now = await self._store.tasks.of_ids(task_ids)
        return [task for task in now if task.version == before[task.id].version]

    def let_go(self) -> None:
        """Forget all attempts: another backend acts on them now, or will."""
        for record in list(self.records.values()):
            self._leave(record)
        self._unclear.clear()

    def doubt(self, task_id: str, version: int) -> None:
        """Another process brought a task to a version: read it again if an older one is known."""
        record = self._of_task.get(task_id)
        if record is not None and record.task.version < version:
            self._unclear.add(task_id)

    async def apply(self, changes: Sequence[Change]) -> None:
        """Write changes in one transaction, and follow them in memory.

        Changes that the store refuses, because a row has moved on, are dropped: the rows are read
        again, and the next plan starts from what is so.

        Raises:
            StoreError: the database refused, perhaps after the changes were written; see `unclear`.
        """
        task_ids, handles = names_of(changes)
        task_ids |= {one.task.id for h in handles if (one := self.records.get(h)) is not None}
        try:
            written = await self._store.apply(changes)
        except (Conflict, NotFound) as error:
            _log.debug("change.refused", reason=str(error))
            self._unclear |= task_ids  # until they are read
            await self.read_unclear(task_ids)
        except BaseException:
            self._unclear |= task_ids
            raise
        else:
            self._take(written.tasks, written.attempts)

    async def read_unclear(self, task_ids: Collection[str] | None = None) -> None:
        """Read again what nobody knows the outcome of, or some of it.

        Raises:
            StoreError: the database cannot be read; it stays unclear.
        """
        task_ids = frozenset(self._unclear if task_ids is None else task_ids)
        attempts = await self._store.attempts.of_tasks(task_ids)
        tasks = await self._store.tasks.of_ids(task_ids)
        self._take(tasks, [one for of_task in attempts.values() for one in of_task])
        self._unclear -= task_ids

    def _take(self, tasks: Iterable[Task], rows: Iterable[Attempt]) -> None:
        """Follow rows as the store has them; attempts without their task are passed over."""
        by_handle = {row.handle: row for row in rows}
        ended: dict[str, list[OpenAttempt]] = {}
        for handle, row in by_handle.items():
            if row.state.final and (record := self.records.get(handle)) is not None:
                ended.setdefault(row.task_id, []).append(record)
        for task in tasks:
            known = self._of_task.get(task.id)
            if known is not None and known.task.version > task.version:
                continue  # read before it was changed
            for record in ended.get(task.id, ()):
                self._end(record, task, by_handle[record.handle])
            opened = by_handle.get(task.attempt or "")
            if opened is not None and not opened.state.final:
                self._take_open(task, opened)
            if task.state in WAITING_TASK_STATES:
                self._listener.task_waits(task)
            elif task.state.final:
                self._listener.task_over(task)

    def _take_open(self, task: Task, row: Attempt) -> None:
        record = self.records.get(row.handle)
        if row.owner != self._store.owner:
            if record is not None:
                self._leave(record)
        elif record is None:
            latest = self._clock.now() + self._longest
            self._begin(task, row, min(row.lease_until, latest))
        else:
            record.task, record.row = task, row

    def _begin(self, task: Task, row: Attempt, until: datetime) -> OpenAttempt:
        record = OpenAttempt(task, row, until)
        self.records[row.handle] = self._of_task[task.id] = record
        self._listener.attempt_begun(record)
        return record

    def _end(self, record: OpenAttempt, task: Task, row: Attempt) -> None:
        record.task, record.row = task, row
        self._drop(record)
        self._listener.attempt_over(record)

    def _leave(self, record: OpenAttempt) -> None:
        self._drop(record)
        self._listener.attempt_left(record)

    def _drop(self, record: OpenAttempt) -> None:
        del self.records[record.handle]
        if self._of_task.get(record.task.id) is record:
            del self._of_task[record.task.id]
