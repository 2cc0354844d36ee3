"""The agent: takes attempts from coordinators, runs them in its slots, and answers polls.

Every request is idempotent, because each may be lost, repeated or overtaken.  The agent knows an
attempt by its handle alone; it keeps no record of who sent what, and its log says nothing of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec

from fog_compute.clock import Clock, SystemClock
from fog_compute.errors import ChannelError, FogError, InvalidTask
from fog_compute.levels import PrivacyLevel
from fog_compute.observability import get_logger
from fog_compute.tasks.messages import (
    FINISHED,
    LOST,
    QUEUED,
    RETURNED,
    RUNNING,
    UNKNOWN,
    Accepted,
    Ack,
    AttemptStatus,
    Busy,
    Cancel,
    Done,
    Module,
    NeedModule,
    Poll,
    Rejected,
    Reply,
    Request,
    Status,
    Submit,
)
from fog_compute.tasks.model import Fault
from fog_compute.tasks.pacing import next_edge
from fog_compute.tasks.result import TaskResult
from fog_compute.tasks.sealing import BadBlob
from fog_compute.tasks.wire import (
    WireError,
    encode,
    fit_statuses,
    parse_request,
    rejected,
)
from fog_compute.text import one_line
from fog_compute.vpn.channel import MessageChannel, Received
from fog_compute.vpn.directory import WorkerOffer, WorkerPublisher
from fog_compute.worker.attempts import Held, check_submit, open_job, open_module, refs_of
from fog_compute.worker.cache import BlobCache, BlobGone, CacheFull
from fog_compute.worker.journal import Journal, JournalUnusable
from fog_compute.worker.protocol import NEVER_EXITED
from fog_compute.worker.settings import WorkerSettings
from fog_compute.worker.slot import RunnerLost, RunnerSlot

CONCURRENT_REQUESTS: Final = 256
SWEEP_INTERVAL_S: Final = 60.0
RESTART_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0
PUBLISH_RETRY_S: Final = 2.0
ANSWERS_S: Final = 0.5  # for the answers to those who wait when the worker stops
LOST_REMEMBERED: Final = 4096
RELEASE_TOLERANCE_S: Final = 0.001  # what adding up floating-point times may be off by

_log = get_logger("fog_compute.worker")


@dataclasses.dataclass(frozen=True, slots=True)
class Served:
    """A level that a worker serves, with a channel and a name of its own.

    Attributes:
        name: the worker's name in the list, at this level.
        channel: where its requests come from.
        level: the level of all of them; None where the channel takes any.
        publisher: puts the offer into the list, if given.
    """

    name: str
    channel: MessageChannel
    level: PrivacyLevel | None = None
    publisher: WorkerPublisher | None = None


class WorkerAgent:
    """One worker.  `run` is all of it; everything else happens through its channels."""

    def __init__(
        self,
        served: Sequence[Served],
        home: Path,
        *,
        settings: WorkerSettings | None = None,
        clock: Clock | None = None,
        on_trouble: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Keep all state below ``home``, and share the slots among the levels in ``served``.

        ``on_trouble`` is called with one line when the machine keeps slots from running tasks, and
        with an empty one when it does so no longer.
        """
        self._served = tuple(served)
        self._settings = WorkerSettings() if settings is None else settings
        self._clock: Clock = SystemClock() if clock is None else clock
        self._journal = Journal(home / "attempts.db", self._clock)
        self._cache = BlobCache(home / "blobs", self._settings.cache_bytes)
        self._slots = [
            RunnerSlot(home / "slots" / str(i), home / "compiled", self._settings.memory_bytes)
            for i in range(self._settings.slots)
        ]
        self._held: dict[bytes, Held] = {}  # bounded by `capacity`; first come, first run
        self._unreleased: dict[bytes, Held] = {}  # finished and kept, not shown yet
        self._lost: dict[bytes, None] = {}
        self._draining = False
        self._releases: set[asyncio.Task[None]] = set()
        self._handling: set[asyncio.Task[None]] = set()
        self._queued = asyncio.Event()
        self._able: set[RunnerSlot] = set()  # slots in which a runner works, or will in a moment
        self._tried = asyncio.Event()  # one slot at least could be used, now or before
        self._trouble = ""  # why slots cannot be used, as it was last told
        self._on_trouble = on_trouble

    @property
    def capacity(self) -> int:
        """How many attempts are held at once, running or waiting."""
        return self._settings.slots + self._settings.queue

    async def run(self) -> None:
        """Serve until cancelled or until the channel closes.  No runner is left behind.

        Raises:
            ChannelError: a channel is closed.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for slot in self._slots:
                    group.create_task(self._serve_slot(slot), name="slot")
                group.create_task(self._sweep(), name="sweep")
                for one in self._served:
                    if one.publisher is not None:
                        group.create_task(self._publish(one.publisher, one), name="publish")
                    group.create_task(self._receive(group, one.channel), name="receive")
        except* ChannelError as errors:
            raise ChannelError("a channel of the worker is closed") from errors
        finally:
            for release in self._releases:
                release.cancel()
            await asyncio.gather(*(slot.close() for slot in self._slots))
            self._journal.close()

    async def tried(self) -> None:
        """Return once it is known whether this machine can run tasks."""
        await self._tried.wait()

    async def drain(self, seconds: float) -> None:
        """Take no more attempts, let those that run end for ``seconds``, and give the rest back.

        That an attempt was given back is kept: whoever asks after a restart hears it, too, also if
        this process is killed while it waits.
        """
        self._draining = True
        held = tuple(self._held.values())
        await self._note_given_back(held)
        for one in held:
            if one.state == QUEUED:
                self._give_back(one)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.gather(*(one.ended.wait() for one in held))
        for one in held:
            if self._held.get(one.handle) is one:
                self._give_back(one)
        if self._handling:
            # Who waits for news of them is being told.
            await asyncio.wait(self._handling, timeout=ANSWERS_S)

    async def _note_given_back(self, held: Iterable[Held]) -> None:
        until = self._journal.now() + self._settings.kept_s
        try:
            await self._journal.give_back([one.handle for one in held], until)
        except JournalUnusable as err:
            _log.warning("attempts.not_given_back", reason=err.message)

    def _give_back(self, held: Held) -> None:
        if held.running is not None:
            held.running.cancel()
        self._let_go(held)
        held.news.set()

    # Requests

    async def _receive(self, group: asyncio.TaskGroup, channel: MessageChannel) -> None:
        free = asyncio.Semaphore(CONCURRENT_REQUESTS)
        await self._tried.wait()  # so that no attempt is taken that this machine cannot run
        while True:
            await free.acquire()
            incoming = await channel.receive()
            handling = group.create_task(self._handle(channel, incoming))
            self._handling.add(handling)
            handling.add_done_callback(self._handling.discard)
            handling.add_done_callback(lambda _: free.release())

    async def _handle(self, channel: MessageChannel, incoming: Received) -> None:
        try:
            request = parse_request(incoming.body)
        except WireError as err:
            _log.debug("request.refused", reason=str(err))
            await self._answer(channel, incoming, Rejected("this is no request of this protocol"))
            return
        reply = await self._effect(request)
        # Many may wait for news, so what they brought must go.
        incoming = dataclasses.replace(incoming, body=b"")
        if isinstance(request, Submit):
            request = msgspec.structs.replace(request, attached={})
        with contextlib.suppress(ChannelError):
            await channel.commit(incoming)
        if isinstance(request, Submit | Poll) and incoming.reply_capacity:
            await self._hold(request)
            try:
                reply = self._status_reply(request, reply, incoming.reply_capacity)
            except JournalUnusable as err:
                reply = self._put_off(err)
        await self._answer(channel, incoming, reply, committed=True)

    async def _effect(self, request: Request) -> Reply:
        """Do what a request asks; all that must last has been kept when this returns."""
        try:
            match request:
                case Submit():
                    return await self._submit(request)
                case Module():
                    await self._cache.put(request.ref, request.data)
                case Poll():
                    await self._forget(request.acks)
                    return Status(items=())
                case Ack():
                    await self._forget(request.handles)
                case Cancel():
                    await self._forget(request.handles, forestall=True)
        except InvalidTask as err:
            return rejected(err.message)
        except (CacheFull, JournalUnusable) as err:
            return self._put_off(err)
        return Done()

    def _put_off(self, trouble: FogError) -> Busy:
        """Answer that this may work later, because the trouble is the worker's own."""
        _log.warning("request.put_off", reason=trouble.message)
        return self._busy()

    def _busy(self) -> Busy:
        return Busy(held=len(self._held), capacity=self.capacity)

    async def _answer(
        self, channel: MessageChannel, incoming: Received, reply: Reply, *, committed: bool = False
    ) -> None:
        with contextlib.suppress(ChannelError):
            if not committed:
                await channel.commit(incoming)
            body = encode(reply)
            if len(body) > incoming.reply_capacity > 0:
                body = encode(Rejected("the answer does not fit"))
            if len(body) <= incoming.reply_capacity:
                await channel.reply(incoming, body)

    async def _submit(self, submit: Submit) -> Reply:
        if (known := self._known(submit.handle)) is not None:
            return known
        limits = check_submit(submit, self._settings)
        if submit.blob_bytes > self._settings.input_bytes:
            return self._too_large()
        if self._full():
            return self._busy()
        refs = refs_of(submit)
        self._cache.pin(refs)  # from here on no await may come between a blob's check and its use
        try:
            for ref, data in submit.attached.items():
                if ref in refs:
                    await self._cache.put(ref, data)
            missing = tuple(ref for ref in refs if not self._cache.has(ref))
            if missing:
                return NeedModule(refs=missing)
            if sum(map(self._cache.size, refs)) > self._settings.input_bytes:
                return self._too_large()
            # Another copy, its end, or others may have come while the blobs were written.
            if (known := self._known(submit.handle)) is not None:
                return known
            if self._full():
                return self._busy()
            self._held[submit.handle] = Held(
                submit=msgspec.structs.replace(submit, attached={}),  # they are in the cache
                limits=limits,
                accepted_at=self._clock.monotonic(),
            )
            self._cache.pin(refs)
            self._queued.set()
            return Accepted(AttemptStatus(submit.handle, QUEUED))
        finally:
            self._cache.unpin(refs)

    def _too_large(self) -> Rejected:
        return Rejected(
            f"module and inputs are over {self._settings.input_bytes} bytes together, sealed"
        )

    def _known(self, handle: bytes) -> Accepted | Rejected | None:
        """Return what a repeated submission is answered; None if it is the first."""
        if self._knows(handle):
            return Accepted(AttemptStatus(handle, QUEUED))
        return Rejected("this attempt is over") if self._journal.over(handle) else None

    def _knows(self, handle: bytes) -> bool:
        return (
            handle in self._held
            or handle in self._lost
            or self._journal.knows(handle)
            or self._journal.returned(handle)
        )

    def _full(self) -> bool:
        return (
            self._draining
            or (self._tried.is_set() and not self._able)
            or len(self._held) >= self.capacity
            or self._journal.kept_bytes >= self._settings.kept_bytes
        )

    async def _forget(self, handles: Iterable[bytes], *, forestall: bool = False) -> None:
        """Drop attempts for good, whatever they are doing.

        Unknown ones stay unknown, or with ``forestall`` will not be taken when they come.
        """
        known, unknown = [], []
        for handle in dict.fromkeys(handles):
            if self._knows(handle):
                known.append(handle)
            elif not self._journal.over(handle):
                unknown.append(handle)
        for handle in known:
            self._lost.pop(handle, None)
            held = self._held.get(handle)
            if held is not None:
                if held.running is not None:
                    held.running.cancel()
                self._let_go(held)
                held.news.set()
        until = self._journal.now() + self._settings.kept_s
        await self._journal.forget(known, until, unknown if forestall else ())

    def _let_go(self, held: Held) -> None:
        """Make room for another attempt and free the blobs of this one; once."""
        if self._held.pop(held.handle, None) is not None:
            self._cache.unpin(refs_of(held.submit))
        held.ended.set()

    # Statuses

    async def _hold(self, request: Submit | Poll) -> None:
        """Wait for news of the attempts that a request asks about, as long as it wants."""
        seconds = min(request.hold_ms / 1000, self._settings.hold_s)
        handles = _handles_of(request)
        held = [
            one
            for h in handles
            if (one := self._held.get(h) or self._unreleased.get(h)) is not None
        ]
        if seconds <= 0 or len(held) < len(handles) or any(one.news.is_set() for one in held):
            return
        waiting = {asyncio.create_task(one.news.wait()) for one in held}
        waiting.add(asyncio.create_task(self._pause(seconds)))
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _pause(self, seconds: float) -> Literal[True]:
        await self._clock.sleep(seconds)
        return True

    def _status_reply(self, request: Submit | Poll, reply: Reply, capacity: int) -> Reply:
        """Put what fits of the attempts' present states into an answer."""
        if isinstance(request, Submit):
            if not isinstance(reply, Accepted):
                return reply
            # An `Accepted` is up to 8 bytes longer than a `Status` of one item.
            status, pieces = self._status(request.handle, 0, capacity)
            fitting = fit_statuses({request.handle: status}, pieces, capacity - 8)
            return Accepted(fitting.items[0]) if fitting.items else reply
        if not isinstance(reply, Status):
            return reply
        statuses: dict[bytes, AttemptStatus] = {}
        pieces = {}
        room = capacity
        for item in request.items:
            status, piece = self._status(item.handle, item.offset, max(0, room))
            statuses[item.handle] = status
            pieces.update(piece)
            room -= sum(map(len, piece.values()))
        return fit_statuses(statuses, pieces, capacity)

    def _status(
        self, handle: bytes, offset: int, length: int
    ) -> tuple[AttemptStatus, dict[bytes, bytes]]:
        """Return where an attempt stands, and up to ``length`` bytes of its result."""
        held = self._held.get(handle)
        if held is not None:
            running = held.state == RUNNING and held.slot is not None
            tail = held.slot.log_tail() if running and held.slot is not None else b""
            return AttemptStatus(handle, held.state, log_tail=tail), {}
        kept = self._journal.get(handle, offset, length)
        if kept is None:
            if handle in self._lost:
                return AttemptStatus(handle, LOST), {}
            state = RETURNED if self._journal.returned(handle) else UNKNOWN
            return AttemptStatus(handle, state), {}
        now = self._journal.now()
        if handle in self._unreleased or now + RELEASE_TOLERANCE_S < kept.release_at:
            return AttemptStatus(handle, RUNNING), {}
        status = AttemptStatus(
            handle,
            FINISHED,
            result_id=kept.result_id,
            result_total=kept.total,
            offset=min(offset, kept.total),
        )
        return status, {handle: kept.piece}

    # Running

    async def _serve_slot(self, slot: RunnerSlot) -> None:
        await self._replace_runner(slot)
        while True:
            held = await self._next()
            held.slot, held.state = slot, RUNNING
            held.running = asyncio.create_task(self._execute(slot, held))
            try:
                await asyncio.wait({held.running})
            finally:
                held.running.cancel()
                await asyncio.gather(held.running, return_exceptions=True)
            if not held.running.cancelled() and (error := held.running.exception()) is not None:
                raise error
            await self._replace_runner(slot)

    async def _next(self) -> Held:
        """Return the attempt that has waited longest, once there is one."""
        while True:
            for held in self._held.values():
                if held.state == QUEUED and not self._draining:
                    return held
            self._queued.clear()
            await self._queued.wait()

    async def _replace_runner(self, slot: RunnerSlot) -> None:
        """Have a runner ready before the next attempt is taken, however long that needs.

        A machine that refuses what a runner needs is no longer offered, and what waits here goes
        elsewhere.
        """
        pause = RESTART_PAUSE_S
        while slot.pid is None and not self._draining:
            try:
                await slot.start()
            except RunnerLost as err:
                await self._give_up(slot, err.message)
                await self._clock.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_S)
        if slot.pid is not None and slot not in self._able:
            self._able.add(slot)
            self._tried.set()
            if self._trouble:
                _log.info("slot.usable_again", slots=len(self._able))
                self._trouble = ""
                self._on_trouble("")
        if (lends := slot.lends) is not None:
            self._lend_at_most(lends.memory_bytes, lends.file_bytes)

    async def _give_up(self, slot: RunnerSlot, reason: str) -> None:
        self._able.discard(slot)
        self._tried.set()
        if reason != self._trouble:
            self._trouble = reason
            _log.error("slot.unusable", reason=reason, slots=len(self._able))
            self._on_trouble(reason)
        if not self._able:
            waiting = [one for one in self._held.values() if one.state == QUEUED]
            await self._note_given_back(waiting)
            for one in waiting:
                if self._held.get(one.handle) is one and one.state == QUEUED:
                    self._give_back(one)

    def _lend_at_most(self, memory_bytes: int, file_bytes: int) -> None:
        """Take no task that this machine would keep from what its limits promise."""
        if memory_bytes < self._settings.memory_bytes:
            _log.warning("memory.limited", bytes=memory_bytes, wanted=self._settings.memory_bytes)
        self._settings = dataclasses.replace(
            self._settings,
            memory_bytes=min(memory_bytes, self._settings.memory_bytes),
            file_bytes=min(file_bytes, self._settings.file_bytes),
        )

    async def _execute(self, slot: RunnerSlot, held: Held) -> None:
        """Run one attempt and keep its result; cancelled, its runner is killed."""
        try:
            job = await open_job(held, self._cache)
            result = await slot.run(job, lambda: open_module(held.submit, self._cache))
        except BadBlob as err:
            result = TaskResult(
                NEVER_EXITED, b"", b"", 0, 0, 0, trap=Fault.BAD_INPUT, detail=err.message
            )
        except (RunnerLost, BlobGone, OSError) as err:
            _log.warning("attempt.lost", reason=one_line(str(err)))
            self._lose(held)
            return
        try:
            await self._finish(held, result)
        except JournalUnusable as err:
            _log.error("result.not_kept", reason=err.message)
            self._lose(held)

    async def _finish(self, held: Held, result: TaskResult) -> None:
        """Keep a result at once; it is shown at the next edge of the grid."""
        release_at = self._journal.now() + self._until_edge(held)
        await self._journal.finish(
            held.handle, result.data, release_at, release_at + self._settings.kept_s
        )
        self._unreleased[held.handle] = held
        self._let_go(held)
        # Writing it may have taken longer than to that edge.
        release = asyncio.create_task(self._release(held, self._until_edge(held)), name="release")
        self._releases.add(release)
        release.add_done_callback(self._releases.discard)

    def _until_edge(self, held: Held) -> float:
        elapsed = self._clock.monotonic() - held.accepted_at
        return max(0.0, next_edge(elapsed) - elapsed)

    async def _release(self, held: Held, delay: float) -> None:
        await self._clock.sleep(delay)
        self._unreleased.pop(held.handle, None)
        held.news.set()

    def _lose(self, held: Held) -> None:
        """Remember that an attempt was lost; a bounded number of them."""
        self._lost[held.handle] = None
        if len(self._lost) > LOST_REMEMBERED:
            del self._lost[next(iter(self._lost))]
        self._let_go(held)
        held.news.set()

    # Housekeeping

    async def _sweep(self) -> None:
        while True:
            await self._clock.sleep(SWEEP_INTERVAL_S)
            try:
                await self._journal.expire()
            except JournalUnusable as err:
                _log.error("journal.not_swept", reason=err.message)

    async def _publish(self, publisher: WorkerPublisher, served: Served) -> None:
        await self._tried.wait()
        while True:
            pause = self._settings.publish_s
            if self._able:
                try:
                    await publisher.publish(self._offer(served))
                except FogError as err:
                    _log.warning("offer.not_published", reason=err.message)
                    pause = min(pause, PUBLISH_RETRY_S)
            else:
                pause = min(pause, PUBLISH_RETRY_S)
            await self._clock.sleep(pause)

    def _offer(self, served: Served) -> WorkerOffer:
        settings = self._settings
        return WorkerOffer(
            name=served.name,
            address=served.channel.address,
            kinds=settings.kinds,
            slots=len(self._able),
            memory_bytes=settings.memory_bytes,
            groups=settings.groups,
            level=served.level,
        )


def _handles_of(request: Submit | Poll) -> tuple[bytes, ...]:
    if isinstance(request, Submit):
        return (request.handle,)
    return tuple(dict.fromkeys(item.handle for item in request.items))
