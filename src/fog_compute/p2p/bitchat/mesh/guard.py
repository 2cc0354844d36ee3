"""What is let in: ages of packets, and what a link may cost before it is cut.

What is refused is counted by reason, and the link that brought it pays: a fault counts for several
frames of those that it may bring. Frames that are no packet, which every honest program would have
refused itself, cost it the connection in the end. Other faults may be somebody else's, passed on by
a neighbour that does not look; a link is neither cut nor silenced for those, because then whoever
forges packets could part two honest nodes.

Ages are those of the app (``BLEIngressPacketGuard.swift``, ``BLEPacketFreshnessPolicy.swift``).
"""

from __future__ import annotations

import enum
import math
from collections import Counter
from dataclasses import dataclass
from typing import Final

from fog_compute.p2p.bitchat.events import Link
from fog_compute.p2p.bitchat.wire.errors import Reason
from fog_compute.p2p.bitchat.wire.fragments import FRAME_BYTES
from fog_compute.p2p.bitchat.wire.kinds import Kind
from fog_compute.p2p.bitchat.wire.packet import Packet
from fog_compute.p2p.core.limits import Bucket

__all__ = ["Drop", "Guard", "GuardPolicy"]


class Drop(enum.StrEnum):
    """Why a packet went no further: labels of a counter, few and known beforehand."""

    MALFORMED = "malformed"
    """The frame is no packet."""
    CONTENT = "content"
    """What is in the packet is not what its kind says."""
    TOO_MANY = "too-many"
    """The link brings more than it may."""
    TIME = "time"
    """Its time is too far from now."""
    UNASKED = "unasked"
    """It is an answer to nothing that was asked."""
    SIGNATURE = "signature"
    """It is not signed by whom it says it is from."""
    KEY_CHANGED = "key-changed"
    """Its sender had another signing key before."""
    OLD = "old"
    """Its sender has said something newer."""
    OWN_NAME = "own-name"
    """It says that this node made it, and it did not."""
    NOT_NEIGHBOUR = "not-neighbour"
    """It is for direct neighbours, and came from further away."""
    UNKNOWN_SENDER = "unknown-sender"
    """Nobody of that name was announced, and there was no room to wait."""
    PARKED = "parked"
    """Nobody of that name was announced; it waits for that, and is no fault."""
    NOT_OPENED = "not-opened"
    """It is encrypted, and no session opens it."""
    NO_ROOM = "no-room"
    """There was no room to keep it."""
    SHOWN = "shown"
    """It was shown before, or too long ago to tell."""


@dataclass(frozen=True, slots=True)
class GuardPolicy:
    """All that can be chosen; times in seconds.

    Attributes:
        skew_s: how far a packet's time may be from now, either way.
        announce_s: how old an announce may be, but for one that answers a sync request.
        message_s: how old a public message, or an announce, may be that answers one;
        bundle_s: and prekeys;
        answer_s: and anything else that does.
        frames_s: frames of 512 bytes a second that a link may bring over a long time; a longer one
            counts for several;
        frames: and so many at once.
        malformed: frames that are no packet after which a link is cut;
        forgiven_s: seconds after which one of them is forgiven.
    """

    skew_s: float = 120.0
    announce_s: float = 900.0
    message_s: float = 6 * 3600.0
    bundle_s: float = 24 * 3600.0
    answer_s: float = 900.0
    frames_s: float = 400.0
    frames: float = 1_200.0
    malformed: int = 16
    forgiven_s: float = 10.0


@dataclass(slots=True)
class _Account:
    """What a link may still bring and do."""

    frames: Bucket
    at: float
    malformed: float = 0.0


FRAME_MAKES: Final = 16_384
"""Bytes out of DEFLATE that cost as much to make and to hash as a frame."""

COSTS: Final = {
    Drop.MALFORMED: 5.0,
    Drop.CONTENT: 2.0,
    Drop.SIGNATURE: 5.0,
    Drop.KEY_CHANGED: 5.0,
    Drop.UNASKED: 2.0,
    Drop.NOT_OPENED: 2.0,
}
"""How many frames more a fault counts for; it is what looking at it took."""


class Guard:
    """The accounts of all links.

    Attributes:
        drops: how much was refused, by reason.
        malformed: frames that were no packet, by what was wrong with them.
    """

    __slots__ = ("_accounts", "_policy", "drops", "malformed")

    def __init__(self, policy: GuardPolicy) -> None:
        self._policy: Final = policy
        self._accounts: dict[Link, _Account] = {}
        self.drops: Counter[Drop] = Counter()
        self.malformed: Counter[Reason] = Counter()

    @property
    def skew_s(self) -> float:
        """How far a packet's time may be from now, in seconds."""
        return self._policy.skew_s

    def up(self, link: Link, now: float) -> None:
        """A link begins with a full account."""
        policy = self._policy
        self._accounts[link] = _Account(Bucket(policy.frames_s, policy.frames, debt=math.inf), now)

    def down(self, link: Link) -> None:
        """A link's account is closed."""
        self._accounts.pop(link, None)

    def admits(self, link: Link, size: int, now: float) -> bool:
        """Whether a frame of so many bytes is looked at; one that is not is counted."""
        account = self._accounts.get(link)
        if account is None:
            return False
        passed = max(0.0, now - account.at)
        account.at = now
        account.malformed = max(0.0, account.malformed - passed / self._policy.forgiven_s)
        if not account.frames.covers(1.0, now):
            self.drops[Drop.TOO_MANY] += 1
            return False
        account.frames.charge(max(1.0, size / FRAME_BYTES))
        return True

    def drop(self, link: Link, reason: Drop) -> None:
        """Count what was refused, and let the link pay."""
        self.drops[reason] += 1
        account = self._accounts.get(link)
        if account is not None:
            account.frames.charge(COSTS.get(reason, 0.0))
            account.malformed += reason is Drop.MALFORMED

    def unpacked(self, link: Link, packet: Packet) -> None:
        """Let a link pay for what a packet became that it brought compressed."""
        account = self._accounts.get(link)
        if account is not None and packet.compressed:
            account.frames.charge(max(0, len(packet.payload) - len(packet.wire)) / FRAME_MAKES)

    def ends(self, link: Link) -> bool:
        """Whether a link has brought so much that is no packet that it is cut."""
        account = self._accounts.get(link)
        return account is not None and account.malformed > self._policy.malformed

    def timely(self, packet: Packet, now: float) -> bool:
        """Whether a packet's time fits its kind and way; never for one from the future."""
        age = now - packet.timestamp / 1000
        if age < -self._policy.skew_s:
            return False
        if packet.kind == Kind.ANNOUNCE:
            # An old one comes with what its peer said, and tells whose it is.
            announce_s = self._policy.announce_s
            return age <= (self._policy.message_s if packet.sync_answer else announce_s)
        if not packet.sync_answer:
            return age <= self._policy.skew_s
        if packet.kind == Kind.PREKEY_BUNDLE:
            return age <= self._policy.bundle_s
        message = packet.kind in (Kind.MESSAGE, Kind.GROUP_MESSAGE)
        return age <= (self._policy.message_s if message else self._policy.answer_s)

    def live(self, packet: Packet, now: float) -> bool:
        """Whether a packet was made just now, and did not wait with somebody."""
        return not packet.sync_answer and abs(now - packet.timestamp / 1000) <= self._policy.skew_s
