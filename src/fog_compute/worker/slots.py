"""The slots of a worker: which of them can run tasks, and the attempt that each runs."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from fog_compute.backoff import Backoff
from fog_compute.clock import Clock
from fog_compute.observability import get_logger
from fog_compute.tasks.messages import QUEUED
from fog_compute.tasks.model import Fault, Limits, TaskKind
from fog_compute.tasks.result import TaskResult
from fog_compute.tasks.sealing import BadBlob
from fog_compute.text import one_line
from fog_compute.worker.attempts import Early, Held, loader, open_job
from fog_compute.worker.cache import BlobCache, BlobGone
from fog_compute.worker.holdings import Holdings
from fog_compute.worker.journal import JournalUnusable
from fog_compute.worker.process import RunnerLost
from fog_compute.worker.protocol import NEVER_EXITED, Wall
from fog_compute.worker.python import Preparation, PythonUnusable
from fog_compute.worker.release import Releases
from fog_compute.worker.settings import WorkerSettings
from fog_compute.worker.slot import RunnerSlot
from fog_compute.worker.watcher import Watcher
from fog_compute.worker.workplace import FREE_BYTES, NoRoom, room_for

__all__ = ["Slots"]

RESTART: Final = Backoff(1, 60)

_log = get_logger("fog_compute.worker")


class Slots:
    """Runs what is held, one attempt in each slot.

    Attributes:
        settings: what this machine lends, which may be less than what its owner wants to.
        draining: no attempt is begun any more.
        changed: set when what is lent changes, and replaced by another one then.
        walls: those that a runner raised around itself, or could not; none before the first.
    """

    def __init__(
        self,
        home: Path,
        settings: WorkerSettings,
        holdings: Holdings,
        cache: BlobCache,
        releases: Releases,
        clock: Clock,
        on_trouble: Callable[[str], None],
        watcher: Watcher,
    ) -> None:
        """Nothing runs before `serve`; see `WorkerAgent` for ``on_trouble`` and ``watcher``."""
        # Scripts are taken once one has run here.
        kinds = tuple(kind for kind in settings.kinds if kind != TaskKind.PYTHON)
        self._wants_scripts: Final = TaskKind.PYTHON in settings.kinds
        self.settings = dataclasses.replace(settings, kinds=kinds)
        self.draining = False
        self.walls: tuple[Wall, ...] = ()
        self.changed = asyncio.Event()
        self._scripts: Final = Preparation(home, settings.interpreters, clock)
        self._watcher: Final = watcher
        self._slots: Final = [
            RunnerSlot(home / "slots" / str(i), home / "compiled", settings.memory_bytes, watcher)
            for i in range(settings.slots)
        ]
        self._holdings: Final = holdings
        self._cache: Final = cache
        self._releases: Final = releases
        self._clock: Final = clock
        self._able: Final[set[RunnerSlot]] = set()  # a runner works in them, or will in a moment
        self._tried: Final = asyncio.Event()  # one slot at least could be used, now or before
        self._lacking: Final[dict[RunnerSlot, NoRoom]] = {}  # what they must have before they go on
        self._trouble = ""  # why slots cannot be used, as it was last told
        self._turned_down = ""  # why a task was, for want of room on the disk, if the last one was
        self._on_trouble: Final = on_trouble

    def __iter__(self) -> Iterator[RunnerSlot]:
        """All of them."""
        return iter(self._slots)

    @property
    def able(self) -> int:
        """How many can run tasks."""
        return len(self._able)

    @property
    def trouble(self) -> str:
        """Why slots cannot be used, or not by every task; empty if they can."""
        return self._trouble or self._turned_down

    @property
    def closed(self) -> bool:
        """Whether no attempt can be taken: the worker ends, or this machine runs no tasks."""
        return self.draining or (self._tried.is_set() and not self._able)

    async def tried(self) -> None:
        """Return once it is known whether this machine can run tasks."""
        await self._tried.wait()

    async def close(self) -> None:
        """End all runners."""
        await asyncio.gather(self._scripts.close(), *(slot.close() for slot in self._slots))

    @property
    def lacking(self) -> str:
        """Why this machine takes no scripts although its owner wants to; empty otherwise."""
        wanting = self._wants_scripts and self._scripts.runtime is None
        return self._scripts.lacking if wanting else ""

    async def prepare_scripts(self) -> None:
        """Make the interpreter ready beside all else, and lend it once it works."""
        if not self._wants_scripts:
            return
        await self.tried()
        if await self._scripts.done():
            kinds = (*self.settings.kinds, TaskKind.PYTHON.value)
            self.settings = dataclasses.replace(self.settings, kinds=kinds)
            self.changed.set()
            self.changed = asyncio.Event()

    def check_room(self, limits: Limits) -> None:
        """Raise `NoRoom` if the disk has too little for a task with ``limits`` to be begun."""
        try:
            for slot in self._slots[:1]:  # they share a disk
                slot.place.check_free(room_for(limits))
        except NoRoom as err:
            if not self._turned_down:
                _log.warning("task.turned_down", reason=err.message)
            self._turned_down = err.message
            raise
        self._turned_down = ""

    async def serve(self, slot: RunnerSlot) -> None:
        """Run one attempt after the other in a slot, until cancelled."""
        await self._replace_runner(slot)
        while True:
            match await self._holdings.next():
                case Held() as held:
                    await self._attempt(slot, held)
                case Early() as early:
                    await self._compile(slot, early)
            await self._replace_runner(slot)

    async def _attempt(self, slot: RunnerSlot, held: Held) -> None:
        held.slot = slot
        held.running = asyncio.create_task(self._execute(slot, held))
        try:
            await asyncio.wait({held.running})
        finally:
            held.running.cancel()
            await asyncio.gather(held.running, return_exceptions=True)
            self._holdings.had_slot(held)
        if not held.running.cancelled() and (error := held.running.exception()) is not None:
            raise error

    async def _compile(self, slot: RunnerSlot, early: Early) -> None:
        began = self._clock.monotonic()
        try:
            await slot.compile(early.module_id, loader(early, self._cache), early.limits)
        except RunnerLost as err:
            _log.debug("module.not_compiled", reason=one_line(str(err)))
        finally:
            self._holdings.compiled(early, self._clock.monotonic() - began)

    async def _execute(self, slot: RunnerSlot, held: Held) -> None:
        """Run one attempt and keep its result; cancelled, its runner is killed."""
        try:
            python = self._scripts.runtime
            job = await open_job(held, self._cache, python)
            result = await slot.run(job, loader(held, self._cache, python))
            self._watcher.ran(held.order.kind, result.wall_ms / 1000)
        except BadBlob as err:
            result = TaskResult(
                NEVER_EXITED, b"", b"", 0, 0, 0, fault=Fault.BAD_INPUT, detail=err.message
            )
        except NoRoom as err:
            self._lacking[slot] = err
            await self._give_back(held, err)
            return
        except RunnerLost as err:
            _log.warning("attempt.lost", reason=one_line(str(err)))
            self._holdings.lose(held)
            return
        except (BlobGone, PythonUnusable, OSError) as err:
            await self._give_back(held, err)
            return
        try:
            await self._releases.finish(held, result)
        except JournalUnusable as err:
            self._lacking[slot] = NoRoom(err.message, len(result.data) + FREE_BYTES)
            await self._give_back(held, err)

    async def _give_back(self, held: Held, why: Exception) -> None:
        """Let an attempt go elsewhere that this machine cannot run: nobody's fault but its own."""
        _log.warning("attempt.given_back", reason=one_line(str(why)))
        await self._holdings.give_back(held)

    async def _replace_runner(self, slot: RunnerSlot) -> None:
        """Have a runner ready before the next attempt is taken, however long that needs.

        A machine that refuses what a runner needs is no longer offered, and what waits here goes
        elsewhere.
        """
        failures = 0
        lacking = self._lacking.pop(slot, None)
        while not self.draining and (slot.pid is None or lacking is not None):
            try:
                await slot.start()
                if lacking is not None:
                    slot.place.check_room(lacking.needed)
                    lacking = None
            except RunnerLost as err:
                await self._give_up(slot, err.message)
                await self._clock.sleep(RESTART.after(failures))
                failures += 1
        if slot.pid is not None and slot not in self._able:
            self._able.add(slot)
            self._tried.set()
            if self._trouble:
                _log.info("slot.usable_again", slots=len(self._able))
                self._trouble = ""
                self._on_trouble("")
        if (lends := slot.lends) is not None:
            self._lend_at_most(lends.memory_bytes)
            if lends.walls != self.walls:
                self.walls = lends.walls
                stand = [wall.name for wall in self.walls if wall.stands]
                _log.info("runner.walls", stand=stand, of=len(self.walls))

    async def _give_up(self, slot: RunnerSlot, reason: str) -> None:
        self._able.discard(slot)
        self._tried.set()
        if reason != self._trouble:
            self._trouble = reason
            _log.error("slot.unusable", reason=reason, slots=len(self._able))
            self._on_trouble(reason)
        if not self._able:
            waiting = [one for one in self._holdings if one.state == QUEUED]
            await self._holdings.note_given_back(waiting)
            for one in waiting:
                if one in self._holdings and one.state == QUEUED:
                    self._holdings.stop(one)

    def _lend_at_most(self, memory_bytes: int) -> None:
        """Take no task that this machine would keep from what its limits promise."""
        if memory_bytes < self.settings.memory_bytes:
            _log.warning("memory.limited", bytes=memory_bytes, wanted=self.settings.memory_bytes)
            self.settings = dataclasses.replace(self.settings, memory_bytes=memory_bytes)
