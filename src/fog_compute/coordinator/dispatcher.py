"""Carries plans out: leases, submits, polls and settles, until every task has its end.

One loop makes a plan of what is known, starts what it says, and looks again when something
happened or when the plan's time has come. Every change is in the store before anything relies on
it; what is in memory is the store's open rows plus what the network was asked. So a restart, even
by ``kill -9``, goes on from the rows: open attempts are polled, offered ones are offered again
under the same handle, and the table of states lets no second result in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from fog_compute.clock import Clock, SystemClock
from fog_compute.coordinator import news, planner
from fog_compute.coordinator.exchange import Carrier, Exchange
from fog_compute.coordinator.fog import FogCoordinator
from fog_compute.coordinator.ledger import Ledger
from fog_compute.coordinator.placement import Decision, Requirements
from fog_compute.coordinator.reach import NO_NETWORK, NetworkTrouble, Reach
from fog_compute.coordinator.sessions import Pacing, Session, session_key
from fog_compute.errors import (
    ChannelDown,
    ChannelError,
    FogError,
    NotFound,
    PrivacyUnavailable,
    StoreError,
    StoreUnusable,
)
from fog_compute.observability import get_logger
from fog_compute.observability.metrics import Metrics
from fog_compute.store import Cancel, Change, Conflict, Decline, Fail, Lease, Renew, Store
from fog_compute.tasks import (
    Attempt,
    AttemptState,
    Fault,
    Task,
    TaskSpec,
    new_handle,
)
from fog_compute.tasks.wire import (
    FINISHED,
    RUNNING,
    UNKNOWN,
    AttemptStatus,
    Busy,
    Rejected,
    WireError,
)
from fog_compute.text import one_line
from fog_compute.vpn.levels import PrivacyLevel

__all__ = ["Dispatcher", "Tempo"]

_log = get_logger("fog_compute.coordinator")

RESUBMIT_PAUSE: Final = timedelta(milliseconds=250)
SUBMIT_TRIES: Final = 10
RESUBMIT_PAUSE_MAX: Final = timedelta(seconds=10)
REFUSED_PAUSE: Final = timedelta(seconds=10)
REFUSED_PAUSE_MAX: Final = timedelta(minutes=10)
TOO_FEW_NODES_PAUSE: Final = timedelta(seconds=3)
TOO_FEW_NODES_PAUSE_MAX: Final = timedelta(seconds=60)
STORE_PAUSE_S: Final = 1.0
SWEEP_EVERY_S: Final = 3600.0
NOTHING_DELIVERED: Final = "the network delivers no message: its nodes are away, or cut off"

_OUTCOMES: Final = {
    AttemptState.SETTLED: "accepted",
    AttemptState.FAILED: "failed",
    AttemptState.LOST: "lost",
    AttemptState.EXPIRED: "expired",
    AttemptState.DECLINED: "declined",
    AttemptState.CANCELLED: "cancelled",
}
_AVOIDED: Final = (AttemptState.LOST, AttemptState.EXPIRED)
_KILLS: Final = {
    Fault.TIMEOUT: "timeout",
    Fault.OUT_OF_MEMORY: "out_of_memory",
    Fault.OUTPUT_LIMIT: "output_limit",
    Fault.SCRATCH_LIMIT: "scratch_limit",
}


@dataclass(frozen=True, slots=True)
class Tempo:
    """The times that the dispatcher keeps, in seconds.

    Attributes:
        lease_s: silence after which an attempt expires.
        request_timeout_s: how long an answer to a small message may take.
        poll_min_s: first pause between polls.
        poll_max_s: longest pause between polls; a quarter of the lease is never exceeded.
        worker_refresh_s: pause between two looks at the list of workers.
    """

    lease_s: float = 60.0
    request_timeout_s: float = 10.0
    poll_min_s: float = 0.05
    poll_max_s: float = 30.0
    worker_refresh_s: float = 5.0


@dataclass(slots=True)
class _Offer:
    """What is known in memory of an open attempt."""

    busy: bool = False
    submit_at: datetime | None = None
    pause: timedelta = RESUBMIT_PAUSE
    failures: int = 0
    warned: bool = False  # its silence was long enough; it is asked once more


class Dispatcher:
    """Brings every task of the store to its end."""

    def __init__(
        self,
        *,
        store: Store,
        fog: FogCoordinator,
        carrier: Carrier,
        tempo: Tempo | None = None,
        clock: Clock | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        """Nothing happens before :meth:`run`."""
        self._store: Final = store
        self._fog: Final = fog
        self._tempo: Final = Tempo() if tempo is None else tempo
        self._clock: Final = SystemClock() if clock is None else clock
        self._metrics: Final = Metrics() if metrics is None else metrics
        self._exchange: Final = Exchange(
            carrier, store.blobs, self._tempo.request_timeout_s, self._clock, self._heard
        )
        self._reach: Final = Reach()
        self._lease: Final = timedelta(seconds=self._tempo.lease_s)
        self._last_answer: Final = timedelta(seconds=2 * self._tempo.request_timeout_s)
        self._pacing: Final = Pacing(
            timedelta(seconds=self._tempo.poll_min_s),
            # Within a lease there is time for a poll that is lost, and for another.
            min(timedelta(seconds=self._tempo.poll_max_s), self._lease / 4),
        )
        self._ledger: Final = Ledger(store, self._clock, self._end_attempt, self._end_task)
        self._offers: Final[dict[str, _Offer]] = {}
        self._sessions: Final[dict[str, Session]] = {}
        self._session_of: Final[dict[str, str]] = {}
        self._lost_by: Final[dict[str, frozenset[str]]] = {}
        self._refused_by: Final[dict[str, dict[str, tuple[datetime, timedelta]]]] = {}
        self._waiting: dict[str, str] = {}
        self._hopeless_since: Final[dict[str, datetime]] = {}
        self._trouble: Final[dict[str, str]] = {}
        self._wake: Final = asyncio.Event()
        self._ready: Final = asyncio.Event()

    # What others ask for.

    async def create(self, spec: TaskSpec, key: str | None = None) -> Task:
        """Queue a task; it is on disk when this returns.

        Under a ``key`` only one task is ever made: who asks again gets the same.

        Raises:
            Conflict: another task was made under the key.
            NotFound: a blob of the task was not uploaded.
            StoreError: the database refused.
        """
        await self._until_ready()
        # Once it is on disk it must be known here too, whoever stops waiting for the answer.
        return await asyncio.shield(self._create(spec, key))

    async def _create(self, spec: TaskSpec, key: str | None) -> Task:
        if key is not None and (made := await self._store.tasks.of_key(key, spec)) is not None:
            return made
        try:
            task = await self._ledger.create(spec, key)
        except Conflict:
            # Somebody asked for the same at the same time.
            if key is None or (made := await self._store.tasks.of_key(key, spec)) is None:
                raise
            return made
        self._wake.set()
        return task

    async def cancel(self, task_id: str) -> Task:
        """Cancel a task that is not over; its worker is told to stop.

        Raises:
            NotFound: there is no such task.
            Conflict: the task is over.
        """
        await self._until_ready()
        task = self._ledger.tasks.get(task_id)
        if task is None:
            task = await self._store.tasks.get(task_id)
            raise Conflict(f"task {task_id} is over: it is {task.state.value}")
        await self._apply([Cancel(task_id)])
        return await self._store.tasks.get(task_id)

    def waiting_reason(self, task_id: str) -> str:
        """Why an open task is not with a worker now; empty if there is nothing to say."""
        task = self._ledger.tasks.get(task_id)
        own = "" if task is None else self._reach.trouble(task.spec.privacy)
        if own:
            return f"waiting: {own}"
        reasons = (self._waiting.get(task_id), self._trouble.get(task_id))
        return "; ".join(reason for reason in reasons if reason)

    @property
    def trouble(self) -> str:
        """What keeps this side from its work now, in one line; empty if nothing does."""
        return self._reach.trouble()

    async def circuit_of(self, task_id: str) -> str:
        """The id of the circuit that a task's present attempt uses; waits until it has one.

        Raises:
            NotFound: there is no such task.
            Conflict: the task is over.
        """
        await self._until_ready()
        version = 0
        while True:
            task = await self._store.events.wait(task_id, version, self._tempo.poll_max_s)
            if task.state.final:
                raise Conflict(f"task {task_id} is over: it is {task.state.value}")
            attempt = self._ledger.attempts.get(task.attempt or "")
            if attempt is not None:
                return await self._exchange.circuit(self._session(task, attempt))
            version = task.version

    # The loops.

    async def run(self) -> None:
        """Work until cancelled; what was begun is found again in the store by the next run."""
        while not self._ready.is_set():
            try:
                await self._recover()
                self._store_found()
                self._ready.set()
            except StoreError as error:
                self._note_store(error)
                await self._clock.sleep(STORE_PAUSE_S)
        due: datetime | None = None
        async with asyncio.TaskGroup() as jobs:
            jobs.create_task(self._watch_workers(), name="worker-list")
            jobs.create_task(self._sweep(), name="store-sweep")
            while True:
                self._wake.clear()
                self._forgive_absence(due)
                plan = planner.plan(self._view(), self._place)
                self._note_waiting(plan)
                due = self._clock.now() if plan.actions else plan.wake_at
                try:
                    for action in plan.actions:
                        await self._begin(action, jobs)
                    if self._reach.store_away:
                        await self._try_store()
                except StoreError:
                    await self._clock.sleep(STORE_PAUSE_S)
                    continue
                if not plan.actions:
                    await self._sleep_until(plan.wake_at)

    def _note_waiting(self, plan: planner.Plan) -> None:
        self._waiting = dict(plan.waiting)
        now = self._clock.now()
        for task_id in plan.waiting:
            if task_id in plan.hopeless:
                self._hopeless_since.setdefault(task_id, now)
            else:
                self._hopeless_since.pop(task_id, None)

    def _forgive_absence(self, due: datetime | None) -> None:
        """Renew all leases if this plan was due long ago: nobody listened, so nobody was silent."""
        if due is not None and self._clock.now() - due > self._lease / 2:
            self._count_anew(frozenset(PrivacyLevel))

    def _count_anew(self, levels: frozenset[PrivacyLevel]) -> None:
        """Let no worker answer for the time until now, in which it was not heard here."""
        now = self._clock.now()
        self._hopeless_since.clear()
        for handle, attempt in self._ledger.attempts.items():
            if self._ledger.tasks[attempt.task_id].spec.privacy in levels:
                self._ledger.renew_in_memory(handle, self._lease)
                self._offers[handle].warned = False
        for session in self._sessions.values():
            if session.level in levels:
                session.count_anew(now)

    def _heard(self, level: PrivacyLevel) -> None:
        """The network carried something; if it could not before, all waiting begins anew."""
        if self._reach.found(level):
            _log.info("network.back", privacy=level.value)
            self._count_anew(frozenset({level}))

    def _deaf(self, level: PrivacyLevel, error: NetworkTrouble, *, silent: bool = False) -> None:
        if self._reach.lost(level, error, silent=silent):
            _log.warning("network.away", privacy=level.value, reason=str(error))

    async def _try_store(self) -> None:
        """Write something that is true anyway, to learn whether the store is back."""
        until = self._clock.now() + self._lease
        await self._apply([Renew(handle, until) for handle in self._ledger.attempts])
        self._store_found()

    def _note_store(self, error: StoreError) -> None:
        if self._reach.store_lost(error):
            _log.error("store.refused", reason=str(error))

    def _store_found(self) -> None:
        if self._reach.store_found():
            _log.info("store.back")
            self._count_anew(frozenset(PrivacyLevel))

    async def _until_ready(self) -> None:
        """Wait until the store's rows are read; not if the store is away."""
        if not self._ready.is_set() and self._reach.store_away:
            raise StoreError(self._reach.trouble())
        await self._ready.wait()

    async def _recover(self) -> None:
        await self._ledger.load(self._lease)
        now = self._clock.now()
        for attempt in self._ledger.attempts.values():
            self._adopt(attempt)
            if attempt.state is not AttemptState.OFFERED:
                task = self._ledger.tasks[attempt.task_id]
                session = self._session(task, attempt)
                session.follow(attempt.handle, task.spec.limits, now)
                session.poll_now(now)
        if self._ledger.tasks:
            _log.info(
                "tasks.resumed", tasks=len(self._ledger.tasks), attempts=len(self._ledger.attempts)
            )

    async def _watch_workers(self) -> None:
        trouble = ""
        while True:
            try:
                if await self._fog.refresh():
                    self._wake.set()
                trouble = ""
            except FogError as error:
                if trouble != str(error):
                    trouble = str(error)
                    _log.warning("workers.unreachable", reason=trouble)
            pause = self._tempo.worker_refresh_s
            # Nothing to place a task on: look again soon.
            await self._clock.sleep(pause if self._fog.workers() else min(0.5, pause))

    async def _sweep(self) -> None:
        while True:
            try:
                await self._store.sweep()
            except FogError as error:
                _log.warning("store.sweep_failed", reason=str(error))
            await self._clock.sleep(SWEEP_EVERY_S)

    async def _sleep_until(self, at: datetime | None) -> None:
        times = [time for time in (at, self._fog.next_change()) if time is not None]
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

    def _view(self) -> planner.View:
        now = self._clock.now()
        self._end_sessions(now)
        return planner.View(
            now=now,
            tasks=self._ledger.tasks,
            attempts={
                handle: planner.AttemptView(
                    attempt,
                    self._offers[handle].busy,
                    self._offers[handle].submit_at or now,
                    deaf=self._reach.deaf(self._ledger.tasks[attempt.task_id].spec.privacy),
                )
                for handle, attempt in self._ledger.attempts.items()
            },
            sessions=tuple(session.view() for session in self._sessions.values()),
            lost_by=self._lost_by,
            refused_by={
                task_id: {worker: until for worker, (until, _) in refusals.items()}
                for task_id, refusals in self._refused_by.items()
            },
            hopeless_since=self._hopeless_since,
        )

    def _place(self, requirements: Requirements, leased: Mapping[str, int]) -> Decision:
        return self._fog.select_node(requirements, leased=leased)

    async def _begin(self, action: planner.Action, jobs: asyncio.TaskGroup) -> None:
        match action:
            case planner.Lease():
                await self._lease_to(action.task_id, action.decision)
            case planner.GiveUp():
                await self._give_up_hope(action.task_id, action.reason)
            case planner.Expire():
                if offer := self._offers.get(action.handle):
                    offer.busy = True
                    jobs.create_task(self._guarded(self._expire(action.handle)))
            case planner.Submit():
                if offer := self._offers.get(action.handle):
                    offer.busy = True
                    jobs.create_task(self._guarded(self._submit(action.handle)))
            case planner.Poll():
                if session := self._sessions.get(action.session):
                    session.begin_poll()
                    jobs.create_task(self._guarded(self._poll(session)))
            case planner.Tell():
                if session := self._sessions.get(action.session):
                    session.begin_tell()
                    jobs.create_task(self._guarded(self._tell(session)))

    async def _guarded(self, job: Coroutine[object, object, None]) -> None:
        """Run a conversation; whatever one worker sends, the others go on."""
        try:
            await job
        except FogError as error:
            if not self._reach.store_away:  # which was said once
                _log.warning("conversation.failed", reason=str(error))
        except Exception:  # noqa: BLE001  # one conversation must not end all of them
            _log.error("conversation.crashed", exc_info=True)
        finally:
            self._wake.set()

    async def _lease_to(self, task_id: str, decision: Decision) -> None:
        worker = decision.worker
        if worker is None:
            return
        handle = new_handle()
        until = self._clock.now() + self._lease
        await self._apply(
            [Lease(task_id, handle, worker.name, worker.address, until, decision.explain())]
        )
        if attempt := self._ledger.attempts.get(handle):
            self._adopt(attempt)

    async def _give_up_hope(self, task_id: str, reason: str) -> None:
        last = self._trouble.get(task_id)
        text = f"{reason}; {last}" if last else reason
        await self._apply([Fail(task_id, f"{text}; it waited for another worker for an hour")])

    async def _submit(self, handle: str) -> None:
        offer, known = self._offers.get(handle), self._ledger.task_of(handle)
        if offer is None or known is None:
            return
        task, attempt = known
        session = self._session(task, attempt)
        try:
            reply = await self._exchange.submit(
                session,
                task,
                attempt,
                lambda: self._ledger.renew_in_memory(handle, self._lease),
            )
        except (NotFound, StoreUnusable) as error:
            await self._apply([Fail(task.id, str(error))])
            return
        except PrivacyUnavailable as error:
            pause = min(TOO_FEW_NODES_PAUSE * (task.leases + 1), TOO_FEW_NODES_PAUSE_MAX)
            await self._decline(handle, str(error), pause)
            self._avoid(attempt)
            return
        except NO_NETWORK as error:
            self._deaf(session.level, error)
            return
        except ChannelError as error:
            await self._not_submitted(session, handle, offer, error)
            return
        except FogError as error:
            # The task's own blobs cannot be read now: nobody was asked, so nobody is silent.
            if self._trouble.get(task.id) != str(error):
                _log.warning("submission.failed", reason=str(error))
            self._trouble[task.id] = str(error)
            self._ledger.renew_in_memory(handle, self._lease)
            return
        finally:
            offer.busy = False
            offer.submit_at = self._clock.now() + offer.pause
            offer.pause = min(offer.pause * 2, RESUBMIT_PAUSE_MAX)
        if handle not in self._ledger.attempts:
            # It ended while it was offered; the worker may have it now and must not keep it.
            session.drop(handle, self._clock.now(), cancel=True)
            return
        match reply:
            case Busy():
                self._fog.note_busy(attempt.worker)
                await self._decline(handle, "the worker was busy", None)
            case Rejected():
                self._fog.note_answer(attempt.worker)
                self._note_refusal(task.id, attempt.worker)
                reason = f"the worker refused it: {one_line(reply.reason)}"
                await self._decline(handle, reason, None)
            case _:
                self._fog.note_accepted(attempt.worker, task.spec.module)
                self._hopeless_since.pop(task.id, None)
                self._trouble.pop(task.id, None)
                session.follow(handle, task.spec.limits, self._clock.now())
                await self._hear(session, reply.status)

    async def _not_submitted(
        self, session: Session, handle: str, offer: _Offer, error: ChannelError
    ) -> None:
        """A worker did not answer a submission, or not to the point."""
        known = self._ledger.attempts.get(handle)
        if known is None:
            return
        self._note_silence(session)
        self._trouble[known.task_id] = str(error)
        offer.failures += 1
        if offer.failures < SUBMIT_TRIES:
            await self._listen(session)
        else:
            # Who answers, but never to the point, would otherwise never fall silent.
            await self._give_up(session, handle, offer, str(error))

    async def _expire(self, handle: str) -> None:
        """End an attempt whose lease has run out, unless its worker is heard after all."""
        offer, known = self._offers.get(handle), self._ledger.task_of(handle)
        if offer is None or known is None:
            return
        try:
            await self._give_up(self._session(*known), handle, offer, "the worker fell silent")
        finally:
            offer.busy = False

    async def _give_up(self, session: Session, handle: str, offer: _Offer, reason: str) -> None:
        """Take an attempt from a silent worker; a try is used up only if it could be asked.

        It may have been silent because the network was. So who can be asked now is asked again,
        and has as long to answer as any message.
        """
        known = self._ledger.attempts.get(handle)
        until = None if known is None else known.lease_until
        try:
            reached = await self._exchange.reaches(session)
        except NO_NETWORK as error:
            self._deaf(session.level, error)
            return
        except PrivacyUnavailable as error:
            await self._lose(handle, str(error), AttemptState.EXPIRED, counts=False)
            return
        attempt = self._ledger.attempts.get(handle)
        if attempt is None or attempt.lease_until != until:
            return  # it ended, or was heard
        if reached and not offer.warned:
            offer.warned = True
            offer.submit_at, offer.pause = None, RESUBMIT_PAUSE
            self._ledger.renew_in_memory(handle, self._last_answer)
            session.poll_now(self._clock.now())
            return
        if not reached:
            reason = f"{reason}, and the network takes no message for it"
            self._deaf(session.level, ChannelDown(NOTHING_DELIVERED), silent=True)
            # So it was not the workers; they may be asked again at once.
            self._fog.forgive_silence()
        await self._lose(handle, reason, AttemptState.EXPIRED, counts=reached)

    async def _listen(self, session: Session) -> None:
        """While the network was away: look whether it is back, if nobody answered."""
        if not self._reach.away(session.level):
            return
        try:
            reached = await self._exchange.reaches(session)
        except NO_NETWORK as error:
            self._deaf(session.level, error)
        except PrivacyUnavailable:
            self._heard(session.level)  # it takes part again, in a network that is too small
        else:
            if not reached and not self._reach.silent(session.level):
                # It takes part again; whether this worker can be asked is another question.
                self._heard(session.level)

    def _note_silence(self, session: Session) -> None:
        if not self._reach.away(session.level):
            self._fog.note_silence(session.worker)

    async def _poll(self, session: Session) -> None:
        heard = False
        try:
            status = await self._exchange.poll(session)
            self._fog.note_answer(session.worker)
            for item in status.items:
                heard |= await self._hear(session, item)
        except NO_NETWORK as error:
            self._deaf(session.level, error)
        except ChannelError as error:
            self._note_silence(session)
            _log.debug("poll.failed", worker=session.worker, reason=str(error))
            await self._listen(session)
        except PrivacyUnavailable as error:
            _log.debug("poll.failed", worker=session.worker, reason=str(error))
        finally:
            session.end_poll(self._clock.now(), news=heard)

    async def _tell(self, session: Session) -> None:
        try:
            await self._exchange.tell(session)
        except NO_NETWORK as error:
            self._deaf(session.level, error)
        except (ChannelError, PrivacyUnavailable) as error:
            _log.debug("tell.failed", worker=session.worker, reason=str(error))
        finally:
            session.end_tell(self._clock.now())

    async def _hear(self, session: Session, status: AttemptStatus) -> bool:
        """Take one status; return whether it brought anything new."""
        handle = status.handle.hex()
        progress = session.progress(handle)
        known = self._ledger.task_of(handle)
        if progress is None or known is None:
            return False
        task, attempt = known
        now = self._clock.now()
        try:
            result = progress.assembler.add(status)
        except WireError as error:
            await self._lose(handle, f"its result cannot be read: {one_line(str(error))}")
            return True
        if result is not None:
            if result.trap in _KILLS:
                self._metrics.runner_kills.labels(_KILLS[result.trap]).inc()
            session.moved(now)
            await self._apply(news.after_result(task, attempt, result))
            return True
        progress.total = status.result_total
        grew = session.grew(progress, now)
        moving = session.moving(now - self._lease / 2)
        if status.state == FINISHED and not progress.finished:
            progress.finished = moving = True
        if status.state in (RUNNING, FINISHED) and progress.running_since is None:
            progress.running_since = now
        if status.state == UNKNOWN:
            session.held_refs.clear()
            self._fog.note_forgot(session.worker)
        changes = news.after_status(
            task,
            attempt,
            status,
            now=now,
            lease=self._lease,
            held_since=progress.since,
            running_since=progress.running_since,
            moving=moving,
        )
        await self._apply(changes)
        if changes and (offer := self._offers.get(handle)):
            offer.warned = False
        return grew or any(not isinstance(change, Renew) for change in changes)

    # Changes of rows.

    async def _apply(self, changes: Sequence[Change]) -> None:
        try:
            await self._ledger.apply(changes)
        except StoreError as error:
            self._note_store(error)
            raise
        if changes:
            self._store_found()
        self._wake.set()

    def _end_attempt(self, attempt: Attempt) -> None:
        self._fog.note_ended(attempt.worker, attempt.state)
        self._metrics.attempts.labels(_OUTCOMES[attempt.state]).inc()
        self._offers.pop(attempt.handle, None)
        session = self._sessions.get(self._session_of.pop(attempt.handle, ""))
        if session is None:
            return
        confirmed = session.progress(attempt.handle) is not None
        known_to_worker = confirmed or attempt.state is not AttemptState.DECLINED
        if attempt.state in _AVOIDED or (confirmed and attempt.state is AttemptState.DECLINED):
            self._avoid(attempt)
        stop = attempt.state is not AttemptState.SETTLED
        now = self._clock.now()
        session.drop(attempt.handle, now, cancel=stop if known_to_worker else None)

    def _avoid(self, attempt: Attempt) -> None:
        """Ask others first about this task, if there are others."""
        if attempt.task_id in self._ledger.tasks:
            lost_by = self._lost_by.get(attempt.task_id, frozenset())
            self._lost_by[attempt.task_id] = lost_by | {attempt.worker}

    def _end_task(self, task: Task) -> None:
        self._lost_by.pop(task.id, None)
        self._refused_by.pop(task.id, None)
        self._hopeless_since.pop(task.id, None)
        self._trouble.pop(task.id, None)
        duration = ((task.finished_at or task.updated_at) - task.created_at).total_seconds()
        self._metrics.task_duration.labels(task.spec.privacy.value, task.state.value).observe(
            max(0.0, duration)
        )
        _log.info("task.ended", state=task.state.value, privacy=task.spec.privacy.value)

    async def _decline(self, handle: str, reason: str, pause: timedelta | None) -> None:
        not_before = None if pause is None else self._clock.now() + pause
        if attempt := self._ledger.attempts.get(handle):
            self._trouble[attempt.task_id] = reason
        await self._apply([Decline(handle, reason, not_before)])

    async def _lose(
        self,
        handle: str,
        reason: str,
        how: AttemptState = AttemptState.LOST,
        *,
        counts: bool = True,
    ) -> None:
        known = self._ledger.task_of(handle)
        if known is None:
            return
        task, attempt = known
        if how is AttemptState.EXPIRED and counts:
            self._fog.note_silence(attempt.worker)
        now = self._clock.now()
        await self._apply(news.after_loss(task, attempt, reason, now=now, how=how, counts=counts))

    def _note_refusal(self, task_id: str, worker: str) -> None:
        refusals = self._refused_by.setdefault(task_id, {})
        _, pause = refusals.get(worker, (None, REFUSED_PAUSE))
        refusals[worker] = (self._clock.now() + pause, min(pause * 2, REFUSED_PAUSE_MAX))

    # Sessions.

    def _adopt(self, attempt: Attempt) -> None:
        self._offers[attempt.handle] = _Offer()
        self._fog.note_leased(attempt.worker)

    def _session(self, task: Task, attempt: Attempt) -> Session:
        """The session of an attempt, begun if there is none."""
        level = task.spec.privacy
        key = session_key(level, attempt)
        session = self._sessions.get(key)
        if session is None:
            session = Session(key, level, attempt, self._pacing, self._clock.now())
            self._sessions[key] = session
        self._session_of[attempt.handle] = key
        return session

    def _end_sessions(self, now: datetime) -> None:
        used = set(self._session_of.values())
        for key, session in tuple(self._sessions.items()):
            if session.over(now, key in used):
                del self._sessions[key]
                self._exchange.end(session)
