"""What is said to a worker about an attempt, and what follows from each answer or silence."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Final

from fog_compute.backoff import Backoff
from fog_compute.clock import Clock
from fog_compute.coordinator import news
from fog_compute.coordinator.attempts import OpenAttempt
from fog_compute.coordinator.exchange import Exchange
from fog_compute.coordinator.open_work import OpenWork
from fog_compute.coordinator.parcels import AT_ONCE_BYTES
from fog_compute.coordinator.phases import Deed, PhaseEvent
from fog_compute.coordinator.reach import NO_NETWORK
from fog_compute.coordinator.registry import WorkerRegistry
from fog_compute.coordinator.sessions import Session
from fog_compute.errors import (
    ChannelDown,
    ChannelError,
    FogError,
    NotFound,
    PrivacyUnavailable,
    StoreUnusable,
)
from fog_compute.observability import get_logger
from fog_compute.observability.metrics import TaskMetrics
from fog_compute.store import Failed
from fog_compute.tasks import AttemptState, Fault
from fog_compute.tasks.messages import FINISHED, RUNNING, UNKNOWN, AttemptStatus, Busy, Rejected
from fog_compute.tasks.receipt import BadReceipt, check_receipt
from fog_compute.tasks.result import BadResult, TaskResult
from fog_compute.text import one_line
from fog_compute.threads import in_thread

__all__ = ["Conversations"]

_log = get_logger("fog_compute.coordinator")

SUBMIT_TRIES: Final = 10
TOO_FEW_NODES: Final = Backoff(3, 60)
NOTHING_DELIVERED: Final = "the network delivers no message: its nodes are away, or cut off"

_KILLS: Final = {
    Fault.TIMEOUT: "timeout",
    Fault.OUT_OF_MEMORY: "out_of_memory",
    Fault.OUTPUT_LIMIT: "output_limit",
    Fault.SCRATCH_LIMIT: "scratch_limit",
}


class Conversations:
    """One conversation with one worker at a time for each offer, poll and tell.

    Each may end at any point and be begun again: what it learned is in the open work.
    """

    def __init__(
        self,
        *,
        work: OpenWork,
        fog: WorkerRegistry,
        exchange: Exchange,
        clock: Clock,
        metrics: TaskMetrics,
    ) -> None:
        """Say nothing yet."""
        self._work: Final = work
        self._fog: Final = fog
        self._exchange: Final = exchange
        self._clock: Final = clock
        self._metrics: Final = metrics

    async def submit(self, record: OpenAttempt) -> None:
        """Offer an attempt to its worker, with the blobs that it lacks."""
        answerless = False
        try:
            answerless = await self._submit(record)
        finally:
            event = PhaseEvent.ANSWERLESS if answerless else PhaseEvent.SPOKEN
            self._work.happen(record, event)
        if answerless:
            # Who answers, but never to the point, would otherwise never fall silent.
            await self.check(record, record.trouble)

    async def _submit(self, record: OpenAttempt) -> bool:
        """Submit an attempt once; return whether that was once too often without an answer."""
        if record.handle not in self._work.ledger.records:
            return False
        session, task, worker = self._work.session(record), record.task, record.row.worker
        spare = partial(self._work.spare, record)
        try:
            reply = await self._exchange.submit(session, task, record.row, spare)
        except (NotFound, StoreUnusable) as error:
            await self._work.apply([Failed(task.id, str(error))])
            return False
        except PrivacyUnavailable as error:
            pause = TOO_FEW_NODES.delay(task.leases)
            await self._work.decline(record.handle, str(error), pause)
            return False
        except NO_NETWORK as error:
            self._work.deaf(session.level, error)
            return False
        except ChannelError as error:
            return await self._not_submitted(session, record, error)
        except Exception as error:  # noqa: BLE001  # a fault of ours is no silence of a worker's
            # The task's own blobs cannot be read now, or worse: nobody was asked.
            told = isinstance(error, FogError)
            why = str(error) if told else f"it cannot be sent: an unexpected {type(error).__name__}"
            if record.trouble != why:
                _log.warning("submission.failed", reason=why, exc_info=not told)
            record.trouble = why
            spare()
            return False
        if record.over:
            # It ended while it was offered; the worker may have it now and must not keep it.
            session.drop(record.handle, self._clock.now(), cancel=True)
            return False
        match reply:
            case Busy():
                self._fog.note_busy(worker, session.level)
                await self._work.decline(record.handle, "the worker was busy", None)
            case Rejected():
                self._fog.note_answer(worker, session.level)
                reason = f"the worker refused it: {one_line(reply.reason)}"
                await self._work.decline(record.handle, reason, None, refused=True)
            case _:
                self._fog.note_accepted(worker, session.level, task.spec.module)
                record.trouble = ""
                session.follow(record, self._clock.now())
                await self._hear(session, reply.status)
        return False

    async def _not_submitted(
        self, session: Session, record: OpenAttempt, error: ChannelError
    ) -> bool:
        """A worker did not answer a submission, or not to the point; return whether once too often.

        Until then it is looked whether the network is back, if it was away.
        """
        if record.over:
            return False
        self._note_silence(session)
        record.trouble = str(error)
        record.failures += 1
        if record.failures < SUBMIT_TRIES:
            await self._listen(session)
            return False
        return True

    async def check(self, record: OpenAttempt, reason: str = "the worker fell silent") -> None:
        """Take an attempt from a silent worker; a try is used up only if it could be asked.

        It may have been silent because the network was. So who can be asked now is asked again,
        and has as long to answer as any message.
        """
        if record.handle not in self._work.ledger.records:
            return
        session, event = self._work.session(record), PhaseEvent.SPOKEN
        unavailable = ""
        deeds: Sequence[Deed] = ()
        try:
            reached = await self._exchange.reaches(session)
            event = PhaseEvent.REACHED if reached else PhaseEvent.UNREACHED
        except NO_NETWORK as error:
            self._work.deaf(session.level, error)
        except PrivacyUnavailable as error:
            event, unavailable = PhaseEvent.UNREACHED, str(error)
        finally:
            deeds = self._work.happen(record, event)
        for deed in deeds:
            match deed:
                case Deed.WARN:
                    session.poll_now(self._clock.now())
                case Deed.EXPIRE:
                    await self._work.lose(record, reason, AttemptState.EXPIRED)
                case Deed.RETURN:
                    if not unavailable:
                        self._blame_network(session)
                        unavailable = f"{reason}, and the network takes no message for it"
                    await self._work.lose(record, unavailable, AttemptState.EXPIRED, counts=False)
                case _:
                    pass  # the record did it itself

    def _blame_network(self, session: Session) -> None:
        """It was not the workers that were silent; they may be asked again at once."""
        self._work.deaf(session.level, ChannelDown(NOTHING_DELIVERED), silent=True)
        self._fog.forgive_silence(session.level)

    async def _listen(self, session: Session) -> None:
        """While the network was away: look whether it is back, if nobody answered."""
        if not self._work.reach.away(session.level):
            return
        try:
            reached = await self._exchange.reaches(session)
        except NO_NETWORK as error:
            self._work.deaf(session.level, error)
        except PrivacyUnavailable:
            self._work.heard(session.level)  # it takes part again, in a network that is too small
        else:
            if not reached and not self._work.reach.silent(session.level):
                # It takes part again; whether this worker can be asked is another question.
                self._work.heard(session.level)

    def _note_silence(self, session: Session) -> None:
        if not self._work.reach.away(session.level):
            self._fog.note_silence(session.worker, session.level)

    async def poll(self, session: Session) -> None:
        """Ask a worker how the attempts of a session do, and take what it says."""
        heard = False
        try:
            status = await self._exchange.poll(session)
            self._fog.note_answer(session.worker, session.level)
            # Together, so that what they change is written together.
            heard = any(await asyncio.gather(*(self._hear(session, i) for i in status.items)))
            heard |= await self._pull(session)
        except NO_NETWORK as error:
            self._work.deaf(session.level, error)
        except ChannelError as error:
            self._note_silence(session)
            _log.debug("poll.failed", worker=session.worker, reason=str(error))
            await self._listen(session)
        except PrivacyUnavailable as error:
            _log.debug("poll.failed", worker=session.worker, reason=str(error))
        finally:
            session.end_poll(self._clock.now(), news=heard)

    async def _pull(self, session: Session) -> bool:
        """Fetch more of large results, many pieces at once; return whether any came."""
        wanted = session.pulls()
        if not wanted:
            return False
        answers = await asyncio.gather(
            *(self._exchange.pull(session, handle, offset) for handle, offset in wanted),
            return_exceptions=True,
        )
        came = [answer for answer in answers if not isinstance(answer, BaseException)]
        session.pulled(len(came), len(wanted))
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, ChannelError):
                raise answer
        # One after the other, because several are of one result.
        heard = [await self._hear(session, item) for answer in came for item in answer.items]
        return any(heard)

    async def _signer_of(
        self, session: Session, status: AttemptStatus, result: TaskResult
    ) -> bytes:
        """Return the key that signed for a result, or raise `BadReceipt`."""
        check = (status.receipt, status.handle, result, session.receipt_key)
        if len(result.data) <= AT_ONCE_BYTES:
            return check_receipt(*check)
        return await in_thread(check_receipt, *check)

    async def tell(self, session: Session) -> None:
        """Tell a worker what it may forget."""
        try:
            await self._exchange.tell(session)
        except NO_NETWORK as error:
            self._work.deaf(session.level, error)
        except (ChannelError, PrivacyUnavailable) as error:
            _log.debug("tell.failed", worker=session.worker, reason=str(error))
        finally:
            session.end_tell(self._clock.now())

    async def _hear(self, session: Session, status: AttemptStatus) -> bool:
        """Take one status; return whether it brought anything new."""
        record = session.followed.get(status.handle.hex())
        if record is None or record.since is None:
            return False
        now = self._clock.now()
        try:
            result = record.assembler.add(status)
        except BadResult as error:
            await self._work.lose(record, f"its result cannot be read: {one_line(str(error))}")
            return True
        if result is not None:
            try:
                session.receipt_key = await self._signer_of(session, status, result)
            except BadReceipt as error:
                await self._work.lose(record, f"its worker is not to be believed: {error}")
                return True
            if result.fault in _KILLS:
                self._metrics.runner_kills.labels(_KILLS[result.fault]).inc()
            session.moved(now)
            asked = result.fault is not None or record.task.tries > 0
            earlier = await self._work.attempts_of(record.task.id) if asked else ()
            await self._work.apply(
                news.after_result(record.task, record.row, result, earlier, status.receipt)
            )
            for worker in news.contradicted(result, earlier):
                self._fog.note_contradicted(worker, session.level)
            return True
        record.total = status.result_total
        record.log_tail = status.log_tail or record.log_tail
        record.compiling = status.compiling
        grew = session.grew(record, now)
        moving = session.moving(now - self._work.lease / 2)
        if status.state == FINISHED and not record.finished:
            record.finished = moving = True
        if status.state in (RUNNING, FINISHED) and record.running_since is None:
            record.running_since = now
        if status.state == UNKNOWN:
            session.held_refs.clear()
            self._fog.note_forgot(session.worker, session.level)
        told = news.after_status(
            record.task,
            record.row,
            status,
            now=now,
            lease=self._work.lease,
            held_since=record.since,
            running_since=record.running_since,
            moving=moving,
        )
        if told.alive:
            self._work.renew(record)
        await self._work.apply(told.changes)
        return grew or bool(told.changes)
