"""Carries out what the router decides: the one place where it meets time, disk and transports.

Events wait in one queue. Those that are there are handled together, what they ask to be kept is
committed at once, and then everything else is done in order. What may be lost, because it would
only be found out again, waits a moment for what may not. While the book cannot be written, nothing
goes on: it is tried again, and whoever sends waits, or is refused after some time. Where one event
raises, or what follows from it cannot be written at all, the router knows what the book does not,
and begins again from the book.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Final

from fog_compute.backoff import Backoff
from fog_compute.clock import Clock
from fog_compute.errors import FogError, StoreError
from fog_compute.observability import get_logger
from fog_compute.p2p.core.actions import (
    Action,
    Answered,
    CarryReceipt,
    Confirm,
    Event,
    Keep,
    News,
    Offer,
    OutcomeTold,
    Progress,
    Wake,
    WakeAt,
)
from fog_compute.p2p.core.background import background
from fog_compute.p2p.core.book import Begun, BookChange, MessageBook, ReceiptSent, Settled
from fog_compute.p2p.core.manager import TransportManager
from fog_compute.p2p.core.messages import DecentralizedMessage, DeliveryState
from fog_compute.p2p.core.router import Router
from fog_compute.p2p.core.transport import EVERYBODY, Outcome, OutcomeState
from fog_compute.p2p.listeners import Listeners
from fog_compute.units import MIB

__all__ = ["RouterDriver", "can_wait"]

_log = get_logger("fog_compute.p2p")

TOGETHER: Final = 256
"""Events that are handled with one commit."""

AT_HAND: Final = 1024
"""Above so many things that wait, what transports tell stays with them, where it is bounded."""

CACHE_BYTES: Final = 16 * MIB
CACHED: Final = 4000
"""Bodies of messages that were just made, so that they need not be read back."""

GATHER_S: Final = 0.1
"""How long a change that may be lost waits for another one to be written with."""

PAUSES: Final = Backoff(0.1, 5.0)
"""Between tries to write the book."""


AWAY_FROM: Final = 6
"""After so many tries in a row, some six seconds, whoever asks is refused and does not wait."""


class _Flush:
    """What waits is to be written now."""


_FLUSH: Final = _Flush()


@dataclass(slots=True)
class _Call:
    """Somebody asks the router, and waits until what follows is kept."""

    ask: Callable[[float], tuple[str, list[Action]]]
    done: asyncio.Future[str]


@dataclass(slots=True)
class _Followed:
    """What followed from one event.

    Attributes:
        changes: what is to be kept.
        actions: what is to be done then.
        done: of who asked.
        said: what the router answered.
        whole: the router came to the end; otherwise nothing is known of what it did.
    """

    changes: Sequence[BookChange]
    actions: Sequence[Action]
    done: asyncio.Future[str] | None = None
    said: str = ""
    whole: bool = True

    @classmethod
    def of(
        cls, actions: Sequence[Action], done: asyncio.Future[str] | None = None, said: str = ""
    ) -> _Followed:
        """The same, from what the router asked for."""
        changes = [c for one in actions if isinstance(one, Keep) for c in one.changes]
        return cls(changes, actions, done, said)

    def answer(self) -> None:
        """Tell who asked: it is kept."""
        if self.done is not None and not self.done.done():
            self.done.set_result(self.said)

    def refuse(self) -> None:
        """Tell who asked: it is not kept."""
        if self.done is not None:
            _refuse(self.done, StoreError("the message was not kept: try again"))


class RouterDriver:
    """Runs a router until it is stopped; then, who listens comes to the end."""

    def __init__(
        self, router: Router, own: str, book: MessageBook, manager: TransportManager, clock: Clock
    ) -> None:
        """Drive ``router``, of the person ``own``; `run` does so."""
        self._router: Final = router
        self._own: Final = own
        self._book: Final = book
        self._manager: Final = manager
        self._clock: Final = clock
        self._queue: Final[asyncio.Queue[Event | _Call | _Flush]] = asyncio.Queue()
        self._taken: Final = asyncio.Event()
        self._tasks: Final[set[asyncio.Task[None]]] = set()
        self._bodies: Final[OrderedDict[str, DecentralizedMessage]] = OrderedDict()
        self._cached = 0
        self._unwritten: list[BookChange] = []
        self._away: StoreError | None = None  # why nothing can be written, for some time already
        self._writing: asyncio.Task[None] | None = None
        self._alarm: asyncio.Task[None] | None = None
        self._alarm_at = float("inf")
        self._faults = 0  # turns in a row after which the router had to begin again
        self._listeners: Final = Listeners()
        self._stopped = False

    async def ask(self, ask: Callable[[float], tuple[str, list[Action]]]) -> str:
        """Ask the router something; return once it is kept what it said.

        Raises:
            FogError: what the router raises.
            StoreError: the driver was stopped before it was kept, or nothing could be kept for
                some time.
        """
        if self._stopped:
            raise StoreError("messages are not being sent any more: this system has been stopped")
        if self._away is not None:
            raise StoreError(str(self._away))
        done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait(_Call(ask, done))
        return await done

    def tell(self, event: Event) -> None:
        """Have the router told of something."""
        self._queue.put_nowait(event)

    async def run(self) -> None:
        """Drive the router, until cancelled."""
        listening = background(self._listen(), "messages-events")
        try:
            while True:
                await self._turn(await self._some())
        finally:
            self._end()
            others = [one for one in (self._alarm, self._writing) if one is not None]
            tasks = [listening, *self._tasks, *others]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with contextlib.suppress(StoreError):  # it is found out again
                await self._book.commit(self._unwritten)

    async def _listen(self) -> None:
        while True:
            while self._queue.qsize() >= AT_HAND:
                self._taken.clear()
                await self._taken.wait()
            self._queue.put_nowait(await self._manager.next_event())

    async def _some(self) -> list[Event | _Call | _Flush]:
        """What waits, at least one."""
        some = [await self._queue.get()]
        while len(some) < TOGETHER and not self._queue.empty():
            some.append(self._queue.get_nowait())
        self._taken.set()
        return some

    async def _turn(self, some: Sequence[Event | _Call | _Flush]) -> None:
        followed = self._handled(some)
        whole = all(one.whole for one in followed)
        earlier, now = self._unwritten, [c for one in followed for c in one.changes]
        try:
            if _FLUSH not in some and whole and all(map(can_wait, (*earlier, *now))):
                self._unwritten = [*earlier, *now]
                self._write_soon()
            else:
                self._unwritten = []
                whole = await self._written(earlier, followed) and whole
        except BaseException:
            for one in followed:
                one.refuse()
            raise
        for one in followed:
            one.answer()
            for action in one.actions:
                if whole or not isinstance(action, Offer | CarryReceipt | WakeAt):
                    self._act(action)
        if not whole:
            await self._begin_again()
        self._faults = 0 if whole else self._faults + 1

    async def _written(self, earlier: Sequence[BookChange], followed: list[_Followed]) -> bool:
        """Write all changes; whether they are. What follows from one that is not is dropped.

        The router has taken all events already. Where one change cannot be written, the others have
        to be, or what they are about would count as here, and be nowhere.
        """
        try:
            await self._keep([*earlier, *(c for one in followed for c in one.changes)])
        except Exception as error:  # noqa: BLE001 - one change takes no other down
            _fault("a change", error)
        else:
            return True
        for one in (_Followed(earlier, []), *followed):
            try:
                await self._keep(one.changes)
            except Exception as error:  # noqa: BLE001 - as above
                _fault("a change of one event", error)
                one.refuse()
                one.actions = ()
        return False

    async def _begin_again(self) -> None:
        """Have the router go on from the book, as after a crash; what it has asked is asked again.

        A message of the others that was not kept is no longer one that came: when it comes again,
        it is a new one, and no receipt says that it is here.
        """
        failures = self._faults
        while True:
            if failures:
                await self._clock.sleep(PAUSES.after(failures - 1))
            now = self._clock.now().timestamp()
            try:
                self._router.begin_again(await self._book.load(now), now)
                break
            except Exception as error:  # noqa: BLE001 - nothing goes on without it
                _fault("reading the book", error)
                failures += 1
        self.tell(Wake())

    def _handled(self, some: Sequence[Event | _Call | _Flush]) -> list[_Followed]:
        """What follows from each of some events."""
        now = self._clock.now().timestamp()
        followed: list[_Followed] = []
        for one in some:
            try:
                if isinstance(one, _Call):
                    answer, actions = one.ask(now)
                    followed.append(_Followed.of(actions, one.done, answer))
                elif not isinstance(one, _Flush):
                    followed.append(_Followed.of(self._router.handle(one, now)))
            except Exception as error:  # noqa: BLE001 - one event takes no other down
                refused = isinstance(one, _Call) and isinstance(error, FogError)
                if isinstance(one, _Call):
                    _refuse(one.done, error)
                if not refused:
                    _fault("an event", error)
                    followed.append(_Followed((), (), whole=False))
        return followed

    async def _keep(self, changes: Sequence[BookChange]) -> None:
        failures = 0
        try:
            while changes:
                try:
                    await self._book.commit(changes)
                    break
                except StoreError as error:
                    _log.warning("messages.not_kept", error=type(error).__name__)
                    await self._clock.sleep(PAUSES.after(failures))
                    failures += 1
                    if failures >= AWAY_FROM:
                        self._away = error
        finally:
            self._away = None
        for change in changes:
            if isinstance(change, Begun):
                self._cache(change.message)

    def _write_soon(self) -> None:
        if self._unwritten and (self._writing is None or self._writing.done()):
            self._writing = background(self._flush(), "messages-flush")

    async def _flush(self) -> None:
        await self._clock.sleep(GATHER_S)
        self._queue.put_nowait(_FLUSH)

    def _act(self, action: Action) -> None:
        match action:
            case Offer():
                self._start(self._offer(action))
            case CarryReceipt():
                self._start(self._carry(action))
            case Confirm():
                self._start(self._manager.confirm(action.arrival))
            case News():
                self._listeners.ring()
            case Progress():
                self._listeners.tell(action)
            case WakeAt():
                self._wake_at(action.at)
            case Keep():
                pass  # that is done

    def _start(self, work: Coroutine[object, object, None]) -> None:
        task = background(work, "messages-action")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _offer(self, offer: Offer) -> None:
        id_ = offer.key.id
        try:
            message = self._bodies.get(id_) or await self._book.message(self._own, id_)
        except StoreError as error:
            outcome = Outcome(*offer.key, OutcomeState.FAILED, str(error))
            self.tell(Answered(offer, outcome))
            return
        if message is None:
            why = "its row in the database is damaged, or gone"
            outcome = Outcome(*offer.key, OutcomeState.FAILED, why, permanent=True)
        elif offer.key.receiver == EVERYBODY:
            outcome = await self._manager.broadcast(offer.transport, message)
        else:
            outcome = await self._manager.send(
                offer.transport, message, offer.key.receiver, offer.attempt
            )
        self.tell(Answered(offer, outcome))

    async def _carry(self, carry: CarryReceipt) -> None:
        message = carry.message
        outcome = await self._manager.send(carry.transport, message, message.receiver_id or "", 0)
        self.tell(OutcomeTold(carry.transport, outcome))

    def _cache(self, message: DecentralizedMessage) -> None:
        self._bodies[message.id] = message
        self._cached += len(message.body)
        while self._cached > CACHE_BYTES or len(self._bodies) > CACHED:
            _, old = self._bodies.popitem(last=False)
            self._cached -= len(old.body)

    def _wake_at(self, at: float) -> None:
        # One that rings too early does no harm, so an earlier one stays.
        if self._alarm is not None and not self._alarm.done():
            if self._alarm_at <= at:
                return
            self._alarm.cancel()
        self._alarm_at = at
        self._alarm = background(self._ring(at), "messages-alarm")

    async def _ring(self, at: float) -> None:
        await self._clock.sleep(max(0.0, at - self._clock.now().timestamp()))
        self.tell(Wake())

    def _end(self) -> None:
        """Let everybody go who listens or waits."""
        self._stopped = True
        self._listeners.end()
        while not self._queue.empty():
            one = self._queue.get_nowait()
            if isinstance(one, _Call):
                _refuse(one.done, StoreError("the message was not kept: try again"))

    def grown(self) -> AsyncGenerator[None, None]:
        """Say, at once and then whenever there is more, that the log may have grown."""
        return self._listeners.grown()

    def progress(self) -> AsyncGenerator[Progress, None]:
        """What becomes of messages of ours from now on; who is slow misses the oldest."""
        return self._listeners.progress()


def can_wait(change: BookChange) -> bool:
    """Whether a crash that loses it costs no more than doing the same again.

    What was stored is offered to the same transport once more, which knows it; a receipt goes out
    once more, and says nothing new.
    """
    match change:
        case Settled(state=DeliveryState.STORED) | ReceiptSent():
            return True
        case _:
            return False


def _refuse(done: asyncio.Future[str], error: Exception) -> None:
    if not done.done():
        done.set_exception(error)


def _fault(what: str, error: Exception) -> None:
    # Its text may name a person.
    _log.error("messages.fault", what=what, error=type(error).__name__)
