"""What happens to messages, for who listens: what came, and what became of what was sent.

Messages are in the log, and a cursor into it holds for good. What became of one's own is kept for a
while in memory; who comes back later sees it in the log.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final, Protocol

from fog_compute.errors import ServiceUnavailable
from fog_compute.p2p.core.messages import DeliveryState
from fog_compute.server.chat_schemas import ChatEventOut, DeliveryOut, MessageOut, MovedOut

__all__ = ["CURSOR", "ChatFeed", "Cursor", "LogSource"]

KEPT: Final = 1024
"""States of messages of one's own that are at hand."""

MOVING: Final = 64
"""Large messages of which it is known how far they are."""

KINDS: Final = ("message", "delivery", "moved")
"""The kinds of events of a stream, which are the members of `ChatEventOut`."""

AT_ONCE: Final = 256
LISTENERS: Final = 64
BEAT_S: Final = 15.0
CURSOR: Final = "^[0-9]{1,15}(-[0-9a-f]{8}-[0-9]{1,15})?$"
_CURSOR: Final = re.compile(CURSOR)


class LogSource(Protocol):
    """Gives the log."""

    async def shown_log(self, after: int, limit: int) -> list[MessageOut]:
        """Messages after a position, oldest first."""
        ...


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where somebody is.

    Attributes:
        position: the last message of the log that is known.
        life: of the feed that gave the cursor.
        step: the last state of a message that is known, within that life.
    """

    position: int
    life: str = ""
    step: int = 0

    def __str__(self) -> str:
        return f"{self.position}-{self.life}-{self.step}"

    @classmethod
    def parse(cls, text: str) -> Cursor | None:
        """Read a cursor; None if it is none."""
        if not _CURSOR.fullmatch(text):
            return None
        position, *more = text.split("-")
        return cls(int(position), more[0], int(more[1])) if more else cls(int(position))


class ChatFeed:
    """Tells listeners of messages and their states until it ends."""

    def __init__(self, source: LogSource, newest: int) -> None:
        """Know of the messages up to ``newest``."""
        self._source: Final = source
        self._newest = newest
        self._life: Final = secrets.token_hex(4)
        self._step = 0
        self._kept: Final[deque[tuple[int, DeliveryOut]]] = deque(maxlen=KEPT)
        self._moving: Final[OrderedDict[tuple[str, str], tuple[int, MovedOut]]] = OrderedDict()
        self._moved = asyncio.Event()  # serves once: all who wait are woken together
        self._listeners = 0
        self._ended = False

    @property
    def now(self) -> Cursor:
        """Behind all that has happened."""
        return Cursor(self._newest, self._life, self._step)

    def news(self, position: int) -> None:
        """There are messages up to this position."""
        self._newest = max(self._newest, position)
        self._wake()

    def progress(
        self,
        id: str,  # noqa: A002 - the word of the record
        receiver: str,
        state: DeliveryState,
        transport: str | None,
        reason: str,
    ) -> None:
        """A message of one's own came to another state."""
        delivery = DeliveryOut(
            id=id, receiver=receiver, state=state, transport=transport, reason=reason
        )
        if state is not DeliveryState.SENDING:
            self._moving.pop((id, receiver), None)
        self._step += 1
        self._kept.append((self._step, delivery))
        self._wake()

    def moved(self, id: str, receiver: str, done: int, total: int) -> None:  # noqa: A002 - as above
        """More of a large message of one's own has gone; only the newest of this is at hand.

        It is told in steps of a hundredth.
        """
        key = (id, receiver)
        before = self._moving.get(key)
        if before is not None and done < total and done - before[1].done < total // 100:
            return
        self._step += 1
        told = MovedOut(id=id, receiver=receiver, done=done, total=total)
        self._moving[key] = (self._step, told)
        self._moving.move_to_end(key)
        while len(self._moving) > MOVING:
            self._moving.popitem(last=False)
        self._wake()

    def end(self) -> None:
        """Let all who listen go."""
        self._ended = True
        self._wake()

    async def after(self, cursor: Cursor) -> tuple[list[ChatEventOut], Cursor]:
        """What happened after a cursor, and the cursor behind that; nothing is waited for."""
        events: list[ChatEventOut] = []
        position = cursor.position
        if cursor.life not in ("", self._life) and position > self._newest:
            position = 0  # of a log that is no more: it was destroyed, or an older one put back
        if position < self._newest:
            found = await self._source.shown_log(position, AT_ONCE)
            events += [ChatEventOut(message=one) for one in found]
            position = found[-1].position if found else self._newest
        known = cursor.step if cursor.life == self._life else 0
        steps = [(step, ChatEventOut(delivery=one)) for step, one in self._kept if step > known]
        steps += [
            (step, ChatEventOut(moved=one)) for step, one in self._moving.values() if step > known
        ]
        steps.sort(key=lambda one: one[0])
        events += [event for _, event in steps]
        return events, Cursor(position, self._life, steps[-1][0] if steps else known)

    async def wait(self, cursor: Cursor) -> tuple[list[ChatEventOut], Cursor]:
        """The same, once there is something, or the feed has ended."""
        while True:
            moved = self._moved
            events, cursor = await self.after(cursor)
            if events or self._ended:
                return events, cursor
            await moved.wait()

    def check_room(self) -> None:
        """Refuse one listener more than there may be.

        Raises:
            ServiceUnavailable: there is no room.
        """
        if self._listeners >= LISTENERS:
            raise ServiceUnavailable(
                f"{self._listeners} listen to messages already: ask with wait= instead, or later"
            )

    async def follow(self, cursor: Cursor) -> AsyncGenerator[bytes, None]:
        """What happens after a cursor, as ``text/event-stream``, until the feed ends."""
        self._listeners += 1
        try:
            yield f"retry: 2000\nid: {cursor}\n\n".encode()
            while not self._ended:
                try:
                    async with asyncio.timeout(BEAT_S):
                        events, cursor = await self.wait(cursor)
                except TimeoutError:
                    yield b": still here\n\n"
                    continue
                for one in events:
                    kind = next(name for name in KINDS if getattr(one, name) is not None)
                    text = f"event: {kind}\ndata: {one.model_dump_json()}\n\n"
                    yield text.encode()
                yield f"id: {cursor}\ndata:\n\n".encode() if events else b""
        finally:
            self._listeners -= 1

    def _wake(self) -> None:
        woken, self._moved = self._moved, asyncio.Event()
        woken.set()
