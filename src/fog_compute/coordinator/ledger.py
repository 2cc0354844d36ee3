"""The open attempts and their tasks in memory, exactly as the store wrote them.

Tasks that wait are in the store alone. An error while something is being committed says nothing of
whether it was: whatever was being changed then is *unclear*, and is read again before memory is
relied on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from fog_compute.clock import Clock
from fog_compute.errors import NotFound
from fog_compute.observability import get_logger
from fog_compute.store import Change, Conflict, Store
from fog_compute.store.changes import names_of
from fog_compute.tasks import WAITING_TASK_STATES, Attempt, Task

__all__ = ["Ledger", "Listener"]

_log = get_logger("fog_compute.coordinator")


@dataclass(frozen=True, slots=True)
class Listener:
    """Who hears of what was written; the row is in the ledger while it is told.

    Attributes:
        attempt_begun: an attempt is open.
        attempt_over: one is no more.
        task_waits: a task waits for a worker (again).
        task_over: a task has its end.
    """

    attempt_begun: Callable[[Attempt], None]
    attempt_over: Callable[[Attempt], None]
    task_waits: Callable[[Task], None]
    task_over: Callable[[Task], None]


class Ledger:
    """Attempts that are open, and their tasks; nothing is changed here before it is on disk.

    Attributes:
        tasks: tasks with an open attempt, by id.
        attempts: open attempts by handle; their leases are those of memory, which are longer.
    """

    __slots__ = ("_clock", "_listener", "_longest", "_store", "_unclear", "attempts", "tasks")

    def __init__(self, store: Store, clock: Clock, lease: timedelta, listener: Listener) -> None:
        """Know nothing yet; see :meth:`load`. No lease is longer than ``lease``."""
        self._store: Final = store
        self._clock: Final = clock
        self._longest: Final = lease
        self._listener: Final = listener
        self._unclear: set[str] = set()
        self.tasks: Final[dict[str, Task]] = {}
        self.attempts: Final[dict[str, Attempt]] = {}

    @property
    def unclear(self) -> bool:
        """Whether rows must be read again, because nobody knows what was committed."""
        return bool(self._unclear)

    async def load(self) -> None:
        """Read the open attempts, each with a fresh lease.

        Nobody could hear a worker while this process was away: its silence counts from now.

        Raises:
            StoreError: the database cannot be read, or takes no changes.
        """
        await self._store.touch()
        tasks = await self._store.tasks.with_open_attempts()
        for attempt in await self._store.attempts.open_attempts():
            self.attempts[attempt.handle] = attempt
            self.renew(attempt.handle)
        self.tasks.update({task.id: task for task in tasks})
        for attempt in self.attempts.values():
            self._listener.attempt_begun(attempt)

    def task_of(self, handle: str) -> tuple[Task, Attempt] | None:
        """An open attempt and its task; None if it is over."""
        attempt = self.attempts.get(handle)
        return None if attempt is None else (self.tasks[attempt.task_id], attempt)

    async def apply(self, changes: Sequence[Change]) -> None:
        """Write changes in one transaction, and follow them in memory.

        Changes that the store refuses, because a row has moved on, are dropped: the rows are read
        again, and the next plan starts from what is so.

        Raises:
            StoreError: the database refused, perhaps after the changes were written; see `unclear`.
        """
        task_ids, handles = names_of(changes)
        task_ids |= {one.task_id for h in handles if (one := self.attempts.get(h)) is not None}
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

    def renew(self, handle: str, lease: timedelta | None = None) -> None:
        """Lengthen the lease of an open attempt; a later run would give it a fresh one anyway."""
        if attempt := self.attempts.get(handle):
            until = self._clock.now() + (self._longest if lease is None else lease)
            self.attempts[handle] = replace(attempt, lease_until=until)

    def _take(self, tasks: Iterable[Task], attempts: Iterable[Attempt]) -> None:
        """Follow rows as the store has them; attempts without their task are passed over."""
        by_handle = {attempt.handle: attempt for attempt in attempts}
        for task in tasks:
            known = self.tasks.get(task.id)
            if known is not None and known.version > task.version:
                continue  # read before it was changed
            opened = by_handle.get(task.attempt or "")
            if opened is not None and not opened.state.final:
                self.tasks[task.id] = task
                self._take_open(opened)
            ended = [self.attempts[h] for h in by_handle if h in self.attempts]
            for attempt in ended:
                if attempt.task_id == task.id and by_handle[attempt.handle].state.final:
                    self._listener.attempt_over(by_handle[attempt.handle])
                    del self.attempts[attempt.handle]
            if opened is None or opened.state.final:
                self.tasks.pop(task.id, None)
            if task.state in WAITING_TASK_STATES:
                self._listener.task_waits(task)
            elif task.state.final:
                self._listener.task_over(task)

    def _take_open(self, attempt: Attempt) -> None:
        known = self.attempts.get(attempt.handle)
        latest = self._clock.now() + self._longest
        until = attempt.lease_until if known is None else known.lease_until
        self.attempts[attempt.handle] = replace(attempt, lease_until=min(until, latest))
        if known is None:
            self._listener.attempt_begun(attempt)
