"""Nodes that only flood: this package's policy, and those of BitChat's apps to compare it with.

A frame here is a TTL and the key of a message; all nodes take them alike and differ in whom they
pass them to, and when. The apps' rules are written anew from what their sources do (facts:
BitChat's `RelayController.swift` and `BLEFanoutSelector.swift`; Android's
`PacketRelayManager.kt`), without their announces, sessions and gossip.
"""

from __future__ import annotations

import hashlib
import heapq
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from fog_compute.p2p.bitchat.events import (
    FrameReceived,
    FrameSent,
    Link,
    LinkDown,
    LinkUp,
    SendFrame,
    WakeAt,
)
from fog_compute.p2p.bitchat.managed_flood import FloodPolicy, ManagedFlood
from fog_compute.p2p.bitchat.mesh.frames import Frames, FramesPolicy, Lost, Urgency

__all__ = [
    "POLICIES",
    "AndroidFlood",
    "Delivered",
    "FloodNode",
    "IosFlood",
    "OnceFlood",
    "OurFlood",
    "Say",
]

IOS_WAITS_MS: Final = ((2, (10, 40)), (5, (60, 150)), (9, (80, 180)), (math.inf, (100, 220)))
"""Up to how many links a relay waits between how many milliseconds."""

ANDROID_ODDS: Final = ((10, 1.0), (30, 0.85), (50, 0.7), (100, 0.55), (math.inf, 0.4))
"""Up to how many peers a packet with fewer than four hops left is passed on how likely."""


@dataclass(frozen=True, slots=True)
class Say:
    """Let a node send a message of its own."""

    key: bytes


@dataclass(frozen=True, slots=True)
class Delivered:
    """A node shows a message."""

    key: bytes


class FloodNode(ABC):
    """What all policies share: links, and each message shown once.

    Attributes:
        duplicates: copies that came of what was there already.
    """

    def __init__(self, rng: Random, peers: int) -> None:
        """A node without links, that knows of so many peers."""
        self.duplicates = 0
        self._rng = rng
        self._peers = peers
        self._links: list[Link] = []
        self._shown: set[bytes] = set()

    def handle(self, event: object, now: float) -> Sequence[object]:
        """What is to be done after ``event``."""
        actions: list[object] = []
        match event:
            case LinkUp(link, _, _):
                self._links.append(link)
                self.up(link)
            case LinkDown(link):
                self._links.remove(link)
                self.down(link)
            case FrameReceived(link, data):
                ttl, key = data[0], data[1:]
                if key in self._shown:
                    self.duplicates += 1
                else:
                    self._shown.add(key)
                    actions.append(Delivered(key))
                self.heard(key, ttl, link, now)
            case FrameSent(link, token, ok):
                self.sent(link, token, ok, now)
            case Say(key):
                self._shown.add(key)
                self.say(key, now)
        return [*actions, *self.due(now)]

    def up(self, link: Link) -> None:  # noqa: B027 - not all look
        """A link is there."""

    def down(self, link: Link) -> None:  # noqa: B027 - not all look
        """A link is gone."""

    def sent(self, link: Link, token: int, ok: bool, now: float) -> None:  # noqa: B027 - not all look
        """What became of a frame; the apps do not look."""

    @abstractmethod
    def say(self, key: bytes, now: float) -> None:
        """Send a message of this node."""

    @abstractmethod
    def heard(self, key: bytes, ttl: int, link: Link, now: float) -> None:
        """Take a copy."""

    @abstractmethod
    def due(self, now: float) -> list[object]:
        """What is to be sent now, and when to ask again."""


class OurFlood(FloodNode):
    """The product's own policy, with its repetition of lost frames."""

    tries = FramesPolicy().tries

    def __init__(self, rng: Random, peers: int) -> None:
        """A node without links, that knows of so many peers."""
        super().__init__(rng, peers)
        self._flood: ManagedFlood[bytes] = ManagedFlood(FloodPolicy(), rng)
        self._frames: Frames[tuple[bytes, int]] = Frames(
            FramesPolicy(tries=self.tries),
            lambda link, about: self._flood.wanted(about[0], link, about[1]),
        )

    def up(self, link: Link) -> None:
        """A link is there."""
        self._frames.up(link)

    def down(self, link: Link) -> None:
        """A link is gone."""
        self._frames.down(link)
        self._flood.link_down(link)

    def sent(self, link: Link, token: int, ok: bool, now: float) -> None:
        """What became of a frame."""
        self._forget(self._frames.answered(link, token, ok, now))

    def say(self, key: bytes, now: float) -> None:
        """Send a message of this node."""
        self._flood.start(key, key, now)

    def heard(self, key: bytes, ttl: int, link: Link, now: float) -> None:
        """Take a copy."""
        self._flood.heard(key, key, ttl, link, now, len(self._links))

    def due(self, now: float) -> list[object]:
        """What is to be sent now, and when to ask again."""
        for relay in self._flood.due(now, self._links):
            data = bytes([relay.ttl]) + relay.key
            self._frames.put(relay.link, data, Urgency.TEXT, (relay.key, relay.ttl))
        frames, lost = self._frames.due(now)
        self._forget(lost)
        times = [at for at in (self._flood.next_due, self._frames.next_due) if at is not None]
        return [*frames, *([WakeAt(min(times))] if times else [])]

    def _forget(self, lost: list[Lost[tuple[bytes, int]]]) -> None:
        for one in lost:
            self._flood.lost(one.about[0], one.link, one.about[1])


