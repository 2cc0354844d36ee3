"""What the store has of a task that is looked at again and again: read once for each version."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Final

from fog_compute.coordinator.fog import FogCoordinator
from fog_compute.errors import NotFound
from fog_compute.store import Store, StoredResult, TaskEventRecord
from fog_compute.tasks import Attempt, Task, TaskState

__all__ = ["Detail", "Details"]

MOST_TASKS: Final = 1024


@dataclass(frozen=True, slots=True)
class Detail:
    """The rows of one task beside its own."""

    attempts: tuple[Attempt, ...]
    history: tuple[TaskEventRecord, ...]
    result: StoredResult | None = None


class Details:
    """Reads the rows of tasks, and remembers those of the open ones that were asked for last."""

    def __init__(self, most: int = MOST_TASKS) -> None:
        """Remember ``most`` tasks."""
        self._most: Final = most
        self._known: Final[OrderedDict[str, tuple[int, Detail]]] = OrderedDict()

    async def of(self, task: Task, store: Store, coordinator: FogCoordinator) -> Detail:
        """Return the rows of a task as it stands.

        A version says all but how far its open attempt is, which the coordinator knows that has
        it. What another coordinator has is read anew each time, and so is what is over: results
        have a time to live.
        """
        version, detail = self._known.pop(task.id, (None, None))
        now = coordinator.open_attempt(task)
        if detail is None or version != task.version or (task.attempt is not None and now is None):
            detail = await _read(task, store)
        elif now is not None:
            current = (now if now.handle == each.handle else each for each in detail.attempts)
            detail = replace(detail, attempts=tuple(current))
        if not task.state.final:
            self._known[task.id] = task.version, detail
            if len(self._known) > self._most:
                self._known.popitem(last=False)
        return detail


async def _read(task: Task, store: Store) -> Detail:
    result = None
    if task.state in (TaskState.ACCEPTED, TaskState.FAILED):
        with contextlib.suppress(NotFound):
            result = await store.results.get(task.id)
    attempts = await store.attempts.of_task(task.id)
    return Detail(tuple(attempts), tuple(await store.events.history(task.id)), result)
