"""What a neighbour was given without a sign that it arrived.

A link may lose a frame, and tell nobody. Whoever has a packet shows that sooner or later: a copy
comes back from there, or a question whose set has it. Where neither came for a moment, there is
doubt, and the neighbour is shown a set of what was said lately: who finds in it that something is
missing asks for it at once. It is shown twice at most; then the rounds of gossip are left.

A set of twenty packets has sixty bytes, and serves for all that was given since the last one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from fog_compute.p2p.bitchat.events import Link
from fog_compute.p2p.bitchat.wire.gcs import Members

__all__ = ["DoubtPolicy", "Doubts"]


@dataclass(frozen=True, slots=True)
class DoubtPolicy:
    """All that can be chosen; times in seconds.

    Attributes:
        first_s: from a packet to the set that is to have it;
        again_s: and from there to the second one.
        shown: how often a packet is in a set at most.
        most: packets in doubt, of a link; of more, the oldest are left.
    """

    first_s: float = 0.5
    again_s: float = 1.0
    shown: int = 2
    most: int = 64


@dataclass(slots=True)
class _Given:
    """A packet that a neighbour was given: the hash of its id, and in how many sets it was."""

    hash: int
    shown: int = 0


@dataclass(slots=True)
class _Doubt:
    """What is in doubt at one link, and when its set is due."""

    given: dict[bytes, _Given] = field(default_factory=dict)
    at: float = 0.0


class Doubts:
    """The doubts about all neighbours."""

    __slots__ = ("_links", "_policy")

    def __init__(self, policy: DoubtPolicy) -> None:
        self._policy: Final = policy
        self._links: dict[Link, _Doubt] = {}

    def given(self, links: Iterable[Link], key: bytes, hashed: int, now: float) -> None:
        """These neighbours are given a packet now."""
        at = now + self._policy.first_s
        for link in links:
            doubt = self._links.setdefault(link, _Doubt())
            doubt.at = min(doubt.at, at) if doubt.given else at
            doubt.given[key] = _Given(hashed)
            if len(doubt.given) > self._policy.most:
                del doubt.given[next(iter(doubt.given))]

    def arrived(self, link: Link, key: bytes) -> None:
        """A copy came from a neighbour."""
        doubt = self._links.get(link)
        if doubt is None:
            return
        doubt.given.pop(key, None)
        if not doubt.given:
            del self._links[link]

    def has(self, link: Link, members: Members) -> None:
        """A neighbour told what it has."""
        doubt = self._links.get(link)
        if doubt is not None:
            for key in [key for key, one in doubt.given.items() if members.holds(one.hash)]:
                self.arrived(link, key)

    def down(self, link: Link) -> None:
        """A link is over."""
        self._links.pop(link, None)

    def due(self, now: float) -> list[Link]:
        """The neighbours that are to be shown a set now; they count as shown."""
        found = [link for link, doubt in self._links.items() if doubt.at <= now]
        for link in found:
            doubt = self._links[link]
            for key, one in list(doubt.given.items()):
                one.shown += 1
                if one.shown >= self._policy.shown:
                    del doubt.given[key]
            doubt.at = now + self._policy.again_s
            if not doubt.given:
                del self._links[link]
        return found

    @property
    def next_due(self) -> float | None:
        """When :meth:`due` has somebody."""
        return min((doubt.at for doubt in self._links.values()), default=None)
