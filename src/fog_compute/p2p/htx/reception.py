"""What comes over the mixnet: read from its client, judged, and held until it is taken."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from typing import Final

import betanet
from fog_compute.clock import Clock
from fog_compute.p2p.core.contacts import KeyChanged, PeerBook
from fog_compute.p2p.core.identity import Identity
from fog_compute.p2p.core.messages import DecentralizedMessage
from fog_compute.p2p.core.transport import Arrival, TransportType
from fog_compute.p2p.htx.envelope import (
    MAX_ENVELOPE_BYTES,
    EnvelopeInvalid,
    Opened,
    open_envelope,
)
from fog_compute.p2p.htx.mixnet import Incoming, MixnetClient
from fog_compute.p2p.htx.strangers import StrangerLimits
from fog_compute.threads import in_thread
from fog_compute.units import MIB

__all__ = ["ASIDE_BYTES", "CARRIED", "CARRIED_MS", "Reception", "commit"]

WAITING: Final = 64
"""Messages that were read and not taken; the others wait at the edges."""

ASIDE_BYTES: Final = 1 * MIB
"""From here on signing and checking is done in a thread: a hash of it takes milliseconds."""

CARRIED: Final = "application/x-fog-carried"
"""Media type of what `HtxClient.carry` sends: no person's message, and kept by nobody."""

CARRIED_MS: Final = 60_000
"""After so long what was carried is of no use."""


class Reception:
    """Messages that came. What was read of one client outlives each stop of the transport."""

    def __init__(
        self, identity: Identity, book: PeerBook, clock: Clock, woken: Callable[[], None]
    ) -> None:
        """Judge what comes for ``identity``; ``woken`` is called when there is something."""
        self._identity: Final = identity
        self._book: Final = book
        self._clock: Final = clock
        self._woken: Final = woken
        self._strangers: Final = StrangerLimits()
        self._arrived: asyncio.Queue[Arrival] = asyncio.Queue(WAITING)
        self._reads: MixnetClient | None = None
        self._held: Incoming | Arrival | None = None
        self.dropped: Final[Counter[str]] = Counter()
        """Messages that were not shown, by reason."""
        self.on_carried: Callable[[str, bytes], None] | None = None
        """Called with the sender and the body of what somebody let be carried."""

    def begin(self, client: MixnetClient) -> None:
        """Have what comes from this client from now on."""
        if client is not self._reads:  # an open client gives each message once
            self._reads, self._held = client, None
            self._arrived = asyncio.Queue(WAITING)

    def next(self) -> Arrival | None:
        """What came first of what was not taken."""
        with contextlib.suppress(asyncio.QueueEmpty):
            return self._arrived.get_nowait()
        return None

    async def read(self, client: MixnetClient) -> None:
        """Read what comes, until the client is closed; stopped, go on later with what was read.

        Raises:
            BetanetError: the client is closed, or cannot read.
        """
        arrived = self._arrived
        try:
            while True:
                if self._held is None:
                    self._held = await client.receive()
                if not isinstance(self._held, Arrival):
                    incoming, judged = self._held, await self._judge(self._held)
                    if judged is None:
                        self._held = None
                        await commit(client, incoming.id)
                        continue
                    self._held = judged
                await arrived.put(self._held)
                self._held = None
                self._woken()
        except Exception:
            self._held = None
            raise

    async def _judge(self, incoming: Incoming) -> Arrival | None:
        """What came, or None where it is nothing for anybody; why is counted."""
        try:
            opened = await self._open(incoming)
            sender = opened.message.sender
            if sender == self._identity.fingerprint:
                raise EnvelopeInvalid("own", "one's own message came back")
            known = self._book.get(sender)
            if known is not None and known.blocked:
                raise EnvelopeInvalid("blocked", "its sender is blocked")
            if known is None or not known.is_kept:
                self._strangers.admit(sender, incoming.size, self._clock.monotonic())
            if opened.card is not None:
                self._book.learn(opened.card, self._now_ms())
            if opened.message.media_type == CARRIED:
                self._carried(opened.message)
                return None
        except EnvelopeInvalid as error:
            self.dropped[error.reason] += 1
            return None
        except KeyChanged:
            self.dropped["key"] += 1
            return None
        return Arrival(
            TransportType.BETANET_HTX, opened.message, sender_verified=True, token=incoming.id
        )

    def _now_ms(self) -> int:
        return int(self._clock.now().timestamp() * 1000)

    def _carried(self, message: DecentralizedMessage) -> None:
        if self.on_carried is None:
            raise EnvelopeInvalid("carried", "nobody wants what is carried")
        if self._now_ms() > message.created_ms + CARRIED_MS:
            raise EnvelopeInvalid("late", "what was carried comes too late")
        self.on_carried(message.sender, message.body)

    async def _open(self, incoming: Incoming) -> Opened:
        if incoming.size > MAX_ENVELOPE_BYTES:
            raise EnvelopeInvalid("size", "the envelope is too long")
        own = self._identity.fingerprint
        if incoming.size < ASIDE_BYTES:
            return open_envelope(incoming.body, own)
        try:
            return await in_thread(lambda: open_envelope(incoming.body, own))
        except OSError as error:
            raise EnvelopeInvalid("unread", f"it cannot be read: {error.strerror}") from error


async def commit(client: MixnetClient, token: str) -> None:
    """Let the edges forget a message; where that fails, it is repeated by what comes again."""
    with contextlib.suppress(betanet.BetanetError, ValueError):
        await client.commit(token)
