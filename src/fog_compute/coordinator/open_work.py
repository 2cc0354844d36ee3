"""What this coordinator knows of the work that is not over: rows, offers, sessions, troubles.

Everything here follows from the store's open rows and from what the network was asked. A change of
a row is written first (see :class:`~fog_compute.coordinator.ledger.Ledger`); what hangs on a row
ends with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeVar

from fog_compute.clock import Clock
from fog_compute.coordinator import news, planner
from fog_compute.coordinator.ledger import Ledger, Listener
from fog_compute.coordinator.queue import Queue
from fog_compute.coordinator.reach import NetworkTrouble, Reach
from fog_compute.coordinator.registry import WorkerRegistry
from fog_compute.coordinator.sessions import Session, Stage, Tempo, polls_of, session_key
from fog_compute.errors import StoreError
from fog_compute.levels import PrivacyLevel
from fog_compute.observability import get_logger
from fog_compute.observability.metrics import Metrics
from fog_compute.store import Change, Conflict, Declined, Store
from fog_compute.tasks import Attempt, AttemptState, Task, TaskSpec

T = TypeVar("T")

__all__ = ["Offer", "OpenWork"]

_log = get_logger("fog_compute.coordinator")

SLOW_WRITE: Final = timedelta(seconds=1)
"""A write that takes longer means that the store is away; who is heard meanwhile is not noted."""

UNTOLD: Final = timedelta(minutes=5)
UNTOLD_TASKS: Final = 256
"""So many of the tasks that ended last before a start are spoken of with their workers again."""

STORE_HANGS: Final = "the database does not answer: the disk may be away, or very busy"

_OUTCOMES: Final = {
    AttemptState.SETTLED: "accepted",
    AttemptState.FAILED: "failed",
    AttemptState.LOST: "lost",
    AttemptState.EXPIRED: "expired",
    AttemptState.DECLINED: "declined",
    AttemptState.CANCELLED: "cancelled",
}


@dataclass(slots=True)
class Offer:
    """What is known in memory of an open attempt."""

    busy: bool = False
    submit_at: datetime | None = None
    sent: int = 0  # times since the worker was there
    failures: int = 0
    warned: bool = False  # its silence was long enough; it is asked once more


class OpenWork:
    """Tasks and attempts that are not over, with what is only in memory of them.

    Attributes:
        lease: silence after which an attempt expires.
        ledger: the open rows.
        reach: this side's own trouble.
        offers: by handle, for every open attempt.
        sessions: by their key.
        trouble: by task with an open attempt, what went wrong last.
    """

    def __init__(
        self,
        *,
        store: Store,
        fog: WorkerRegistry,
        tempo: Tempo,
        clock: Clock,
        metrics: Metrics,
        changed: Callable[[], None],
    ) -> None:
        """Know nothing yet; see :meth:`recover`. ``changed`` is called when a plan may change."""
        self.lease: Final = timedelta(seconds=tempo.lease_s)
        self.ledger: Final = Ledger(
            store,
            clock,
            self.lease,
            Listener(self._begin_attempt, self._end_attempt, self._note_waiting, self._end_task),
        )
        self.queue: Final = Queue(store, fog, clock, self.lease)
        self.reach: Final = Reach()
        self.offers: Final[dict[str, Offer]] = {}
        self.sessions: Final[dict[str, Session]] = {}
        self.trouble: Final[dict[str, str]] = {}
        self._fog: Final = fog
        self._clock: Final = clock
        self._metrics: Final = metrics
        self._changed: Final = changed
        self._polls: Final = polls_of(tempo)
        self._writes: Final[dict[object, datetime]] = {}  # since when each is under way
        self._session_of: Final[dict[str, str]] = {}
        self._store: Final = store

    async def recover(self) -> None:
        """Take over the store's open rows: who works for them is asked at once.

        Raises:
            StoreError: the database cannot be read.
        """
        untold = await self._untold()
        await self.ledger.load()  # after it nothing fails: what is begun twice is counted twice
        now = self._clock.now()
        for attempt in self.ledger.attempts.values():
            if attempt.state is not AttemptState.OFFERED:
                task = self.ledger.tasks[attempt.task_id]
                session = self.session(task, attempt)
                session.follow(attempt.handle, task.spec.limits, now)
                session.poll_now(now)
        self._tell_again(untold, now)
        if self.ledger.tasks:
            _log.info(
                "tasks.resumed", tasks=len(self.ledger.tasks), attempts=len(self.ledger.attempts)
            )

    async def _untold(self) -> Sequence[tuple[Task, Attempt]]:
        """What the run before may not have said to workers: all that ended shortly before now."""
        since = self._clock.now() - UNTOLD
        tasks = {task.id: task for task in await self._store.tasks.ended_since(since, UNTOLD_TASKS)}
        attempts = await self._store.attempts.of_tasks(tasks)
        return [(tasks[id_], attempt) for id_, of_task in attempts.items() for attempt in of_task]

    def _tell_again(self, untold: Sequence[tuple[Task, Attempt]], now: datetime) -> None:
        """Say whose result is kept here, and what can stop."""
        for task, attempt in untold:
            if attempt.state is not AttemptState.DECLINED:
                session = self.session(task, attempt)
                del self._session_of[attempt.handle]  # it is over
                stop = attempt.state is not AttemptState.SETTLED
                session.drop(attempt.handle, now, cancel=stop)

    def view(self) -> planner.View:
        """All that a plan is made of, as it is now."""
        now, hangs = self._clock.now(), self._store_hangs
        return planner.View(
            now=now,
            attempts={
                handle: planner.AttemptView(
                    attempt,
                    self.offers[handle].busy,
                    self.offers[handle].submit_at or now,
                    deaf=hangs or self.reach.deaf(self.ledger.tasks[attempt.task_id].spec.privacy),
                )
                for handle, attempt in self.ledger.attempts.items()
            },
            sessions=tuple(session.view() for session in self.sessions.values()),
        )

    def forgive_absence(self, due: datetime | None) -> None:
        """Renew all leases if this plan was due long ago: nobody listened, so nobody was silent."""
        if due is not None and self._clock.now() - due > self.lease / 2:
            self._count_anew(frozenset(PrivacyLevel))

    def _count_anew(self, levels: frozenset[PrivacyLevel]) -> None:
        """Let no worker answer for the time until now, in which it was not heard here."""
        now = self._clock.now()
        self.queue.count_anew()
        for handle, attempt in tuple(self.ledger.attempts.items()):
            if self.ledger.tasks[attempt.task_id].spec.privacy in levels:
                self.ledger.renew(handle)
                self.offers[handle].warned = False
        for session in self.sessions.values():
            if session.level in levels:
                session.count_anew(now)

    def heard(self, level: PrivacyLevel) -> None:
        """The network carried something; if it could not before, all waiting begins anew."""
        if self.reach.found(level):
            _log.info("network.back", privacy=level.value)
            self._count_anew(frozenset({level}))

    def deaf(self, level: PrivacyLevel, error: NetworkTrouble, *, silent: bool = False) -> None:
        """The network cannot be used at a level; said once."""
        if self.reach.lost(level, error, silent=silent):
            _log.warning("network.away", privacy=level.value, reason=str(error))

    def store_lost(self, error: StoreError) -> None:
        """The store refused; said once."""
        if self.reach.store_lost(error):
            _log.error("store.refused", reason=str(error))
            self._changed()  # whoever waits for changes looks whether it is back

    def store_found(self, *, late: bool = False) -> None:
        """The store took a write; if it could not before, or late, all waiting begins anew."""
        back = self.reach.store_found()
        if back:
            _log.info("store.back")
        if back or late:
            self._count_anew(frozenset(PrivacyLevel))

    # Changes of rows.

    async def apply(self, changes: Sequence[Change]) -> None:
        """Write changes and follow them; see ``Ledger.apply``.

        Raises:
            StoreError: the database cannot be written; nothing changed.
        """
        if changes:
            # It is carried through, whoever stops waiting for it.
            await asyncio.shield(self._apply(changes))
            self._changed()

    async def _apply(self, changes: Sequence[Change]) -> None:
        async with self._writing():
            await self.ledger.apply(changes)

    async def create(self, specs: Sequence[TaskSpec], make: Awaitable[T]) -> T:
        """Let new tasks be written by ``make``; see ``Tasks.create``."""
        try:
            async with self._writing():
                return await make
        finally:
            for level in {spec.privacy for spec in specs}:
                self.queue.came(level)  # perhaps, whatever came of it here
            self._changed()

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[None]:
        """Learn from a write how the store is."""
        write, begun = object(), self._clock.now()
        self._writes[write] = begun
        try:
            yield
        except Conflict:
            raise
        except StoreError as error:
            self.store_lost(error)
            raise
        finally:
            del self._writes[write]
        self.store_found(late=self._clock.now() - begun > SLOW_WRITE)

    @property
    def _store_hangs(self) -> bool:
        """Whether a write takes so long that what is heard now cannot be kept in time."""
        oldest = next(iter(self._writes.values()), None)
        return oldest is not None and self._clock.now() - oldest > SLOW_WRITE

    def own_trouble(self, level: PrivacyLevel | None = None) -> str:
        """What keeps this side from its work now, in one line; empty if nothing does."""
        return self.reach.trouble(level) or (STORE_HANGS if self._store_hangs else "")

    async def decline(
        self, handle: str, reason: str, pause: timedelta | None, *, refused: bool = False
    ) -> None:
        """End an attempt that its worker never had; its task waits for ``pause``.

        ``refused`` says that the worker will not take the task at all.
        """
        not_before = None if pause is None else self._clock.now() + pause
        await self.apply([Declined(handle, reason, not_before, refused)])

    def renew(self, handle: str) -> None:
        """The worker of an attempt was heard, or its silence was none of its own."""
        self.ledger.renew(handle)
        if offer := self.offers.get(handle):
            offer.warned = False

    async def lose(
        self,
        handle: str,
        reason: str,
        how: AttemptState = AttemptState.LOST,
        *,
        counts: bool = True,
    ) -> None:
        """End an attempt that brought nothing; it uses up a try if it ``counts``."""
        known = self.ledger.task_of(handle)
        if known is None:
            return
        task, attempt = known
        if how is AttemptState.EXPIRED and counts:
            self._fog.note_expired(attempt.worker, task.spec.privacy)
        now = self._clock.now()
        await self.apply(news.after_loss(task, attempt, reason, now=now, how=how, counts=counts))

    async def attempts_of(self, task_id: str) -> Sequence[Attempt]:
        """The attempts of a task so far.

        Raises:
            StoreError: they cannot be read now.
        """
        return await self._store.attempts.of_task(task_id)

    def log_tail(self, handle: str) -> bytes:
        """The last that an open attempt's worker told of what the task wrote."""
        session = self.sessions.get(self._session_of.get(handle, ""))
        progress = None if session is None else session.progress(handle)
        return b"" if progress is None else progress.log_tail

    def stage(self, handle: str) -> Stage | None:
        """What is being done for an open attempt, as far as is known."""
        session = self.sessions.get(self._session_of.get(handle, ""))
        if session is None:
            return None
        progress = session.progress(handle)
        return session.sending if progress is None else progress.stage

    def _begin_attempt(self, attempt: Attempt) -> None:
        self.offers[attempt.handle] = Offer()
        self._fog.note_leased(attempt.worker, self.level_of(attempt))

    def _end_attempt(self, attempt: Attempt) -> None:
        self._fog.note_ended(attempt.worker, self.level_of(attempt), attempt.state)
        self._metrics.attempts.labels(_OUTCOMES[attempt.state]).inc()
        self.offers.pop(attempt.handle, None)
        session = self.sessions.get(self._session_of.pop(attempt.handle, ""))
        if session is None:
            return
        confirmed = session.progress(attempt.handle) is not None
        known_to_worker = confirmed or attempt.state is not AttemptState.DECLINED
        stop = attempt.state is not AttemptState.SETTLED
        now = self._clock.now()
        session.drop(attempt.handle, now, cancel=stop if known_to_worker else None)

    def _note_waiting(self, task: Task) -> None:
        self.trouble.pop(task.id, None)
        self.queue.came(task.spec.privacy, task.not_before)

    def _end_task(self, task: Task) -> None:
        self.trouble.pop(task.id, None)
        duration = ((task.finished_at or task.updated_at) - task.created_at).total_seconds()
        self._metrics.task_duration.labels(task.spec.privacy.value, task.state.value).observe(
            max(0.0, duration)
        )
        _log.info("task.ended", state=task.state.value, privacy=task.spec.privacy.value)

    # Sessions.

    def level_of(self, attempt: Attempt) -> PrivacyLevel:
        """The level of an open attempt's task."""
        return self.ledger.tasks[attempt.task_id].spec.privacy

    def session(self, task: Task, attempt: Attempt) -> Session:
        """The session of an attempt, begun if there is none."""
        level, group = task.spec.privacy, task.spec.group
        key = session_key(level, group, attempt)
        session = self.sessions.get(key)
        if session is None:
            session = Session(key, level, group, attempt, self._polls, self._clock.now())
            self.sessions[key] = session
        self._session_of[attempt.handle] = key
        return session

    def end_sessions(self) -> list[Session]:
        """Forget the sessions that are over, and return them."""
        now, used = self._clock.now(), set(self._session_of.values())
        over = [one for key, one in self.sessions.items() if one.over(now, key in used)]
        for session in over:
            del self.sessions[session.key]
        return over
