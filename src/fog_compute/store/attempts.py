"""Reading the attempts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import select

from fog_compute.errors import NotFound
from fog_compute.store import schema
from fog_compute.store.reader import Reader
from fog_compute.store.rows import attempt_of
from fog_compute.tasks.model import OPEN_ATTEMPT_STATES, Attempt


class Attempts(Reader):
    """Attempts: finding them."""

    __slots__ = ()

    async def get(self, handle: str) -> Attempt:
        """Return one attempt, or raise `NotFound`."""
        rows = await self.rows(select(schema.attempts).where(schema.attempts.c.handle == handle))
        if not rows:
            raise NotFound(f"there is no attempt {handle}")
        return attempt_of(rows[0])

    async def of_task(self, task_id: str) -> list[Attempt]:
        """Return a task's attempts, first to last."""
        query = (
            select(schema.attempts)
            .where(schema.attempts.c.task_id == task_id)
            .order_by(schema.attempts.c.number)
        )
        return self._damages.whole(await self.rows(query), attempt_of)

    async def of_tasks(self, task_ids: Collection[str]) -> Mapping[str, Sequence[Attempt]]:
        """Return the attempts of each of the tasks that has any, first to last."""
        columns = schema.attempts.c
        query = select(schema.attempts).order_by(columns.task_id, columns.number)
        found: dict[str, list[Attempt]] = {}
        rows = await self.rows_of(query, columns.task_id, task_ids)
        for attempt in self._damages.whole(rows, attempt_of):
            found.setdefault(attempt.task_id, []).append(attempt)
        return found

    async def open_attempts(self, owner: str | None = None) -> list[Attempt]:
        """Return every attempt of this owner that is not over, oldest first."""
        query = (
            select(schema.attempts)
            .where(schema.attempts.c.state.in_([s.value for s in OPEN_ATTEMPT_STATES]))
            .where(schema.attempts.c.owner == owner)
            .order_by(schema.attempts.c.created_at, schema.attempts.c.handle)
        )
        return self._damages.whole(await self.rows(query), attempt_of)
