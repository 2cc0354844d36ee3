"""Carries plans out: leases, submits, polls and settles, until every task has its end.

One loop makes a plan of what is known, starts what it says, and looks again when something
happened or when the plan's time has come. Every change is in the store before anything relies on
it; what is in memory is the store's open rows plus what the network was asked. So a restart, even
by ``kill -9``, goes on from the rows: open attempts are polled, offered ones are offered again
under the same handle, and the table of states lets no second result in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import datetime
from typing import Final

from fog_compute.backoff import Backoff
from fog_compute.clock import Clock
from fog_compute.coordinator.attempts import OpenAttempt
from fog_compute.coordinator.carrier import Carrier
from fog_compute.coordinator.conversations import Conversations
from fog_compute.coordinator.exchange import Exchange
from fog_compute.coordinator.open_work import OpenWork
from fog_compute.coordinator.ownership import Ownership
from fog_compute.coordinator.phases import Deed
from fog_compute.coordinator.registry import WorkerRegistry
from fog_compute.coordinator.sessions import Errand, Session, Tempo
from fog_compute.errors import FogError, StoreAway, StoreError
from fog_compute.observability import get_logger
from fog_compute.observability.metrics import TaskMetrics
from fog_compute.store import Store
from fog_compute.tasks.keyring import Keys
from fog_compute.text import one_line

__all__ = ["Dispatcher"]

_log = get_logger("fog_compute.coordinator")

STORE_PAUSE_S: Final = 1.0
HOPELESS_EVERY_S: Final = 30.0
SWEEP_EVERY_S: Final = 3600.0
SWEEP_AGAIN: Final = Backoff(60, SWEEP_EVERY_S)


class Dispatcher:
    """Brings every task of the store to its end.

    Attributes:
        work: all that is not over.
        exchange: speaks with workers.
    """

    def __init__(
        self,
        *,
        store: Store,
        fog: WorkerRegistry,
        carrier: Carrier,
        keys: Keys,
        tempo: Tempo,
        clock: Clock,
        metrics: TaskMetrics,
    ) -> None:
        """Nothing happens before :meth:`run`."""
        self._store: Final = store
        self._fog: Final = fog
        self._clock: Final = clock
        self._wake: Final = asyncio.Event()
        self.work: Final = OpenWork(
            store=store,
            fog=fog,
            tempo=tempo,
            clock=self._clock,
            metrics=metrics,
            changed=self._wake.set,
        )
        self.exchange: Final = Exchange(
            carrier,
            store.blobs,
            keys,
            tempo.request_timeout_s,
            self._clock,
            self.work.heard,
            self._check_owner,
        )
        self._talk: Final = Conversations(
            work=self.work,
            fog=fog,
            exchange=self.exchange,
            clock=self._clock,
            metrics=metrics,
        )
        self._tempo: Final = tempo
        self.ownership: Final = self._ownership(keys)
        self._ready: Final = asyncio.Event()
        self.workers_trouble = ""

    async def run(self) -> None:
        """Work until cancelled; what was begun is found again in the store by the next run."""
        while not self._ready.is_set():
            try:
                if self.ownership is None:
                    await self.work.recover()
                else:
                    await self.ownership.assure()
                self.work.store_found()
                self._ready.set()
            except StoreError as error:
                self.work.store_lost(error)
                await self._clock.sleep(STORE_PAUSE_S)
        due: datetime | None = None
        async with asyncio.TaskGroup() as jobs:
            jobs.create_task(self._watch_workers(), name="worker-list")
            jobs.create_task(self._sweep(), name="store-sweep")
            if self.ownership is not None:
                jobs.create_task(self.ownership.run(), name="ownership")
            if self._store.echo is not None:
                jobs.create_task(self._store.echo.run(self.work.hear), name="echo")
            jobs.create_task(self._review_hopeless(), name="hopeless-tasks")
            while True:
                try:
                    due = await self._round(due, jobs)
                except StoreError as error:
                    self.work.store_lost(error)
                    await self._clock.sleep(STORE_PAUSE_S)
                except Exception as error:  # noqa: BLE001  # no task would ever end any more
                    self._note_chore("plan", "the work cannot be planned", error)
                    await self._clock.sleep(STORE_PAUSE_S)
                else:
                    self.work.reach.note_chore("plan", "")

    async def _round(self, due: datetime | None, jobs: asyncio.TaskGroup) -> datetime | None:
        """Make a plan and begin what it says; return when the next one is due.

        Args:
            due: when this one was due.
            jobs: what is begun goes on there.
        """
        self._wake.clear()
        self.work.forgive_absence(due)
        if self.work.reach.store_away or self.work.ledger.unclear:
            await self._try_store()
        if self.ownership is not None:
            await self.ownership.assure()
        given = await self.work.queue.take()
        await self.work.apply(given)
        plan = self.work.plan()
        for deed, record in plan.attempts:
            self._begin(deed, record, jobs)
        for errand, session in plan.sessions:
            self._begin_errand(errand, session, jobs)
        if plan or given:
            return self._clock.now()
        await self._sleep_until(plan.wake_at, self.work.queue.next_due)
        return plan.wake_at

    async def _try_store(self) -> None:
        """Learn whether the store is back, and what it took."""
        try:
            await self._store.touch()
            await self.work.ledger.read_unclear()
        except StoreError as error:
            self.work.store_lost(error)
            raise
        self.work.store_found()

    def _ownership(self, keys: Keys) -> Ownership | None:
        """What is kept where other backends may have the same store."""
        backends = self._store.backends
        if backends is None:
            return None
        return Ownership(
            backends,
            self._clock,
            self._tempo.owner_lease_s,
            groups=lambda: keys().names,
            take=self.work.recover,
            let_go=self.work.let_go,
            look_again=self.work.look_again,
        )

    def _check_owner(self) -> None:
        """Raise `StoreError` where another backend may act on what this one had."""
        if self.ownership is not None:
            self.ownership.check()

    async def until_ready(self) -> None:
        """Wait until the store's rows are read; not if the store is away."""
        if not self._ready.is_set() and self.work.reach.store_away:
            raise StoreAway(self.work.reach.trouble())
        await self._ready.wait()

    async def _watch_workers(self) -> None:
        while True:
            try:
                if await self._fog.refresh():
                    self.work.queue.workers_changed()
                    self._wake.set()
                self.work.reach.note_chore("workers", "")
            except FogError as error:
                # With the network itself it is said elsewhere what is wrong.
                if self.workers_trouble != str(error):
                    self.workers_trouble = str(error)
                    _log.warning("workers.unreachable", reason=str(error))
            except Exception as error:  # noqa: BLE001  # a new worker would never be found
                self._note_chore("workers", "the list of workers cannot be read", error)
            else:
                self.workers_trouble = ""
            pause = self._tempo.worker_refresh_s
            # Nothing to place a task on: look again soon.
            await self._clock.sleep(pause if self._fog.workers() else min(0.5, pause))

    async def _review_hopeless(self) -> None:
        while True:
            try:
                await self.work.apply(await self.work.queue.hopeless())
            except StoreError as error:
                self.work.store_lost(error)
            except Exception as error:  # noqa: BLE001  # others wait for their end
                self._note_chore("hopeless", "the queue cannot be looked through", error)
            else:
                self.work.reach.note_chore("hopeless", "")
            await self._clock.sleep(HOPELESS_EVERY_S)

    async def _sweep(self) -> None:
        failures = 0
        while True:
            try:
                await self._store.sweep()
            except Exception as error:  # noqa: BLE001  # the disk would fill up
                self._note_chore("sweep", "the store cannot be tidied up", error)
                await self._clock.sleep(SWEEP_AGAIN.after(failures))
                failures += 1
            else:
                self.work.reach.note_chore("sweep", "")
                failures = 0
                await self._clock.sleep(SWEEP_EVERY_S)

    def _note_chore(self, chore: str, what: str, error: Exception) -> None:
        """Show what is wrong with a chore that is tried again; said once."""
        told = isinstance(error, FogError | OSError)
        why = one_line(str(error)) if told else f"an unexpected {type(error).__name__}"
        if self.work.reach.note_chore(chore, f"{what}: {why}"):
            _log.error("chore.failed", chore=chore, reason=why, exc_info=not told)

    async def _sleep_until(self, *moments: datetime | None) -> None:
        times = [time for time in (*moments, self._fog.next_change()) if time is not None]
        pause = (min(times) - self._clock.now()).total_seconds() if times else None
        waits: set[asyncio.Task[object]] = {asyncio.create_task(self._awoken())}
        if pause is not None:
            waits.add(asyncio.create_task(self._slept(max(0.0, pause))))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()

    async def _awoken(self) -> object:
        return await self._wake.wait()

    async def _slept(self, seconds: float) -> object:
        await self._clock.sleep(seconds)
        return None

    # From plan to deed.

    def _begin(self, deed: Deed, record: OpenAttempt, jobs: asyncio.TaskGroup) -> None:
        if deed is Deed.SUBMIT:
            jobs.create_task(self._guarded(self._talk.submit(record)))
        elif deed is Deed.CHECK:
            jobs.create_task(self._guarded(self._talk.check(record)))

    def _begin_errand(self, errand: Errand, session: Session, jobs: asyncio.TaskGroup) -> None:
        match errand:
            case Errand.POLL:
                jobs.create_task(self._guarded(self._talk.poll(session)))
            case Errand.TELL:
                jobs.create_task(self._guarded(self._talk.tell(session)))
            case Errand.END:
                self.work.end(session)
                self.exchange.end(session)

    async def _guarded(self, job: Coroutine[object, object, None]) -> None:
        """Run a conversation; whatever one worker sends, the others go on."""
        try:
            await job
        except FogError as error:
            if not self.work.reach.store_away:  # which was said once
                _log.warning("conversation.failed", reason=str(error))
        except Exception:  # noqa: BLE001  # one conversation must not end all of them
            _log.error("conversation.crashed", exc_info=True)
        finally:
            self._wake.set()
