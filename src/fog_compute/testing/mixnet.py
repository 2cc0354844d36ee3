"""A mixnet in memory, as a client of people's messages sees it: mailboxes that keep and repeat.

A message is kept for its recipient until it is committed, also while nobody has the mailbox open,
and comes again to who opens it anew. A sending with the id of a former one arrives once.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

import betanet
from fog_compute.errors import ServiceUnavailable
from fog_compute.levels import PrivacyLevel


@dataclass(frozen=True, slots=True)
class MemoryIncoming:
    """A message that came."""

    id: str
    body: bytes

    @property
    def size(self) -> int:
        """Bytes of the body."""
        return len(self.body)


@dataclass(slots=True)
class _Mailbox:
    kept: dict[str, bytes] = field(default_factory=dict)
    seen: dict[str, bytes] = field(default_factory=dict)
    reader: MemoryMixnetClient | None = None


class MemoryMixnet:
    """Connects the clients of people by address.

    Attributes:
        trouble: why nobody reaches the network, as long as it is not empty.
        shortages: what the network lacks, by the number of hops.
        silent: nothing comes back, and nobody knows why.
        fails: raised by the next sendings, in this order.
        sent: how many messages an edge stored.
    """

    def __init__(self) -> None:
        self.trouble = ""
        self.silent = False
        self.shortages: dict[int, betanet.PathShortage] = {}
        self.fails: list[Exception] = []
        self.sent = 0
        self._mailboxes: dict[str, _Mailbox] = {}

    def service(self, person: str) -> MemoryMixnetService:
        """The clients of one person's machine."""
        return MemoryMixnetService(self, person)

    def _mailbox(self, address: str) -> _Mailbox:
        return self._mailboxes.setdefault(address, _Mailbox())


class MemoryMixnetService:
    """The clients of one machine, each opened when it is first asked for."""

    def __init__(self, network: MemoryMixnet, person: str) -> None:
        """Use `MemoryMixnet.service`."""
        self._network = network
        self._person = person
        self.opened: dict[tuple[PrivacyLevel, str], MemoryMixnetClient] = {}

    async def client(self, level: PrivacyLevel, owner: str = "") -> MemoryMixnetClient:
        """A client of one level, with the address that it had before."""
        await asyncio.sleep(0)
        if self._network.trouble:
            raise ServiceUnavailable(f"cannot join the network: {self._network.trouble}")
        found = self.opened.get((level, owner))
        if found is None or found.closed:
            name = f"{self._person}/{level.value}/{owner}".encode()
            text = base64.b32encode(hashlib.sha512(name).digest()[:60]).decode().lower()
            found = MemoryMixnetClient(self._network, f"fog1{text}", level)
            self.opened[level, owner] = found
        return found


class MemoryMixnetClient:
    """What people's messages need of a `betanet.Client`."""

    def __init__(self, network: MemoryMixnet, address: str, level: PrivacyLevel) -> None:
        """Use `MemoryMixnetService.client`."""
        self._network = network
        self._level = level
        self._arrived = asyncio.Event()
        self.address = address
        self.closed = False
        mailbox = network._mailbox(address)  # noqa: SLF001  # the three classes are one fake
        mailbox.reader = self
        self._unread: list[str] = list(mailbox.kept)
        self._arrived.set()

    async def send(
        self,
        to: str,
        body: bytes,
        *,
        hops: int = 3,
        id: str | None = None,  # noqa: A002
        on_progress: Callable[[betanet.Progress], object] | None = None,
    ) -> str:
        """Store a message at the recipient's edge; half-way it is told that it is half-way."""
        if on_progress is not None:
            on_progress(betanet.Progress(len(body) // 2, len(body), 0.0))
        await asyncio.sleep(0)
        self._check()
        network = self._network
        if network.fails:
            raise network.fails.pop(0)
        if network.trouble:
            raise betanet.Offline(network.trouble)
        if hops != self._level.hops:
            raise ValueError("nothing of another path length is sent")
        sending = id or hashlib.sha256(body + to.encode()).hexdigest()[:32]
        mailbox = network._mailbox(to)  # noqa: SLF001
        if sending in mailbox.seen:
            if mailbox.seen[sending] != body:
                raise ValueError("this id was used for another message")
            return sending
        network.sent += 1
        mailbox.kept[sending] = mailbox.seen[sending] = body
        if mailbox.reader is not None:
            mailbox.reader.arrive(sending)
        return sending

    def arrive(self, sending: str) -> None:
        """Note that a message is there."""
        self._unread.append(sending)
        self._arrived.set()

    async def receive(self) -> MemoryIncoming:
        """Wait for the next message."""
        while True:
            self._check()
            mailbox = self._network._mailbox(self.address)  # noqa: SLF001
            while self._unread:
                sending = self._unread.pop(0)
                if sending in mailbox.kept:
                    return MemoryIncoming(sending, mailbox.kept[sending])
            self._arrived.clear()
            await self._arrived.wait()

    async def commit(self, id: str) -> None:  # noqa: A002 - as it is published
        """Keep a message no longer."""
        self._check()
        self._network._mailbox(self.address).kept.pop(id, None)  # noqa: SLF001

    async def ping(self, hops: int = 3) -> float:
        """Send a packet to oneself; it comes back at once, or never."""
        self._check()
        if hops != self._level.hops:
            raise ValueError("nothing of another path length is sent")
        if self._network.trouble:
            raise betanet.Offline(self._network.trouble)
        if self._network.silent:
            await asyncio.get_running_loop().create_future()
        return 0.0

    def status(self) -> betanet.ClientStatus:
        """The network as it is now."""
        self._check()
        trouble = self._network.trouble or None
        return betanet.ClientStatus(
            network="memory",
            epoch=1,
            nodes={"entry": 2, "middle": 6, "exit": 2},
            edges_attached=0 if trouble else 2,
            edges_wanted=2,
            one_operator=True,
            mean_delay_ms=0,
            in_flight=0,
            outgoing_messages=0,
            open_requests=0,
            packets_resent=0,
            uncommitted=0,
            trouble=trouble,
            shortages=tuple(self._network.shortages.values()),
            paths=(),
            edges=(),
            excluded=(),
        )

    async def close(self) -> None:
        """Close it: who waits gets `betanet.Closed`."""
        self.closed = True
        self._arrived.set()

    def _check(self) -> None:
        if self.closed:
            raise betanet.Closed("the client is closed")
