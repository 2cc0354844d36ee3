"""Message channels in memory that lose and repeat messages as the mixnet may.

A lost request or reply shows at once as `ChannelTimeout`, so tests need not wait.  A message is
delivered again, in front of all others, when its reader reopens without having committed it.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from fog_compute.clock import Clock, SystemClock
from fog_compute.errors import ChannelDown, ChannelError, ChannelTimeout, PrivacyUnavailable
from fog_compute.vpn.channel import REPLY_PACKET_BYTES, OnSent, Received


@dataclass(slots=True)
class _Mailbox:
    """Messages for one address; outlives its channel, as an edge's mailbox does."""

    waiting: list[Received] = field(default_factory=list)
    unread: int = 0  # how many of `waiting`, from the front, the present reader has not seen
    arrived: asyncio.Event = field(default_factory=asyncio.Event)


class MemoryNetwork:
    """Connects `MemoryChannel` objects by address.

    ``loss`` and ``duplication`` are probabilities per message and direction, and ``delay`` the
    longest time that one takes, all drawn from ``rng``; so later messages overtake earlier ones.
    Delays, and how long answers are awaited, are on ``clock``.
    """

    def __init__(
        self,
        rng: random.Random | None = None,
        *,
        loss: float = 0.0,
        duplication: float = 0.0,
        delay: float = 0.0,
        clock: Clock | None = None,
    ) -> None:
        """Lose, repeat and delay nothing unless told."""
        self.loss = loss
        self.duplication = duplication
        self.delay = delay
        self.delivered = 0
        self._on_the_way: set[asyncio.Task[None]] = set()
        self._rng = random.Random(0) if rng is None else rng
        self._clock: Clock = SystemClock() if clock is None else clock
        self._numbers = itertools.count(1)
        self._mailboxes: dict[str, _Mailbox] = {}
        self._replies: dict[int, asyncio.Future[bytes]] = {}

    def channel(self, address: str) -> MemoryChannel:
        """Open the channel of an address; a second one replaces the first, as after a restart."""
        mailbox = self._mailboxes.setdefault(address, _Mailbox())
        mailbox.unread = len(mailbox.waiting)
        mailbox.arrived = asyncio.Event()
        if mailbox.waiting:
            mailbox.arrived.set()
        return MemoryChannel(self, address, mailbox)

    def _lost(self) -> bool:
        return self._rng.random() < self.loss

    def _post(self, to: str, body: bytes, capacity: int, handle: int | None) -> None:
        try:
            mailbox = self._mailboxes[to]
        except KeyError:
            raise ChannelError(f"nobody has the address {to}") from None
        message = Received(f"m{next(self._numbers)}", body, capacity, handle)
        copies = 2 if self._rng.random() < self.duplication else 1
        for _ in range(copies):
            self._later(lambda: _deliver(mailbox, message))
            self.delivered += 1

    def _later(self, arrive: Callable[[], None]) -> None:
        """Let something arrive now, or after a delay."""
        if not self.delay:
            arrive()
            return
        task = asyncio.create_task(self._arrive(self._rng.uniform(0, self.delay), arrive))
        self._on_the_way.add(task)
        task.add_done_callback(self._on_the_way.discard)

    async def _arrive(self, seconds: float, arrive: Callable[[], None]) -> None:
        await self._clock.sleep(seconds)
        arrive()


def _deliver(mailbox: _Mailbox, message: Received) -> None:
    mailbox.waiting.append(message)
    mailbox.unread += 1
    mailbox.arrived.set()


def _answer(answer: asyncio.Future[bytes], body: bytes | None) -> None:
    if answer.done():
        return
    if body is None:
        answer.set_exception(ChannelTimeout("the reply was lost"))
    else:
        answer.set_result(body)


