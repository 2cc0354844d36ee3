"""Which neighbour is given which packet, and when: decisions alone.

A node gives a packet to every neighbour that does not have it yet, with one hop less. It waits a
moment first, in which copies that come in show who has it. BitChat's own app cancels its relay when
it hears a duplicate; that is right on a radio that all hear, and wrong on links between two: a
neighbour behind this node has heard nothing (facts: BitChat's `RelayController.swift`; simulations
in :mod:`fog_compute.testing.mesh` run it beside this policy).

What a neighbour has is one number: the TTL with which the packet is known to have reached it. One
rule follows for everything: give it to a neighbour if it would arrive there with a higher TTL than
that. The first copy is such a case, and so is a copy that came over a shorter way later: it is
passed on, too, because nodes further on would not be reached otherwise.
"""

from __future__ import annotations

import enum
import heapq
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Final, Generic, TypeVar

from fog_compute.p2p.bitchat.events import Link

__all__ = ["Copy", "FloodPolicy", "ManagedFlood", "Relay"]

PacketT = TypeVar("PacketT")

TTL_LIMIT: Final = 7
"""The most hops that a packet goes, BitChat's own; what arrives with more is cut to it."""


@dataclass(frozen=True, slots=True)
class FloodPolicy:
    """All that can be chosen.

    Attributes:
        ttl: TTL of a node's own packets, in hops.
        wait_s: shortest and longest time before a relay, in seconds.
        thin_degree: up to so many links, nobody else is likely to be quicker;
        thin_wait_s: and the wait is this one.
        keep_s: seconds after which a packet is no more improved.
        largest: packets in memory at once; beyond it the oldest is left as it is.
    """

    ttl: int = TTL_LIMIT
    wait_s: tuple[float, float] = (0.020, 0.100)
    thin_degree: int = 2
    thin_wait_s: tuple[float, float] = (0.010, 0.040)
    keep_s: float = 30.0
    largest: int = 4_096

    def wait(self, degree: int, rng: Random) -> float:
        """Seconds until a relay at a node with so many links."""
        return rng.uniform(*(self.thin_wait_s if degree <= self.thin_degree else self.wait_s))


class Copy(enum.Enum):
    """What a copy of a packet is to a node."""

    FIRST = "first"
    """It had none."""
    BETTER = "better"
    """It has more hops left than any before."""
    DUPLICATE = "duplicate"
    """It tells only that the neighbour has the packet."""


@dataclass(frozen=True, slots=True)
class Relay(Generic[PacketT]):
    """Give a packet to a neighbour.

    Attributes:
        link: to whom.
        key: which, as the caller named it.
        packet: the packet, as the caller handed it in.
        ttl: with which TTL it leaves.
        source: over which link it came first; None if it is this node's own.
    """

    link: Link
    key: bytes
    packet: PacketT
    ttl: int
    source: Link | None = None


@dataclass(slots=True)
class _Flood(Generic[PacketT]):
    """One packet on its way through this node.

    Attributes:
        packet: what the caller handed in.
        ttl: the best TTL that this node has of it.
        since: when it came first.
        reached: the TTL that it has at each neighbour, as far as is known.
        due: when it is given on; None if that was done.
        only: the neighbours it is meant for; None for all.
        source: over which link it came first; None if it is this node's own.
    """

    packet: PacketT
    ttl: int
    since: float
    reached: dict[Link, int] = field(default_factory=dict)
    due: float | None = None
    only: frozenset[Link] | None = None
    source: Link | None = None


