"""What this coordinator knows of the work that is not over: attempts, sessions, troubles.

Everything here follows from the store's open rows and from what the network was asked. A change of
a row is written first (see :class:`~fog_compute.coordinator.ledger.Ledger`); what hangs on a row
ends with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Final, TypeVar

from fog_compute.clock import Clock
from fog_compute.coordinator import news, planner
from fog_compute.coordinator.agenda import Agenda
from fog_compute.coordinator.attempts import OpenAttempt, Stage
from fog_compute.coordinator.ledger import Ledger, Listener
from fog_compute.coordinator.phases import Deed, PhaseEvent
from fog_compute.coordinator.queue import Queue
from fog_compute.coordinator.reach import NetworkTrouble, Reach
from fog_compute.coordinator.registry import WorkerRegistry
from fog_compute.coordinator.sessions import Planned, Session, Tempo, polls_of, session_key
from fog_compute.errors import StoreError
from fog_compute.levels import PrivacyLevel
from fog_compute.observability import get_logger
from fog_compute.observability.metrics import TaskMetrics
from fog_compute.store import Change, Conflict, Declined, Store
from fog_compute.store.echo import Heard
from fog_compute.tasks import Attempt, AttemptState, Task, TaskSpec

T = TypeVar("T")

__all__ = ["OpenWork"]

_log = get_logger("fog_compute.coordinator")

SLOW_WRITE: Final = timedelta(seconds=1)
"""A write that takes longer means that the store is away; who is heard meanwhile is not noted."""

UNTOLD: Final = timedelta(minutes=5)
UNTOLD_TASKS: Final = 256
"""So many of the tasks that ended last before a start are spoken of with their workers again."""

STORE_HANGS: Final = "the database does not answer: the disk may be away, or very busy"

_LENGTHENS: Final = (PhaseEvent.HEARD, PhaseEvent.SPARED)

_OUTCOMES: Final = {
    AttemptState.SETTLED: "accepted",
    AttemptState.FAILED: "failed",
    AttemptState.LOST: "lost",
    AttemptState.EXPIRED: "expired",
    AttemptState.DECLINED: "declined",
    AttemptState.CANCELLED: "cancelled",
}


class OpenWork:
    """Tasks and attempts that are not over, with what is only in memory of them.

    Attributes:
        lease: silence after which an attempt expires.
        ledger: the open attempts.
        agenda: when each attempt and session is looked at next.
        reach: this side's own trouble.
        sessions: by their key.
    """

    def __init__(
        self,
        *,
        store: Store,
        fog: WorkerRegistry,
        tempo: Tempo,
        clock: Clock,
        metrics: TaskMetrics,
        changed: Callable[[], None],
    ) -> None:
        """Know nothing yet; see :meth:`recover`. ``changed`` is called when a plan may change."""
        self.lease: Final = timedelta(seconds=tempo.lease_s)
        self.ledger: Final = Ledger(
            store,
            clock,
            self.lease,
            Listener(
                self._begin_attempt,
                self._end_attempt,
                self._leave_attempt,
                self._note_waiting,
                self._end_task,
            ),
        )
        self.queue: Final = Queue(store, fog, clock, self.lease)
        self.reach: Final = Reach()
        self.agenda: Final[Agenda[Planned]] = Agenda()
        self.sessions: Final[dict[str, Session]] = {}
        self._fog: Final = fog
        self._clock: Final = clock
        self._metrics: Final = metrics
        self._changed: Final = changed
        self._polls: Final = polls_of(tempo)
        self._writes: Final[dict[object, datetime]] = {}  # since when each is under way
        self._unheard: Final[set[OpenAttempt]] = set()
        """Looked at while nobody could be heard: to be looked at when somebody can."""
        self._last_answer: Final = timedelta(seconds=2 * tempo.request_timeout_s)
        self._store: Final = store
        self._away_since: Final[dict[PrivacyLevel, datetime]] = {}
        self._store_away_since = clock.now()

    async def recover(self, before: Collection[str | None] = (None,)) -> None:
        """Take over the store's open rows: who works for them is asked at once.

        Args:
            before: who acted on them before; what those did not say to workers is said again.

        Raises:
            StoreError: the database cannot be read.
        """
        untold = await self._untold(before)
        found = await self.ledger.load()  # after it nothing fails: nothing is counted twice
        now = self._clock.now()
        for record in found:
            if record.row.state is not AttemptState.OFFERED:
                session = self.session(record)
                session.follow(record, now)
                session.poll_now(now)
        self._tell_again(untold, now)
        if found:
            _log.info("tasks.resumed", tasks=len(found))
        self.look_again()

    def hear(self, heard: Sequence[Heard]) -> None:
        """Follow what other backends wrote: tasks that wait, and ends of tasks that are with us."""
        for one in heard:
            self.ledger.doubt(one.task_id, one.version)
            if (level := one.waits) is not None:
                self.queue.came(level)
        self._changed()

    def look_again(self) -> None:
        """Look at the queue once more: nothing is said of tasks that others let go."""
        self.queue.look_again()
        self._changed()

    def let_go(self) -> None:
        """Act on none of the attempts any more: another backend does."""
        self.ledger.let_go()
        self._changed()

    async def _untold(self, before: Collection[str | None]) -> Sequence[tuple[Task, Attempt]]:
        """What was perhaps not said to workers before: all that ended shortly before now."""
        since = self._clock.now() - UNTOLD
        tasks = {task.id: task for task in await self._store.tasks.ended_since(since, UNTOLD_TASKS)}
        attempts = await self._store.attempts.of_tasks(tasks)
        return [
            (tasks[id_], attempt)
            for id_, of_task in attempts.items()
            for attempt in of_task
            if attempt.owner in before
        ]

    def _tell_again(self, untold: Sequence[tuple[Task, Attempt]], now: datetime) -> None:
        """Say whose result is kept here, and what can stop."""
        for task, attempt in untold:
            if attempt.state is not AttemptState.DECLINED:
                stop = attempt.state is not AttemptState.SETTLED
                self._session(task, attempt).drop(attempt.handle, now, cancel=stop)

    def plan(self) -> planner.Plan:
        """Decide what to do now; whoever asks has to do it."""
        hangs = self._store_hangs

        def deaf(record: OpenAttempt) -> bool:
            if hangs or self.reach.deaf(record.level):
                self._unheard.add(record)
                return True
            return False

        return planner.plan(self.agenda, self._clock.now(), deaf, self.happen)

    def happen(self, record: OpenAttempt, event: PhaseEvent) -> Sequence[Deed]:
        """Let an attempt follow an event; return what is to be done for it."""
        before, now = record.lease_until, self._clock.now()
        deeds = record.happen(event, now, self.lease, self._last_answer)
        if event not in _LENGTHENS or record.lease_until < before:
            self.agenda.touch(record)  # what only lasts longer is seen in time
        return deeds

    def renew(self, record: OpenAttempt) -> None:
        """The worker of an attempt was heard, or its silence was none of its own."""
        self.happen(record, PhaseEvent.HEARD)

    def spare(self, record: OpenAttempt) -> None:
        """Time passes in which the worker of an attempt need say nothing."""
        self.happen(record, PhaseEvent.SPARED)

    def forgive_absence(self, due: datetime | None) -> None:
        """Renew all leases if this plan was due long ago: nobody listened, so nobody was silent."""
        if due is not None and self._clock.now() - due > self.lease / 2:
            self._count_anew(frozenset(PrivacyLevel), due)

    def _count_anew(self, levels: frozenset[PrivacyLevel], since: datetime) -> None:
        """Let no worker answer for the time until now, in which it was not heard here."""
        now = self._clock.now()
        self.queue.leave_out(since)
        for record in self.ledger.records.values():
            if record.level in levels:
                self.renew(record)
                record.count_anew(now)
        for session in self.sessions.values():
            if session.level in levels:
                session.count_anew(now)
        self._listen_again()

    def _listen_again(self) -> None:
        """Look at those whose silence meant nothing till now."""
        for record in self._unheard:
            if not record.over:
                self.agenda.touch(record)
        self._unheard.clear()

    def heard(self, level: PrivacyLevel) -> None:
        """The network carried something; if it could not before, all waiting begins anew."""
        if self.reach.found(level):
            _log.info("network.back", privacy=level.value)
            self._count_anew(frozenset({level}), self._away_since.pop(level))

    def deaf(self, level: PrivacyLevel, error: NetworkTrouble, *, silent: bool = False) -> None:
        """The network cannot be used at a level; said once."""
        if self.reach.lost(level, error, silent=silent):
            self._away_since[level] = self._clock.now()
            _log.warning("network.away", privacy=level.value, reason=str(error))

    def store_lost(self, error: StoreError) -> None:
        """The store refused; said once."""
        if self.reach.store_lost(error):
            self._store_away_since = self._clock.now()
            _log.error("store.refused", reason=str(error))
            self._changed()  # whoever waits for changes looks whether it is back

    def store_found(self, after: timedelta = timedelta()) -> None:
        """The store took a write, after so long; if it was away, all waiting begins anew.

        A write that was only slow makes nothing anew: while it is under way no lease runs out, and
        what it kept from being heard is asked for again well within one, unless it took so long as
        a plan may be late.
        """
        back = self.reach.store_found()
        if back:
            _log.info("store.back")
        if back or after > self.lease / 2:
            begun = self._clock.now() - after
            since = min(begun, self._store_away_since) if back else begun
            self._count_anew(frozenset(PrivacyLevel), since)

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
            took = self._clock.now() - begun
            if took > SLOW_WRITE:
                self._listen_again()
        self.store_found(took)

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

    async def lose(
        self,
        record: OpenAttempt,
        reason: str,
        how: AttemptState = AttemptState.LOST,
        *,
        counts: bool = True,
    ) -> None:
        """End an attempt that brought nothing; it uses up a try if it ``counts``."""
        if record.over:
            return
        if how is AttemptState.EXPIRED and counts:
            self._fog.note_expired(record.row.worker, record.level)
        now = self._clock.now()
        await self.apply(
            news.after_loss(record.task, record.row, reason, now=now, how=how, counts=counts)
        )

    async def attempts_of(self, task_id: str) -> Sequence[Attempt]:
        """The attempts of a task so far.

        Raises:
            StoreError: they cannot be read now.
        """
        return await self._store.attempts.of_task(task_id)

    def log_tail(self, handle: str) -> bytes:
        """The last that an open attempt's worker told of what the task wrote."""
        record = self.ledger.records.get(handle)
        return b"" if record is None else record.log_tail

    def stage(self, handle: str) -> Stage | None:
        """What is being done for an open attempt, as far as is known."""
        record = self.ledger.records.get(handle)
        if record is None:
            return None
        if record.since is not None:
            return record.stage
        session = self._session_with(record)
        return None if session is None else session.sending

    def trouble_of(self, task_id: str) -> str:
        """What went wrong last with a task's open attempt; empty if nothing did."""
        record = self.ledger.of_task(task_id)
        return "" if record is None else record.trouble

    def _begin_attempt(self, record: OpenAttempt) -> None:
        self._fog.note_leased(record.row.worker, record.level)
        self.agenda.touch(record)

    def _end_attempt(self, record: OpenAttempt) -> None:
        state = record.row.state
        session = self._session_with(record)
        self.happen(record, PhaseEvent.ENDED)
        self.agenda.drop(record)
        self._unheard.discard(record)
        self._fog.note_ended(record.row.worker, record.level, state)
        self._metrics.attempts.labels(_OUTCOMES[state]).inc()
        if session is None:
            return
        known_to_worker = record.since is not None or state is not AttemptState.DECLINED
        stop = state is not AttemptState.SETTLED
        now = self._clock.now()
        session.drop(record.handle, now, cancel=stop if known_to_worker else None)

    def _leave_attempt(self, record: OpenAttempt) -> None:
        """Say nothing to its worker: it works on, for another backend."""
        session = self._session_with(record)
        self.happen(record, PhaseEvent.ENDED)
        self.agenda.drop(record)
        self._unheard.discard(record)
        self._fog.note_ended(record.row.worker, record.level, record.row.state)
        if session is not None:
            session.drop(record.handle, self._clock.now(), cancel=None)

    def _note_waiting(self, task: Task) -> None:
        self.queue.came(task.spec.privacy, task.not_before)

    def _end_task(self, task: Task) -> None:
        duration = ((task.finished_at or task.updated_at) - task.created_at).total_seconds()
        self._metrics.duration.labels(task.spec.privacy.value, task.state.value).observe(
            max(0.0, duration)
        )
        _log.info("task.ended", state=task.state.value, privacy=task.spec.privacy.value)

    # Sessions.

    def session(self, record: OpenAttempt) -> Session:
        """The session of an attempt, begun if there is none."""
        session = self._session(record.task, record.row)
        if not record.over:
            session.attempts[record.handle] = record
        return session

    def end(self, session: Session) -> None:
        """Forget a session that nothing needs any more."""
        del self.sessions[session.key]
        self.agenda.drop(session)

    def _session(self, task: Task, row: Attempt) -> Session:
        level, group = task.spec.privacy, task.spec.group
        key = session_key(level, group, row)
        session = self.sessions.get(key)
        if session is None:
            now = self._clock.now()
            session = Session(key, level, group, row, self._polls, now, self.agenda)
            self.sessions[key] = session
            self.agenda.touch(session)
        return session

    def _session_with(self, record: OpenAttempt) -> Session | None:
        """The session in which an attempt was submitted; None if it was not."""
        key = session_key(record.level, record.task.spec.group, record.row)
        session = self.sessions.get(key)
        return session if session is not None and record.handle in session.attempts else None
