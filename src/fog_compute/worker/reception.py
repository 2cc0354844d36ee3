"""Takes requests from coordinators, does what they ask, and answers.

Every request is idempotent, because each may be lost, repeated or overtaken. Nothing is recorded
of who sent what, and the log says nothing of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from typing import Final

import msgspec

from fog_compute.clock import Clock
from fog_compute.errors import ChannelError, FogError, InvalidTask
from fog_compute.observability import get_logger
from fog_compute.tasks.groups import NotAMember
from fog_compute.tasks.keyring import Keys
from fog_compute.tasks.messages import (
    QUEUED,
    Accepted,
    Ack,
    Answer,
    Answers,
    AttemptStatus,
    Busy,
    Cancel,
    Done,
    Module,
    NeedModule,
    Order,
    Poll,
    Rejected,
    Reply,
    Request,
    Status,
    Submit,
)
from fog_compute.tasks.model import TaskKind
from fog_compute.tasks.sealing import session_of
from fog_compute.tasks.wire import (
    WireError,
    encode,
    fit_answers,
    fit_statuses,
    parse_request,
    rejected,
)
from fog_compute.text import one_line
from fog_compute.units import MIB
from fog_compute.vpn.channel import MessageChannel, Received
from fog_compute.worker.attempts import Early, Held, check_inputs, check_order, refs_of
from fog_compute.worker.budget import ByteBudget
from fog_compute.worker.cache import BlobCache, CacheFull
from fog_compute.worker.door import Door
from fog_compute.worker.holdings import Holdings
from fog_compute.worker.journal import JournalUnusable
from fog_compute.worker.shares import Owner
from fog_compute.worker.slots import Slots
from fog_compute.worker.waiting import WaitingRoom
from fog_compute.worker.workplace import NoRoom

__all__ = ["Reception"]

CONCURRENT_REQUESTS: Final = 64
"""Requests of one channel that are being done at once; those that wait for news do not count."""

HELD_ANSWERS: Final = 256
HANDLED_BYTES: Final = 160 * MIB
"""Bytes of the requests that are being done, of all channels together."""

NO_ROOM: Final = (
    "its disk has too little room now for what the task may keep: lower `limits.scratch_bytes`"
)
"""What a requester is told; how much is free is nobody else's business."""

_log = get_logger("fog_compute.worker")


