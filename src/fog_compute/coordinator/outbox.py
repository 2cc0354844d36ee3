"""What waits to be sent to one worker: orders that are ready together travel together.

Nobody waits for company. Whoever comes first sends, after the others of the same moment have come;
whoever is left over for want of room sends the next message. So there is no task behind an outbox,
and what is cancelled takes nothing with it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from fog_compute.errors import ChannelError
from fog_compute.tasks.messages import MAX_ATTACHED, MAX_ORDERS, Answer, Order

__all__ = ["MESSAGE_BYTES", "Outbox", "Parcel", "Send"]

MESSAGE_BYTES: Final = 256 * 1024
"""About what one message with several orders holds at most; a single order may be longer."""


@dataclass(frozen=True, slots=True, eq=False)
class Parcel:
    """An order on its way.

    Attributes:
        order: what to run.
        attached: blobs that come along, by their references.
        lacking: how many blobs the worker may have to ask for.
        size: about how long all of it is.
    """

    order: Order
    attached: Mapping[bytes, str] = field(repr=False)
    lacking: int
    size: int


Send: TypeAlias = Callable[[Sequence[Parcel]], Awaitable[Sequence[Answer]]]


@dataclass(slots=True, eq=False)
class _Waiting:
    parcel: Parcel
    # The answer, None for none, or the outbox's word that it is this one's turn to send.
    told: asyncio.Future[Answer | None]
    leads: bool = False


class Outbox:
    """Parcels of one session."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        """Nothing waits."""
        self._waiting: Final[deque[_Waiting]] = deque()

    async def place(self, parcel: Parcel, send: Send) -> Answer | None:
        """Return the worker's answer to one order; None if it left that out.

        ``send`` is called with this parcel and others, or by whoever sends this one.

        Raises:
            ChannelError: the message that held it could not be sent, or has no answer.
            FogError: whatever else ``send`` raises.
        """
        me = _Waiting(parcel, asyncio.get_running_loop().create_future())
        self._waiting.append(me)
        try:
            if self._waiting[0] is me:
                me.leads = True
                await asyncio.sleep(0)  # for those that the same plan brings
            else:
                answer = await me.told
                if not me.leads:
                    return answer
            batch = self._next_batch()
        except asyncio.CancelledError:
            if me in self._waiting:
                self._waiting.remove(me)
            if me.leads:
                self._promote()
            raise
        self._promote()
        return await self._sent(me, batch, send)

    def _next_batch(self) -> list[_Waiting]:
        """Take as many as go into one message, the first at least."""
        batch = [self._waiting.popleft()]
        size, attached = batch[0].parcel.size, len(batch[0].parcel.attached)
        while self._waiting and len(batch) < MAX_ORDERS:
            parcel = self._waiting[0].parcel
            size, attached = size + parcel.size, attached + len(parcel.attached)
            if size > MESSAGE_BYTES or attached > MAX_ATTACHED:
                break
            batch.append(self._waiting.popleft())
        return batch

    def _promote(self) -> None:
        """Let the first of those that still wait send the next message."""
        while self._waiting and self._waiting[0].told.done():
            self._waiting.popleft()  # cancelled
        if self._waiting and not self._waiting[0].leads:
            self._waiting[0].leads = True
            self._waiting[0].told.set_result(None)

    async def _sent(self, me: _Waiting, batch: Sequence[_Waiting], send: Send) -> Answer | None:
        others: list[Answer | None] = [None] * len(batch)
        failure: Exception | None = ChannelError("the message was given up")
        try:
            answers = await send([one.parcel for one in batch])
            others = [*answers[: len(batch)], *others[len(answers) :]]
            failure = None
        except Exception as error:
            failure = error
            raise
        finally:
            for one, answer in zip(batch, others, strict=True):
                if one is me or one.told.done():
                    continue
                if failure is None:
                    one.told.set_result(answer)
                else:
                    one.told.set_exception(failure)
        return others[batch.index(me)]
