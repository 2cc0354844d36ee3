"""The store's open rows in memory: written through, and followed by the store's own function.

An error while something is being committed says nothing of whether it was. So whatever was being
changed then is *unclear*, and is read again before memory is relied on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final

from fog_compute.clock import Clock
from fog_compute.errors import NotFound, StoreError
from fog_compute.observability import get_logger
from fog_compute.store import Change, Conflict, Leased, Renewed, Store
from fog_compute.store.changes import Rows, apply_change, names_of
from fog_compute.tasks import Attempt, Task, TaskSpec

__all__ = ["Ledger"]

_log = get_logger("fog_compute.coordinator")


class Ledger:
    """Tasks and attempts that are not over, oldest first.

    Nothing is changed here before it is on disk. Whoever ends is forgotten, after the
    callbacks have heard of it; an attempt that begins is told too.
    """

    __slots__ = (
        "_attempt_begun",
        "_attempt_over",
        "_clock",
        "_longest",
        "_rows",
        "_store",
        "_task_over",
        "_unclear",
        "_unclear_new",
    )

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        attempt_begun: Callable[[Attempt], None],
        attempt_over: Callable[[Attempt], None],
        task_over: Callable[[Task], None],
    ) -> None:
        """Know nothing yet; see :meth:`load`."""
        self._store: Final = store
        self._clock: Final = clock
        self._attempt_begun: Final = attempt_begun
        self._attempt_over: Final = attempt_over
        self._task_over: Final = task_over
        self._rows: Final = Rows()
        self._longest = timedelta()
        self._unclear: set[str] = set()
        self._unclear_new = False

    @property
    def tasks(self) -> dict[str, Task]:
        """Open tasks by id."""
        return self._rows.tasks

    @property
    def attempts(self) -> dict[str, Attempt]:
        """Open attempts by handle."""
        return self._rows.attempts

    @property
    def unclear(self) -> bool:
        """Whether rows must be read again, because nobody knows what was committed."""
        return bool(self._unclear) or self._unclear_new

    async def load(self, lease: timedelta) -> None:
        """Read the open rows, and give every open attempt a fresh lease.

        Nobody could hear a worker while this process was away: its silence counts from now.
        """
        self._longest = lease
        until = self._clock.now() + lease
        open_attempts = await self._store.attempts.open_attempts()
        await self._store.apply([Renewed(attempt.handle, until) for attempt in open_attempts])
        self.tasks.update({task.id: task for task in await self._store.tasks.open_tasks()})
        for attempt in await self._store.attempts.open_attempts():
            self.attempts[attempt.handle] = self._within_lease(attempt)
            self._attempt_begun(attempt)

    async def create(self, spec: TaskSpec, key: str | None) -> Task:
        """Queue a task; see ``Tasks.create``."""
        try:
            task = await self._store.tasks.create(spec, key)
        except StoreError as error:
            self._unclear_new |= not isinstance(error, Conflict)
            raise
        self.tasks[task.id] = task
        return task

    def task_of(self, handle: str) -> tuple[Task, Attempt] | None:
        """An open attempt and its task; None if it is over."""
        attempt = self.attempts.get(handle)
        return None if attempt is None else (self.tasks[attempt.task_id], attempt)

    async def apply(self, changes: Sequence[Change]) -> None:
        """Write changes, then follow them in memory.

        Changes that the store refuses, because the row has moved on, are dropped: the rows are
        read again, and the next plan starts from what is so.

        Raises:
            StoreError: the database cannot be written; nothing changed.
        """
        if not changes:
            return
        task_ids, handles = names_of(changes)
        task_ids |= {one.task_id for h in handles if (one := self.attempts.get(h)) is not None}
        try:
            await self._store.apply(changes)
            now = self._clock.now()
            for change in changes:
                apply_change(self._rows, change, now)
                if isinstance(change, Leased):
                    self._attempt_begun(self.attempts[change.handle])
        except (Conflict, NotFound) as error:
            _log.debug("change.refused", reason=str(error))
            await self._read_again(task_ids)
        except BaseException:
            self._unclear |= task_ids
            raise
        self._rows.results.clear()
        self._rows.statistics.clear()
        self._rows.history.clear()
        self._let_go(task_ids)

    async def read_unclear(self) -> None:
        """Read again what nobody knows the outcome of.

        Raises:
            StoreError: the database cannot be read; it stays unclear.
        """
        if self._unclear_new:
            for task in await self._store.tasks.open_tasks():
                self.tasks.setdefault(task.id, task)
            self._unclear_new = False
        await self._read_again(set(self._unclear))

    def renew_in_memory(self, handle: str, lease: timedelta) -> None:
        """Lengthen a lease without writing it; the next sign of life writes one."""
        if handle in self.attempts:
            now = self._clock.now()
            apply_change(self._rows, Renewed(handle, now + lease), now)

    async def _read_again(self, task_ids: set[str]) -> None:
        self._unclear |= task_ids  # until it was read
        for task_id in task_ids & self.tasks.keys():
            attempts = await self._store.attempts.of_task(task_id)
            task = await self._store.tasks.get(task_id)
            if task.version < self.tasks[task_id].version:
                continue  # something was committed while this was read
            self.tasks[task_id] = task
            for attempt in attempts:
                known = attempt.handle in self.attempts
                if known or not attempt.state.final:
                    self.attempts[attempt.handle] = self._within_lease(attempt)
                if not known and not attempt.state.final:
                    self._attempt_begun(attempt)
        self._unclear -= task_ids
        self._let_go(task_ids)

    def _within_lease(self, attempt: Attempt) -> Attempt:
        """Cut a lease to what it can be: an earlier run may have had another clock or setting."""
        latest = self._clock.now() + self._longest
        return replace(attempt, lease_until=min(attempt.lease_until, latest))

    def _let_go(self, task_ids: set[str]) -> None:
        """Forget what is over."""
        for handle, attempt in tuple(self.attempts.items()):
            if attempt.task_id in task_ids and attempt.state.final:
                self._attempt_over(attempt)
                del self.attempts[handle]
        for task_id in task_ids:
            task = self.tasks.get(task_id)
            if task is not None and task.state.final:
                self._task_over(task)
                del self.tasks[task_id]