class Reception:
    """Where requests come in and answers go out."""

    def __init__(
        self, holdings: Holdings, cache: BlobCache, slots: Slots, keys: Keys, clock: Clock
    ) -> None:
        """Take attempts for ``slots`` into ``holdings``, and their blobs into ``cache``.

        Only members of the groups that ``keys`` gives are let in.
        """
        self._keys: Final = keys
        self._doors: Final[list[Door]] = []
        self._holdings: Final = holdings
        self._cache: Final = cache
        self._slots: Final = slots
        self._clock: Final = clock
        self._room: Final = WaitingRoom(HELD_ANSWERS, clock)
        self._budget: Final = ByteBudget(HANDLED_BYTES)
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
        door = Door(channel, self._keys, self._clock)
        self._doors.append(door)
        free = asyncio.Semaphore(CONCURRENT_REQUESTS)
        await self._slots.tried()  # so that no attempt is taken that this machine cannot run
        while True:
            await free.acquire()
            incoming = await channel.receive()
            taken = await self._budget.take(len(incoming.body))
            handling = group.create_task(self._handle(channel, door, incoming, free, taken))
            self._handling.add(handling)
            handling.add_done_callback(self._handling.discard)

    async def answered(self, seconds: float) -> None:
        """Return once all that was asked is answered, or after so long."""
        if self._handling:
            await asyncio.wait(self._handling, timeout=seconds)

    @property
    def turned_away(self) -> int:
        """Requests that no group of this worker vouched for."""
        return sum(door.turned_away for door in self._doors)

    async def _handle(
        self,
        channel: MessageChannel,
        door: Door,
        incoming: Received,
        free: asyncio.Semaphore,
        taken: int,
    ) -> None:
        """Answer one request; while it waits for news, others are handled in its place."""
        try:
            request, reply = await self._let_in(door, incoming)
        finally:
            self._budget.give_back(taken)
            free.release()
        incoming = dataclasses.replace(incoming, body=b"")
        with contextlib.suppress(ChannelError):
            await channel.commit(incoming)
        if reply is None:
            return
        if isinstance(request, Submit | Poll) and incoming.reply_capacity:
            if isinstance(request, Submit) and isinstance(reply, Answers):
                await self._hold(request, reply)
            try:
                reply = self._told(request, reply, incoming.reply_capacity)
            except JournalUnusable as err:
                reply = self._put_off(err)
        with contextlib.suppress(ChannelError):
            body = encode(reply)
            if len(body) > incoming.reply_capacity > 0:
                body = encode(Rejected("the answer does not fit"))
            if len(body) <= incoming.reply_capacity:
                await channel.reply(incoming, body)

    # What is done

    async def _let_in(self, door: Door, incoming: Received) -> tuple[Request | None, Reply | None]:
        """Do what a message of a member asks; a stranger is told why not, or nothing."""
        try:
            group, body = await door.open(incoming)
        except NotAMember as err:
            return None, rejected(err.message) if door.may_answer() else None
        except OSError as err:  # no thread to look at it in
            _log.warning("request.put_off", reason=one_line(str(err)))
            return None, self._busy() if door.may_answer() else None
        return await self._done(group, body)

    async def _done(self, group: str, body: bytes) -> tuple[Request | None, Reply]:
        """Do what a message asks; all that must last has been kept when this returns.

        Of a submission, only what its answer needs is returned: many wait for news.
        """
        try:
            request = parse_request(body)
        except WireError as err:
            _log.debug("request.refused", reason=str(err))
            return None, Rejected("this is no request of this protocol")
        reply = await self._effect(group, request)
        if isinstance(request, Submit):
            request = msgspec.structs.replace(request, attached={})
        return request, reply

    async def _effect(self, group: str, request: Request) -> Reply:
        try:
            match request:
                case Submit():
                    return await self._submit(group, request)
                case Module():
                    owner = Owner(group, request.session)
                    await self._cache.put(request.ref, request.data, owner)
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

    async def _submit(self, group: str, submit: Submit) -> Answers:
        """Judge every order by itself: what one lacks or breaks keeps no other from its slot."""
        owner = Owner(group, session_of(submit.key))
        with contextlib.suppress(JournalUnusable):  # they are told again
            await self._holdings.forget(submit.acks)
        answers: list[Answer] = []
        for order in submit.orders:
            try:
                answers.append(await self._order(submit, order, owner))
            except InvalidTask as err:
                answers.append(rejected(err.message))
            except NoRoom:
                answers.append(rejected(NO_ROOM))
            except (CacheFull, JournalUnusable) as err:
                answers.append(self._put_off(err))
        return Answers(tuple(answers))

    async def _order(self, submit: Submit, order: Order, owner: Owner) -> Answer:
        if (known := self._known(order.handle)) is not None:
            return known
        settings = self._slots.settings
        limits = check_order(order, settings)
        if order.blob_bytes > settings.input_bytes:
            return self._too_large()
        if not await self._has_room(owner):
            return self._busy()
        self._slots.check_room(limits)
        refs = refs_of(order)
        self._cache.pin(refs)  # from here on no await may come between a blob's check and its use
        try:
            for ref in refs:
                if ref in submit.attached:
                    await self._cache.put(ref, submit.attached[ref], owner)
            missing = tuple(ref for ref in refs if not self._cache.has(ref))
            if missing:
                if order.module not in missing and order.kind == TaskKind.WASM:
                    early = Early(order.module, submit.key, owner, limits)
                    self._holdings.compile_early(early)
                return NeedModule(refs=missing)
            if sum(map(self._cache.size, refs)) > settings.input_bytes:
                return self._too_large()
            check_inputs(order, limits, self._cache)
            # Another copy, its end, or others may have come while the blobs were written.
            if (known := self._known(order.handle)) is not None:
                return known
            if self._slots.closed or len(self._holdings) >= self.capacity:
                return self._busy()
            self._holdings.add(
                Held(
                    order=order,
                    key=submit.key,
                    owner=owner,
                    limits=limits,
                    accepted_at=self._clock.monotonic(),
                )
            )
            return Accepted(AttemptStatus(order.handle, QUEUED))
        finally:
            self._cache.unpin(refs)

    def _known(self, handle: bytes) -> Accepted | Rejected | None:
        """Return what a repeated submission is answered; None if it is the first."""
        if self._holdings.knows(handle):
            return Accepted(AttemptStatus(handle, QUEUED))
        return Rejected("this attempt is over") if self._holdings.over(handle) else None

    async def _has_room(self, owner: Owner) -> bool:
        kept_bytes = self._slots.settings.kept_bytes
        return not self._slots.closed and await self._holdings.make_room(
            owner, self.capacity, kept_bytes
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

    async def _hold(self, request: Submit, reply: Answers) -> None:
        """Wait for news of the attempts of a submission, as long as it wants.

        Something that is news already is told at once, and so is any poll: that its answer left
        would tell whoever watches the worker that a task has ended.
        """
        taken = [a.status.handle for a in reply.items if isinstance(a, Accepted)]
        if len(taken) < len(request.orders):
            return
        handles = tuple(dict.fromkeys(taken))
        held = self._holdings.awaited(handles)
        if held and len(held) == len(handles):
            seconds = min(request.hold_ms / 1000, self._slots.settings.hold_s)
            await self._room.wait(held[0].owner, held, seconds)

    def _told(self, request: Submit | Poll, reply: Reply, capacity: int) -> Reply:
        """Put what fits of the attempts' present states into an answer."""
        pieces: dict[bytes, bytes] = {}
        room = capacity

        def status(handle: bytes, offset: int) -> AttemptStatus:
            nonlocal room
            known, piece = self._holdings.status(handle, offset, max(0, room))
            pieces.update(piece)
            room -= sum(map(len, piece.values()))
            return known

        match request, reply:
            case Submit(), Answers():
                answers = [
                    Accepted(status(answer.status.handle, 0))
                    if isinstance(answer, Accepted)
                    else answer
                    for answer in reply.items
                ]
                return fit_answers(answers, pieces, capacity)
            case Poll(), Status():
                statuses = {item.handle: status(item.handle, item.offset) for item in request.items}
                return fit_statuses(statuses, pieces, capacity)
        return reply
