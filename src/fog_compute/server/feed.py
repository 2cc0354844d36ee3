"""One reading of the events for all who listen, and no event lost to who is slow.

The store is asked once for each commit, however many listen. What it gives is kept for a while in
one place; a listener is no more than a cursor into it, so a thousand of them hold next to nothing.
Whoever falls behind what is kept reads the rest from the store, at his own pace, and one such
listener after the other: whoever else asks the store something stands behind one of them at most.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from fog_compute.backoff import Backoff
from fog_compute.clock import Clock
from fog_compute.errors import FogError, ServiceUnavailable
from fog_compute.observability import get_logger
from fog_compute.server.task_schemas import TaskEventOut
from fog_compute.store import TaskEventRecord

__all__ = ["EventSource", "Feed", "Kept"]

_log = get_logger("fog_compute.server")

Unless: TypeAlias = Callable[[Coroutine[object, object, object]], Awaitable[object]]

KEPT_EVENTS: Final = 4096
AT_ONCE: Final = 256
"""Events in one piece of an answer, and read of the store at once."""
BEAT_S: Final = 15.0
"""Pause between signs of life, which keep what is in between from closing a silent connection."""
RETRY_MS: Final = 2000
"""After how long a listener that lost its connection is to come back."""
AGAIN: Final = Backoff(0.1, 5.0)


class EventSource(Protocol):
    """What a feed asks of the store; `fog_compute.store.Events` is one."""

    async def newest(self) -> int:
        """The number of the last event."""
        ...

    async def after(
        self, since: int, limit: int, *, batch: str | None = None
    ) -> list[TaskEventRecord]:
        """What happened after an event, oldest first; of one batch or of all."""
        ...

    def wakes(self, changed: asyncio.Event) -> AbstractContextManager[None]:
        """Set ``changed`` at each commit after which there are events."""
        ...


@dataclass(frozen=True, slots=True)
class _Frame:
    seq: int
    batch: str | None
    text: bytes


class Kept:
    """The latest events, without a gap, as listeners get them.

    Attributes:
        behind: the event after which all are here.
        newest: the last event that is known.
    """

    __slots__ = ("_frames", "_most", "behind", "newest")

    def __init__(self, newest: int, most: int) -> None:
        """Know of all events up to ``newest`` that they were, and keep ``most`` of those after."""
        self._most: Final = most
        self._frames: list[_Frame] = []
        self.behind = self.newest = newest

    def add(self, events: Sequence[TaskEventRecord]) -> None:
        """Keep events that follow upon `newest`; the oldest go where there is no room."""
        self._frames += [_frame_of(event) for event in events]
        if events:
            self.newest = events[-1].seq
        if (surplus := len(self._frames) - self._most) > 0:
            self.behind = self._frames[surplus - 1].seq
            del self._frames[:surplus]

    def after(self, cursor: int, batch: str | None) -> tuple[bytes, int]:
        """What comes after a cursor that is not before `behind`, and the cursor behind that."""
        start = bisect_right(self._frames, cursor, key=lambda frame: frame.seq)
        frames = self._frames[start : start + AT_ONCE]
        text = b"".join(one.text for one in frames if batch is None or one.batch == batch)
        return text, frames[-1].seq if frames else max(cursor, self.newest)


class Feed:
    """Tells listeners of events as they are committed, until it ends."""

    def __init__(
        self,
        events: Callable[[], EventSource],
        clock: Clock,
        most: int,
        *,
        kept: int = KEPT_EVENTS,
    ) -> None:
        """Read nothing before somebody listens.

        Args:
            events: gives the events of the store as it is now; raises while there is none.
            clock: for signs of life.
            most: listeners that there may be.
            kept: events that are at hand for all of them.
        """
        self._events: Final = events
        self._clock: Final = clock
        self._most: Final = most
        self._room: Final = kept
        self._kept: Kept | None = None  # None while nobody listens
        self._listeners = 0
        self._turn: Final = asyncio.Lock()  # of those who are behind
        self._look: Final = asyncio.Event()  # there may be something to read, or nobody to read for
        self._moved = asyncio.Event()  # serves once: all who wait are woken together
        self._beats = 0
        self._ended = False

    @property
    def listeners(self) -> int:
        """How many listen now."""
        return self._listeners

    def check_room(self) -> None:
        """Refuse one listener more than there may be.

        Raises:
            ServiceUnavailable: there is no room.
        """
        if self._listeners >= self._most:
            raise ServiceUnavailable(
                f"{self._listeners} listen to events already: ask with wait= instead, or later"
            )

    async def follow(self, since: int | None, batch: str | None) -> AsyncGenerator[bytes, None]:
        """Give what happens after an event, by default from now on, as ``text/event-stream``.

        Each event comes once, in the order of their numbers, and none is left out. It ends with
        the feed.
        """
        self._listeners += 1
        if self._kept is None:
            self._look.set()
        try:
            while self._kept is None and not self._ended:
                await self._moved.wait()
            if (kept := self._kept) is None:
                return
            cursor = kept.newest if since is None else min(since, kept.newest)
            yield f"retry: {RETRY_MS}\nid: {cursor}\n\n".encode()
            beats = self._beats
            while not self._ended:
                moved = self._moved
                text, cursor = await self._next(kept, cursor, batch)
                if not text and beats != self._beats:
                    text = f": still here\nid: {cursor}\n\n".encode()
                if text:
                    beats = self._beats
                    yield text
                elif cursor >= kept.newest:
                    await moved.wait()
        finally:
            self._listeners -= 1
            if not self._listeners:
                self._look.set()

    async def _next(self, kept: Kept, cursor: int, batch: str | None) -> tuple[bytes, int]:
        if cursor >= kept.behind:
            return kept.after(cursor, batch)
        known = kept.newest  # whatever has a number up to this is in the store
        try:
            async with self._turn:
                found = await self._events().after(cursor, AT_ONCE, batch=batch)
        except FogError:
            await self._moved.wait()
            return b"", cursor
        text = b"".join(_frame_of(event).text for event in found)
        last = found[-1].seq if found else cursor
        return text, last if len(found) == AT_ONCE else max(last, known)

    @asynccontextmanager
    async def running(self, unless_stopping: Unless) -> AsyncIterator[None]:
        """Read for all listeners as long as this lasts, and ``unless_stopping`` lets it."""
        reading = asyncio.create_task(self._run(unless_stopping), name="feed")
        try:
            yield
        finally:
            reading.cancel()
            await asyncio.wait({reading})

    async def _run(self, unless_stopping: Unless) -> None:
        try:
            await unless_stopping(self._work())
        except Exception:  # noqa: BLE001  # nobody waits for this task before the end
            _log.exception("feed.crashed")
        finally:
            self._ended, self._kept = True, None  # who comes to it now is let go at once
            self._wake()

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._beat())
            tasks.create_task(self._read_on())

    async def _read_on(self) -> None:
        failures = 0
        while True:
            try:
                await self._read()
                failures = 0
            except FogError as error:
                if not failures:
                    _log.warning("feed.waits", reason=error.message)
                await self._clock.sleep(AGAIN.after(failures))
                failures += 1

    async def _read(self) -> None:
        """Read while somebody listens, and the store stays the same."""
        while not self._listeners:
            self._look.clear()
            await self._look.wait()
        events = self._events()
        with events.wakes(self._look):
            if self._kept is None:
                self._look.clear()
                self._kept = Kept(await events.newest(), self._room)
                self._wake()
            else:
                self._look.set()  # for what happened meanwhile
            while self._listeners and self._events() is events:
                await self._look.wait()
                self._look.clear()
                while found := await events.after(self._kept.newest, AT_ONCE):
                    self._kept.add(found)
                    self._wake()
                    if len(found) < AT_ONCE:
                        break
        if not self._listeners:
            self._kept = None

    async def _beat(self) -> None:
        while True:
            await self._clock.sleep(BEAT_S)
            self._beats += 1
            self._wake()
            self._look.set()

    def _wake(self) -> None:
        woken, self._moved = self._moved, asyncio.Event()
        woken.set()


def _frame_of(event: TaskEventRecord) -> _Frame:
    data = TaskEventOut.of(event).model_dump_json()
    return _Frame(
        event.seq, event.batch, f"id: {event.seq}\nevent: task\ndata: {data}\n\n".encode()
    )
