"""What other processes wrote, as it is heard here: their commits wake who waits in this one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from sqlalchemy import select

from fog_compute.clock import Clock
from fog_compute.errors import StoreError
from fog_compute.levels import PrivacyLevel
from fog_compute.observability import get_logger
from fog_compute.store import schema
from fog_compute.store.bells import Bell
from fog_compute.store.events import Events
from fog_compute.store.reader import Query, Reader
from fog_compute.tasks.model import Task, TaskState

__all__ = ["Echo", "Heard", "Listener"]

_log = get_logger("fog_compute.store")

AT_ONCE: Final = 1000
"""Events that are read at once."""

EVERY_S: Final = 2.0
"""Longest time between two looks, whether or not a bell rang."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A state that a task came to through another process."""

    task_id: str
    version: int
    state: str
    privacy: str

    @property
    def waits(self) -> PrivacyLevel | None:
        """The level at which it waits for a worker now; None if it does not."""
        return PrivacyLevel(self.privacy) if self.state in _WAITS else None


Listener: TypeAlias = Callable[[Sequence[Heard]], None]

_WAITS: Final = frozenset({TaskState.QUEUED.value, TaskState.RETRY.value})


class Echo:
    """Follows the sequence of events, and passes over what this process wrote.

    The sequence has no gaps that are filled later: who adds events does so alone, to the commit.
    """

    __slots__ = ("_before", "_bells", "_clock", "_events", "_own", "_reader", "_rung", "_seen")

    def __init__(self, reader: Reader, events: Events, bells: Sequence[Bell], clock: Clock) -> None:
        """Hear nothing before `run`."""
        self._reader: Final = reader
        self._events: Final = events
        self._bells: Final = bells
        self._clock: Final = clock
        self._rung: Final = asyncio.Event()
        self._seen: int | None = None
        # What was written here and not read yet, and what of it was there at the look before.
        self._own: set[tuple[str, int]] = set()
        self._before: set[tuple[str, int]] = set()

    @property
    def troubles(self) -> tuple[str, ...]:
        """Why bells are not heard, one line for each that is not."""
        return tuple(bell.trouble for bell in self._bells if bell.trouble)

    def wrote(self, history: Sequence[Task]) -> None:
        """This process wrote these states: others are to hear of them, and nobody here again."""
        if history and self._seen is not None:
            self._own.update((task.id, task.version) for task in history)
            for bell in self._bells:
                bell.ring()

    async def run(self, listener: Listener) -> None:
        """Wake who waits for what others write, and tell ``listener``; until cancelled."""
        async with asyncio.TaskGroup() as going:
            for bell in self._bells:
                going.create_task(bell.run(self._rung.set))
            while True:
                self._rung.clear()
                try:
                    await self._look(listener)
                except StoreError as error:
                    _log.debug("echo.failed", reason=str(error))
                await self._next()

    async def _next(self) -> None:
        waits = {
            asyncio.create_task(self._wait_for_bell()),
            asyncio.create_task(self._clock.sleep(EVERY_S)),
        }
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()

    async def _wait_for_bell(self) -> None:
        await self._rung.wait()

    async def _look(self, listener: Listener) -> None:
        """Read on to the end of the sequence."""
        if self._seen is None:
            self._seen = await self._events.newest()
            # Whoever began to wait before has looked at what was there then, and not since.
            self._events.wake_all()
            return
        while True:
            rows = await self._reader.rows(_after(self._seen))
            heard, names = [], set[str | None]()
            for row in rows:
                if (mark := (row["task_id"], row["version"])) in self._own:
                    self._own.discard(mark)
                    continue
                names |= {None, row["task_id"], row["batch"]}
                heard.append(Heard(*mark, row["state"], row["privacy"]))
            if heard:
                self._events.wake(names)
                listener(heard)
            if rows:
                self._seen = rows[-1]["seq"]
            if len(rows) < AT_ONCE:
                break
        # What was read before it was noted here, and so came too late, would stay for ever.
        self._own -= self._before
        self._before = set(self._own)


def _after(seen: int) -> Query:
    events, tasks = schema.events, schema.tasks
    return (
        select(
            *(events.c.seq, events.c.task_id, events.c.version, events.c.batch, events.c.state),
            tasks.c.privacy,
        )
        .join(tasks, tasks.c.id == events.c.task_id)
        .where(events.c.seq > seen)
        .order_by(events.c.seq)
        .limit(AT_ONCE)
    )