class MemoryChannel:
    """A `fog_compute.vpn.channel.MessageChannel` in memory.

    Attributes:
        down: why this side cannot use the network, as long as it is not empty.
        unreachable: addresses to which there is no path.
    """

    def __init__(self, network: MemoryNetwork, address: str, mailbox: _Mailbox) -> None:
        """Use `MemoryNetwork.channel`."""
        self._network = network
        self._address = address
        self._mailbox = mailbox
        self._closed = False
        self.down = ""
        self.unreachable: set[str] = set()

    @property
    def address(self) -> str:
        """Where others reach this channel."""
        return self._address

    async def request(
        self,
        to: str,
        body: bytes,
        *,
        reply_packets: int = 4,
        timeout: float = 30.0,
        on_sent: OnSent | None = None,
    ) -> bytes:
        """Send and wait for the answer; see the protocol."""
        self._check_open()
        self._check_up(to)
        network = self._network
        number = next(network._numbers)  # noqa: SLF001  # the two classes are one fake
        if network._lost():  # noqa: SLF001
            await asyncio.sleep(0)
            raise ChannelTimeout("the request was lost")
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        network._replies[number] = answer  # noqa: SLF001
        network._post(to, body, reply_packets * REPLY_PACKET_BYTES, number)  # noqa: SLF001
        if on_sent is not None:
            asyncio.get_running_loop().call_soon(on_sent, len(body))
        over = asyncio.create_task(network._clock.sleep(timeout))  # noqa: SLF001
        try:
            await asyncio.wait((answer, over), return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise ChannelTimeout(f"no answer within {timeout} s")
            return answer.result()
        finally:
            over.cancel()
            answer.cancel()  # one that is on its way comes too late
            network._replies.pop(number, None)  # noqa: SLF001

    async def send(self, to: str, body: bytes) -> None:
        """Send without a way back; a loss may concern the message or only its receipt."""
        self._check_open()
        self._check_up(to)
        if not self._network._lost():  # noqa: SLF001
            self._network._post(to, body, 0, None)  # noqa: SLF001
        if self._network._lost():  # noqa: SLF001
            raise ChannelTimeout("no receipt of the message came back")
        await asyncio.sleep(0)

    async def receive(self) -> Received:
        """Return the next message, committed or not."""
        mailbox = self._mailbox
        while not mailbox.unread:
            self._check_open()
            mailbox.arrived.clear()
            await mailbox.arrived.wait()
        self._check_open()
        message = mailbox.waiting[len(mailbox.waiting) - mailbox.unread]
        mailbox.unread -= 1
        return message

    async def reply(self, incoming: Received, body: bytes) -> None:
        """Answer once, within the capacity."""
        self._check_open()
        if incoming.reply_handle is None:
            raise ChannelError("the message has no way back")
        if len(body) > incoming.reply_capacity:
            raise ChannelError(f"the reply has {len(body)} bytes and {incoming.reply_capacity} fit")
        answer = self._network._replies.pop(incoming.reply_handle, None)  # noqa: SLF001
        if answer is None:
            raise ChannelError("the way back is used up")
        told = None if self._network._lost() else body  # noqa: SLF001
        self._network._later(lambda: _answer(answer, told))  # noqa: SLF001

    async def commit(self, incoming: Received) -> None:
        """Never deliver this message again; copies already on their way may still come."""
        for i, message in enumerate(self._mailbox.waiting):
            if message.id == incoming.id and i < len(self._mailbox.waiting) - self._mailbox.unread:
                del self._mailbox.waiting[i]
                return

    def close(self) -> None:
        """Stop; who waits in `receive` gets `ChannelError`."""
        self._closed = True
        self._mailbox.arrived.set()

    def _check_open(self) -> None:
        if self._closed:
            raise ChannelError("the channel is closed")

    def _check_up(self, to: str) -> None:
        if self.down:
            raise ChannelDown(self.down)
        if to in self.unreachable:
            raise PrivacyUnavailable(f"there is no path to {to}", needed=1, available=0)
