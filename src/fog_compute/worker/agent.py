"""The agent: takes attempts from coordinators, runs them in its slots, and answers polls.

Its rooms are `reception` (requests and answers), `holdings` (the attempts in hand), `slots` (what
runs), `release` (when a result may be shown) and `publishing` (the list of workers).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from fog_compute.clock import Clock, SystemClock
from fog_compute.errors import ChannelError
from fog_compute.tasks.keyring import Keys
from fog_compute.tasks.messages import QUEUED
from fog_compute.tasks.receipt import Signer
from fog_compute.worker.cache import BlobCache
from fog_compute.worker.holdings import Holdings
from fog_compute.worker.journal import Journal
from fog_compute.worker.publishing import Served, publish
from fog_compute.worker.reception import Reception
from fog_compute.worker.release import Releases
from fog_compute.worker.report import Listing, WorkerReport
from fog_compute.worker.settings import WorkerSettings
from fog_compute.worker.slots import Slots
from fog_compute.worker.watcher import Nobody, Watcher

__all__ = ["WorkerAgent"]

SWEEP_INTERVAL_S: Final = 60.0
ANSWERS_S: Final = 0.5  # for the answers to those who wait when the worker stops


class WorkerAgent:
    """One worker.  `run` is all of it; everything else happens through its channels."""

    def __init__(
        self,
        served: Sequence[Served],
        home: Path,
        *,
        keys: Keys,
        settings: WorkerSettings | None = None,
        clock: Clock | None = None,
        on_trouble: Callable[[str], None] = lambda _: None,
        watcher: Watcher | None = None,
    ) -> None:
        """Keep all state below ``home``, and share the slots among the levels in ``served``.

        Only who proves one of the groups that ``keys`` gives may ask for anything.
        ``on_trouble`` is called with one line when the machine keeps slots from running tasks, and
        with an empty one when it does so no longer. ``watcher`` is told what happens in the slots.
        """
        settings = WorkerSettings() if settings is None else settings
        self._served: Final = tuple(served)
        self._clock: Final[Clock] = SystemClock() if clock is None else clock
        self._journal: Final = Journal(home / "attempts.db", self._clock)
        cache = BlobCache(home / "blobs", settings.cache_bytes)
        self._holdings: Final = Holdings(self._journal, cache, settings.kept_s, self._clock)
        self._releases: Final = Releases(
            self._holdings, Signer.at(home / "receipts.key"), self._clock
        )
        self._slots: Final = Slots(
            home,
            settings,
            self._holdings,
            cache,
            self._releases,
            self._clock,
            on_trouble,
            Nobody() if watcher is None else watcher,
        )
        self._keys: Final = keys
        self._cache: Final = cache
        self._listings: Final = {one.name: Listing(one.name, one.level) for one in self._served}
        self._reception: Final = Reception(self._holdings, cache, self._slots, keys, self._clock)

    async def run(self) -> None:
        """Serve until cancelled or until the channel closes.  No runner is left behind.

        Raises:
            ChannelError: a channel is closed.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for slot in self._slots:
                    group.create_task(self._slots.serve(slot), name="slot")
                group.create_task(self._slots.prepare_scripts(), name="scripts")
                group.create_task(self._sweep(), name="sweep")
                for one in self._served:
                    if one.publisher is not None:
                        listing = self._listings[one.name]
                        publishing = publish(
                            one, one.publisher, self._slots, self._keys, listing, self._clock
                        )
                        group.create_task(publishing, name="publish")
                    group.create_task(self._reception.receive(group, one.channel), name="receive")
        except* ChannelError as errors:
            raise ChannelError("a channel of the worker is closed") from errors
        finally:
            self._releases.close()
            await self._slots.close()
            self._journal.close()

    async def tried(self) -> None:
        """Return once it is known whether this machine can run tasks."""
        await self._slots.tried()

    def report(self) -> WorkerReport:
        """How the worker stands, for its owner."""
        settings = self._slots.settings
        waiting = sum(one.state == QUEUED for one in self._holdings)
        counts = msgspec.structs.replace(
            self._holdings.counts, turned_away=self._reception.turned_away
        )
        return WorkerReport(
            levels=tuple(self._listings.values()),
            groups=self._keys().names,
            kinds=settings.kinds,
            lacking=self._slots.lacking,
            slots=settings.slots,
            able=self._slots.able,
            running=len(self._holdings) - waiting,
            waiting=waiting,
            queue=settings.queue,
            memory_bytes=settings.memory_bytes,
            wall_s=settings.wall_s,
            scratch_bytes=settings.scratch_bytes,
            output_bytes=settings.output_bytes,
            walls=self._slots.walls,
            trouble=self._slots.trouble,
            cache_bytes=self._cache.used_bytes,
            cache_limit=settings.cache_bytes,
            kept_bytes=self._holdings.kept_bytes,
            kept_limit=settings.kept_bytes,
            counts=counts,
        )

    async def drain(self, seconds: float) -> None:
        """Take no more attempts, let those that run end for ``seconds``, and give the rest back.

        That an attempt was given back is kept: whoever asks after a restart hears it, too, also if
        this process is killed while it waits.
        """
        self._slots.draining = True
        held = tuple(self._holdings)
        await self._holdings.note_given_back(held)
        for one in held:
            if one.state == QUEUED:
                self._holdings.stop(one)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.gather(*(one.ended.wait() for one in held))
        for one in held:
            if one in self._holdings:
                self._holdings.stop(one)
        # Who waits for news of them is being told.
        await self._reception.answered(ANSWERS_S)

    async def _sweep(self) -> None:
        while True:
            await self._clock.sleep(SWEEP_INTERVAL_S)
            await self._holdings.expire()
