"""Takes requests from coordinators, does what they ask, and answers.

Every request is idempotent, because each may be lost, repeated or overtaken. Nothing is recorded
of who sent what, and the log says nothing of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from typing import Final, Literal

import msgspec

from fog_compute.clock import Clock
from fog_compute.errors import ChannelError, FogError, InvalidTask
from fog_compute.observability import get_logger
from fog_compute.tasks.messages import (
    QUEUED,
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
from fog_compute.tasks.wire import WireError, encode, fit_statuses, parse_request, rejected
from fog_compute.vpn.channel import MessageChannel, Received
from fog_compute.worker.attempts import Held, check_inputs, check_submit, refs_of
from fog_compute.worker.cache import BlobCache, CacheFull
from fog_compute.worker.holdings import Holdings
from fog_compute.worker.journal import JournalUnusable
from fog_compute.worker.slots import Slots

__all__ = ["Reception"]

CONCURRENT_REQUESTS: Final = 256

_log = get_logger("fog_compute.worker")


class Reception:
    """Where requests come in and answers go out."""

    def __init__(self, holdings: Holdings, cache: BlobCache, slots: Slots, clock: Clock) -> None:
        """Take attempts for ``slots`` into ``holdings``, and their blobs into ``cache``."""
        self._holdings: Final = holdings
        self._cache: Final = cache
        self._slots: Final = slots
        self._clock: Final = clock
        self._handling: Final[set[asyncio.Task[None]]] = set()

    @property
    def capacity(self) -> int:
        """How many attempts are held at once, running or waiting."""
        return self._slots.settings.slots + self._slots.settings.queue

    async def receive(self, group: asyncio.TaskGroup, channel: MessageChannel) -> None:
        """Handle what comes over a channel until it is closed, many requests at once.

        Raises:
            ChannelError: it is closed.
        """
        free = asyncio.Semaphore(CONCURRENT_REQUESTS)
        await self._slots.tried()  # so that no attempt is taken that this machine cannot run
        while True:
            await free.acquire()
            incoming = await channel.receive()
            handling = group.create_task(self._handle(channel, incoming))
            self._handling.add(handling)
            handling.add_done_callback(self._handling.discard)
            handling.add_done_callback(lambda _: free.release())

    async def answered(self, seconds: float) -> None:
        """Return once all that was asked is answered, or after so long."""
        if self._handling:
            await asyncio.wait(self._handling, timeout=seconds)

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

    # What is done

    async def _effect(self, request: Request) -> Reply:
        """Do what a request asks; all that must last has been kept when this returns."""
        try:
            match request:
                case Submit():
                    return await self._submit(request)
                case Module():
                    await self._cache.put(request.ref, request.data)
                case Poll():
                    await self._holdings.forget(request.acks)
                    return Status(items=())
                case Ack():
                    await self._holdings.forget(request.handles)
                case Cancel():
                    await self._holdings.forget(request.handles, forestall=True)
        except InvalidTask as err:
            return rejected(err.message)
        except (CacheFull, JournalUnusable) as err:
            return self._put_off(err)
        return Done()

    async def _submit(self, submit: Submit) -> Reply:
        if (known := self._known(submit.handle)) is not None:
            return known
        settings = self._slots.settings
        limits = check_submit(submit, settings)
        if submit.blob_bytes > settings.input_bytes:
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
            if sum(map(self._cache.size, refs)) > settings.input_bytes:
                return self._too_large()
            check_inputs(submit, limits, self._cache)
            # Another copy, its end, or others may have come while the blobs were written.
            if (known := self._known(submit.handle)) is not None:
                return known
            if self._full():
                return self._busy()
            self._holdings.add(
                Held(
                    submit=msgspec.structs.replace(submit, attached={}),  # they are in the cache
                    limits=limits,
                    accepted_at=self._clock.monotonic(),
                )
            )
            return Accepted(AttemptStatus(submit.handle, QUEUED))
        finally:
            self._cache.unpin(refs)

    def _known(self, handle: bytes) -> Accepted | Rejected | None:
        """Return what a repeated submission is answered; None if it is the first."""
        if self._holdings.knows(handle):
            return Accepted(AttemptStatus(handle, QUEUED))
        return Rejected("this attempt is over") if self._holdings.over(handle) else None

    def _full(self) -> bool:
        return (
            self._slots.closed
            or len(self._holdings) >= self.capacity
            or self._holdings.kept_bytes >= self._slots.settings.kept_bytes
        )

    def _too_large(self) -> Rejected:
        most = self._slots.settings.input_bytes
        return Rejected(f"module and inputs are over {most} bytes together, sealed")

    def _put_off(self, trouble: FogError) -> Busy:
        """Answer that this may work later, because the trouble is the worker's own."""
        _log.warning("request.put_off", reason=trouble.message)
        return self._busy()

    def _busy(self) -> Busy:
        return Busy(held=len(self._holdings), capacity=self.capacity)

    # What is told

    async def _hold(self, request: Submit | Poll) -> None:
        """Wait for news of the attempts that a request asks about, as long as it wants."""
        seconds = min(request.hold_ms / 1000, self._slots.settings.hold_s)
        handles = _handles_of(request)
        held = self._holdings.awaited(handles)
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
            status, pieces = self._holdings.status(request.handle, 0, capacity)
            fitting = fit_statuses({request.handle: status}, pieces, capacity - 8)
            return Accepted(fitting.items[0]) if fitting.items else reply
        if not isinstance(reply, Status):
            return reply
        statuses: dict[bytes, AttemptStatus] = {}
        pieces = {}
        room = capacity
        for item in request.items:
            status, piece = self._holdings.status(item.handle, item.offset, max(0, room))
            statuses[item.handle] = status
            pieces.update(piece)
            room -= sum(map(len, piece.values()))
        return fit_statuses(statuses, pieces, capacity)


def _handles_of(request: Submit | Poll) -> tuple[bytes, ...]:
    if isinstance(request, Submit):
        return (request.handle,)
    return tuple(dict.fromkeys(item.handle for item in request.items))