class ManagedFlood(Generic[PacketT]):
    """The packets that go through a node; knows no clock, no link and no bytes."""

    __slots__ = ("_due", "_floods", "_policy", "_rng")

    def __init__(self, policy: FloodPolicy, rng: Random) -> None:
        self._policy: Final = policy
        self._rng: Final = rng
        self._floods: OrderedDict[bytes, _Flood[PacketT]] = OrderedDict()
        self._due: list[tuple[float, bytes]] = []

    def __len__(self) -> int:
        return len(self._floods)

    def __contains__(self, key: bytes) -> bool:
        return key in self._floods

    def start(
        self, key: bytes, packet: PacketT, now: float, *, only: Iterable[Link] | None = None
    ) -> None:
        """Send a packet of this node's own, at once."""
        flood = self._enter(key, packet, self._policy.ttl + 1, now)
        flood.only = None if only is None else frozenset(only)
        self._schedule(key, flood, now)

    def heard(
        self, key: bytes, packet: PacketT, ttl: int, link: Link, now: float, degree: int
    ) -> Copy:
        """Take note of a copy that came in, and pass it on later if that helps anybody.

        Args:
            key: names the packet, whatever its TTL.
            packet: what to hand out when it is given on.
            ttl: with which it came.
            link: over which it came; its other side has the packet.
            now: the time.
            degree: how many links there are.
        """
        ttl = min(ttl, TTL_LIMIT)
        flood = self._floods.get(key)
        if flood is None:
            kind = Copy.FIRST
            flood = self._enter(key, packet, ttl, now)
            flood.source = link
        else:
            kind = Copy.BETTER if ttl > flood.ttl else Copy.DUPLICATE
        # Whoever sent this has it with one hop more.
        flood.reached[link] = max(flood.reached.get(link, 0), ttl + 1)
        if kind is not Copy.DUPLICATE:
            flood.ttl = ttl
            if ttl > 1 and flood.due is None:
                self._schedule(key, flood, now + self._policy.wait(degree, self._rng))
        return kind

    def only(self, key: bytes, links: Iterable[Link]) -> None:
        """Pass a packet on to these neighbours alone: its way is known."""
        flood = self._floods.get(key)
        if flood is not None:
            flood.only = frozenset(links)

    def lost(self, key: bytes, link: Link, ttl: int) -> None:
        """Forget that a neighbour has a packet: it could not be given to it."""
        flood = self._floods.get(key)
        if flood is not None and flood.reached.get(link) == ttl:
            del flood.reached[link]

    def wanted(self, key: bytes, link: Link, ttl: int) -> bool:
        """Whether giving a packet to a neighbour again would tell it anything."""
        flood = self._floods.get(key)
        return flood is not None and flood.reached.get(link, 0) <= ttl

    def link_down(self, link: Link) -> None:
        """Forget what a neighbour has."""
        for flood in self._floods.values():
            flood.reached.pop(link, None)

    def due(self, now: float, links: Iterable[Link]) -> list[Relay[PacketT]]:
        """What is to be sent by now, to which of these neighbours."""
        relays: list[Relay[PacketT]] = []
        if self._due and self._due[0][0] <= now:
            present = tuple(links)
            while self._due and self._due[0][0] <= now:
                at, key = heapq.heappop(self._due)
                flood = self._floods.get(key)
                if flood is None or flood.due != at:
                    continue
                flood.due = None
                relays += self._relays(key, flood, present)
        self._forget(now)
        return relays

    @property
    def next_due(self) -> float | None:
        """When :meth:`due` has something, at the earliest."""
        while self._due:
            at, key = self._due[0]
            flood = self._floods.get(key)
            if flood is not None and flood.due == at:
                return at
            heapq.heappop(self._due)
        return None

    def _relays(
        self, key: bytes, flood: _Flood[PacketT], present: tuple[Link, ...]
    ) -> list[Relay[PacketT]]:
        ttl = flood.ttl - 1
        relays: list[Relay[PacketT]] = []
        if ttl < 1:
            return relays
        for link in present:
            if flood.only is not None and link not in flood.only:
                continue
            if ttl > flood.reached.get(link, 0):
                flood.reached[link] = ttl
                relays.append(Relay(link, key, flood.packet, ttl, flood.source))
        return relays

    def _enter(self, key: bytes, packet: PacketT, ttl: int, now: float) -> _Flood[PacketT]:
        flood = self._floods[key] = _Flood(packet, ttl, now)
        return flood

    def _schedule(self, key: bytes, flood: _Flood[PacketT], at: float) -> None:
        flood.due = at
        heapq.heappush(self._due, (at, key))

    def _forget(self, now: float) -> None:
        while self._floods:
            oldest = next(iter(self._floods.values()))
            if len(self._floods) <= self._policy.largest and (
                now - oldest.since <= self._policy.keep_s
            ):
                return
            self._floods.popitem(last=False)
