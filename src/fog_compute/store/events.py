"""What happened to tasks, in one sequence, and waiting for what happens next."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Engine, RowMapping, func, select

from fog_compute.store import schema
from fog_compute.store.damage import Damaged, Damages, RowDamaged
from fog_compute.store.reader import Reader
from fog_compute.store.rows import BROKEN, Types, check_types
from fog_compute.store.tasks import Tasks
from fog_compute.tasks.model import Task, TaskState


@dataclass(frozen=True, slots=True)
class TaskEventRecord:
    """One state that a task came to; ``seq`` grows over all tasks."""

    seq: int
    task_id: str
    version: int
    state: TaskState
    attempt: str | None
    reason: str
    at: datetime
    batch: str | None


class Events(Reader):
    """The history of tasks."""

    __slots__ = ("_tasks", "_waiters")

    def __init__(self, engine: Engine, damages: Damages, tasks: Tasks) -> None:
        """Read from ``engine``."""
        super().__init__(engine, damages)
        self._tasks = tasks
        # By the id of a task or of a batch; None for any.
        self._waiters: dict[str | None, set[asyncio.Event]] = {}

    async def history(self, task_id: str) -> list[TaskEventRecord]:
        """Return the states that a task went through, in order."""
        query = (
            select(schema.events)
            .where(schema.events.c.task_id == task_id)
            .order_by(schema.events.c.version)
        )
        return self._damages.whole(await self.rows(query), event_of)

    async def after(
        self, since: int, limit: int, *, batch: str | None = None
    ) -> list[TaskEventRecord]:
        """Return what happened after the event ``since``, oldest first; of one batch or of all."""
        columns = schema.events.c
        while True:
            query = select(schema.events).where(columns.seq > since)
            if batch is not None:
                query = query.where(columns.batch == batch)
            rows = await self.rows(query.order_by(columns.seq).limit(limit))
            found = self._damages.whole(rows, event_of)
            if found or not rows:
                return found
            since = rows[-1]["seq"]  # all of them are damaged: what is behind them?

    async def newest(self) -> int:
        """Return the number of the last event; 0 if there was none."""
        (row,) = await self.rows(select(func.max(schema.events.c.seq).label("newest")))
        return row["newest"] or 0

    async def wait_after(
        self, since: int, limit: int, timeout_s: float, *, batch: str | None = None
    ) -> list[TaskEventRecord]:
        """Return what happened after the event ``since``, once there is something, as `after`.

        Nothing within ``timeout_s``: an empty list, for which the database was asked once.
        """
        with self._waiting_for(batch) as changed:
            try:
                async with asyncio.timeout(timeout_s):
                    while not (found := await self.after(since, limit, batch=batch)):
                        await changed.wait()
                        changed.clear()
                    return found
            except TimeoutError:
                return []

    async def wait(
        self, task_id: str, since: int, timeout_s: float, *, final: bool = False
    ) -> Task:
        """Return the task once its version is above ``since``, or as it is after ``timeout_s``.

        With ``final``, once it is over as well.

        Nothing within that time: the database was asked once.

        Raises:
            NotFound: there is no such task.
        """
        with self._waiting_for(task_id) as changed:
            task = await self._tasks.get(task_id)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    while task.version <= since or (final and not task.state.final):
                        await changed.wait()
                        changed.clear()
                        task = await self._tasks.get(task_id)
            return task

    @property
    def waited_for(self) -> bool:
        """Whether anybody waits for a change."""
        return bool(self._waiters)

    def announce(self, history: Sequence[Task]) -> None:
        """Wake who waits for these tasks; the writer calls it after each commit."""
        if not history or not self._waiters:
            return
        self.wake({None, *(task.id for task in history), *(task.batch for task in history)})

    def wake(self, names: AbstractSet[str | None]) -> None:
        """Wake who waits for tasks or batches of these ids; None wakes who waits for any."""
        for name in names & self._waiters.keys():
            for changed in self._waiters[name]:
                changed.set()

    def wake_all(self) -> None:
        """Let everybody look."""
        self.wake(self._waiters.keys())

    @contextmanager
    def wakes(self, changed: asyncio.Event) -> Iterator[None]:
        """Set ``changed`` at each commit after which there are events, as long as this lasts."""
        with self._waiting_for(None, changed):
            yield

    @contextmanager
    def _waiting_for(
        self, name: str | None, changed: asyncio.Event | None = None
    ) -> Iterator[asyncio.Event]:
        if changed is None:
            changed = asyncio.Event()
        waiters = self._waiters.setdefault(name, set())
        waiters.add(changed)
        try:
            yield changed
        finally:
            waiters.discard(changed)
            if not waiters and self._waiters.get(name) is waiters:
                del self._waiters[name]


def event_of(row: RowMapping) -> TaskEventRecord:
    """Return the event of a row.

    Raises:
        RowDamaged: it cannot be read.
    """
    try:
        check_types(row, _TYPES)
        return TaskEventRecord(
            seq=row["seq"],
            task_id=row["task_id"],
            version=row["version"],
            state=TaskState(row["state"]),
            attempt=row["attempt"],
            reason=row["reason"],
            at=row["at"],
            batch=row["batch"],
        )
    except BROKEN as err:
        raise RowDamaged(Damaged.of("events", row["seq"], err)) from err


_TYPES: Final[Types] = {
    **dict.fromkeys(("task_id", "reason"), (str,)),
    **dict.fromkeys(("seq", "version"), (int,)),
    "at": (datetime,),
}
