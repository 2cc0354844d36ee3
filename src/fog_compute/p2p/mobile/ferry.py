"""What waits to be taken to another island, and how much may go: a queue within bounds.

Text goes before pieces of files. What has waited too long is thrown away: whoever comes back after
an hour is not given the hour. What was posted and did not arrive waits again, as old as it was.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from fog_compute.p2p.bitchat.mesh.frames import Urgency
from fog_compute.p2p.bitchat.mesh.outbound import urgency
from fog_compute.p2p.bitchat.wire.packet import Packet
from fog_compute.p2p.core.limits import Bucket
from fog_compute.p2p.mobile.bundles import room_for
from fog_compute.units import KIB

__all__ = ["EACH", "Ferry", "FerryPolicy"]

EACH: Final = 64
"""Bytes that a packet counts for beside its own, so that many short ones are not free."""


@dataclass(frozen=True, slots=True)
class FerryPolicy:
    """All that can be chosen.

    Attributes:
        hold_s: seconds that a packet waits at most.
        linger_s: seconds that the first of a bundle waits for others.
        waiting: bytes that may wait for one partner; half of it, pieces of files.
        posts: bundles under way to one partner at once.
        rate: bytes a second that go to one partner over a long time;
        burst: and so many at once.
    """

    hold_s: float = 60.0
    linger_s: float = 0.02
    waiting: int = 512 * KIB
    posts: int = 4
    rate: float = 64.0 * KIB
    burst: float = 512.0 * KIB


@dataclass(frozen=True, slots=True)
class _Waits:
    """A packet, since when it waits, and whether it may wait for others."""

    data: bytes
    since: float
    bulk: bool


class Ferry:
    """What waits for one partner."""

    __slots__ = ("_budget", "_bulk", "_bytes", "_out", "_policy", "_ready_at", "_text")

    def __init__(self, policy: FerryPolicy, now: float) -> None:
        self._policy: Final = policy
        self._budget: Final = Bucket(policy.rate, policy.burst)
        self._text: Final[deque[_Waits]] = deque()
        self._bulk: Final[deque[_Waits]] = deque()
        self._out: Final[dict[int, list[_Waits]]] = {}
        self._bytes = [0, 0]
        self._ready_at = now

    def __len__(self) -> int:
        """How many wait, those under way not counted."""
        return len(self._text) + len(self._bulk)

    def put(self, packet: Packet, now: float) -> bool:
        """Let a packet wait; False if there is no room."""
        one = _Waits(packet.wire, now, urgency(packet) == Urgency.BULK)
        room = self._policy.waiting // 2 if one.bulk else self._policy.waiting
        if self._bytes[one.bulk] + _cost(one) > room:
            return False
        if not self:
            self._ready_at = now + self._policy.linger_s
        self._bytes[one.bulk] += _cost(one)
        (self._bulk if one.bulk else self._text).append(one)
        return True

    @property
    def ready_at(self) -> float:
        """When :meth:`ready` may be true without anything else happening."""
        if not self or len(self._out) >= self._policy.posts:
            return float("inf")
        return self._ready_at

    @property
    def expires_at(self) -> float | None:
        """When the next packet has waited too long; None if none waits."""
        times = [queue[0].since for queue in (self._text, self._bulk) if queue]
        return min(times) + self._policy.hold_s if times else None

    def ready(self, now: float) -> bool:
        """Whether a bundle may leave now."""
        if self.ready_at > now:
            return False
        first = (self._text or self._bulk)[0]
        free_at = self._budget.free_at(len(first.data) + EACH, now)
        self._ready_at = max(self._ready_at, free_at)
        return free_at <= now

    def take(self, number: int, now: float) -> tuple[bytes, ...]:
        """The packets of the next bundle, which count as under way by this number."""
        taken: list[_Waits] = []
        for queue in (self._text, self._bulk):
            while queue and room_for([len(one.data) for one in (*taken, queue[0])]) > len(taken):
                if not self._budget.take(len(queue[0].data) + EACH, now):
                    break
                one = queue.popleft()
                self._bytes[one.bulk] -= _cost(one)
                taken.append(one)
        self._out[number] = taken
        return tuple(one.data for one in taken)

    def settled(self, number: int, ok: bool) -> bool:
        """A bundle is on its way, or not, and waits again; False if the number is none of them."""
        taken = self._out.pop(number, None)
        if taken is None:
            return False
        if not ok:
            for one in reversed(taken):
                self._bytes[one.bulk] += _cost(one)
                (self._bulk if one.bulk else self._text).appendleft(one)
        return True

    def expire(self, now: float) -> int:
        """Throw away what has waited too long; how many that were."""
        gone = 0
        for queue in (self._text, self._bulk):
            while queue and queue[0].since + self._policy.hold_s <= now:
                one = queue.popleft()
                self._bytes[one.bulk] -= _cost(one)
                gone += 1
        return gone


def _cost(one: _Waits) -> int:
    return len(one.data) + EACH