class OnceFlood(OurFlood):
    """The product's policy if no lost frame were sent again."""

    tries = 1


@dataclass(slots=True)
class _Relay:
    ttl: int
    links: list[Link]
    at: float


class _AppFlood(FloodNode):
    """What the apps share: a relay is one decision, taken when the first copy comes."""

    def __init__(self, rng: Random, peers: int) -> None:
        """A node without links, that knows of so many peers."""
        super().__init__(rng, peers)
        self._pending: dict[bytes, _Relay] = {}
        self._queue: list[tuple[float, bytes]] = []
        self._known: set[bytes] = set()

    def plan(self, key: bytes, ttl: int, links: list[Link], at: float) -> None:
        """Pass a message on to these links at a time."""
        self._pending[key] = _Relay(ttl, links, at)
        heapq.heappush(self._queue, (at, key))

    def due(self, now: float) -> list[object]:
        """What is to be sent now, and when to ask again."""
        actions: list[object] = []
        while self._queue and self._queue[0][0] <= now:
            at, key = heapq.heappop(self._queue)
            relay = self._pending.get(key)
            if relay is None or relay.at != at:
                continue
            del self._pending[key]
            data = bytes([relay.ttl]) + key
            actions += [SendFrame(link, data, 0) for link in relay.links if link in self._links]
        if self._queue:
            actions.append(WakeAt(self._queue[0][0]))
        return actions


class IosFlood(_AppFlood):
    """The app on iOS: fewer hops in dense places, few neighbours, a duplicate cancels."""

    def say(self, key: bytes, now: float) -> None:
        """Send a message of this node."""
        self._known.add(key)
        self.plan(key, 7, self._some(key, None), now)

    def heard(self, key: bytes, ttl: int, link: Link, now: float) -> None:
        """Take a copy; a second one cancels the relay where there are more than two peers."""
        degree = len(self._links)
        if key in self._known:
            if degree > 2:
                self._pending.pop(key, None)
            return
        self._known.add(key)
        cap = 5 if degree >= 6 else 6 if degree >= 3 else 7
        limit = min(ttl, 7) if degree <= 2 else max(2, min(ttl, cap))
        if ttl > 1:
            self.plan(key, limit - 1, self._some(key, link), now + self._wait(degree))

    def _some(self, key: bytes, ingress: Link | None) -> list[Link]:
        # Half of the links are asked for by this side: the choice is made for each role by itself.
        chosen: list[Link] = []
        for role in (0, 1):
            links = [one for one in self._links if one % 2 == role and one != ingress]
            count = len(links)
            size = count if count <= 2 else min(count, max(1, (count - 1).bit_length() + 1))
            links.sort(key=lambda one: hashlib.sha256(key + str(one).encode()).digest())
            chosen += links[:size]
        return chosen

    def _wait(self, degree: int) -> float:
        bounds = next(bounds for most, bounds in IOS_WAITS_MS if degree <= most)
        return self._rng.uniform(*bounds) / 1000


class AndroidFlood(_AppFlood):
    """The app on Android: to all others at once, the less likely the fewer hops are left."""

    def say(self, key: bytes, now: float) -> None:
        """Send a message of this node."""
        self._known.add(key)
        self.plan(key, 7, list(self._links), now)

    def heard(self, key: bytes, ttl: int, link: Link, now: float) -> None:
        """Take a copy; later ones are of no interest."""
        if key in self._known:
            return
        self._known.add(key)
        odds = next(odds for most, odds in ANDROID_ODDS if self._peers <= most)
        if ttl > 1 and (ttl - 1 >= 4 or self._rng.random() < odds):
            self.plan(key, ttl - 1, [one for one in self._links if one != link], now)


POLICIES: Final[dict[str, Callable[[Random, int], FloodNode]]] = {
    "ours": OurFlood,
    "ours, nothing sent twice": OnceFlood,
    "iOS": IosFlood,
    "Android": AndroidFlood,
}
