"""The bridge's engine: links of the mesh whose other end is another island, reached by messages.

``Bridging.handle`` takes what happened and gives what is to be done, as the mesh engine does; it
knows no mixnet, clock or task. Each other bridge is one more link of this machine's mesh: what the
mesh floods to it is judged, put into bundles and posted; what comes back is a frame that came over
that link. So loops end where all duplicates end, in the mesh: it knows what it has seen, takes one
hop off what it passes on, and gives nothing back to where it came from.

A link is up once both sides have said that they want it, and down when one says so, or nothing was
heard for long. What waits while the other side is out of reach is bounded in bytes and in age.

``now`` is in seconds since 1970 by a clock that never jumps within a run, as in the mesh.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count
from math import inf
from random import Random
from typing import Final, TypeAlias

from fog_compute.backoff import Backoff
from fog_compute.p2p.bitchat.events import (
    FrameReceived,
    FrameSent,
    Link,
    LinkDown,
    LinkUp,
    SendFrame,
    Wake,
    WakeAt,
)
from fog_compute.p2p.bitchat.wire.errors import Malformed
from fog_compute.p2p.bitchat.wire.fragments import FRAME_BYTES
from fog_compute.p2p.bitchat.wire.packet import decode
from fog_compute.p2p.core.limits import Bucket
from fog_compute.p2p.mobile.bundles import LONGEST_PACKET, Bundle, BundleInvalid, Saying
from fog_compute.p2p.mobile.crossing import Crossing, CrossingPolicy
from fog_compute.p2p.mobile.ferry import EACH, Ferry, FerryPolicy
from fog_compute.p2p.mobile.links import FIRST_ISLAND_LINK

__all__ = [
    "BridgeAction",
    "BridgeEvent",
    "BridgePolicy",
    "Bridging",
    "Came",
    "Part",
    "Partners",
    "Post",
    "Posted",
]

HELLO_JITTER: Final = (0.8, 1.0)


@dataclass(frozen=True, slots=True)
class Partners:
    """With whom islands are joined from now on: fingerprints. Others are not answered."""

    fingerprints: frozenset[str]


@dataclass(frozen=True, slots=True)
class Came:
    """Another bridge sent something; that it was this one, is proved.

    Attributes:
        partner: its fingerprint.
        body: what.
    """

    partner: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Posted:
    """What became of a :class:`Post`: on the way, or not; and over."""

    number: int
    ok: bool


@dataclass(frozen=True, slots=True)
class Part:
    """End a link, say so to the other side, and leave it alone for so many seconds."""

    link: Link
    leave_s: float


@dataclass(frozen=True, slots=True)
class Post:
    """Send a body to another bridge, and answer with :class:`Posted`.

    Attributes:
        number: names it in the answer.
        partner: to whom, a fingerprint.
        body: what.
    """

    number: int
    partner: str
    body: bytes


BridgeEvent: TypeAlias = SendFrame | Partners | Came | Posted | Part | Wake
BridgeAction: TypeAlias = LinkUp | LinkDown | FrameReceived | FrameSent | Post | WakeAt


@dataclass(frozen=True, slots=True)
class BridgePolicy:
    """All that can be chosen; times in seconds.

    Attributes:
        hello_s: between two signs of life.
        answer_s: between two hellos that answer one.
        silent_s: without a word from the other side, after which its link is down.
        failures: how long a partner is left alone that could not be reached.
        incoming: what a partner may bring.
        ferry: what waits for a partner.
        crossing: what crosses.
    """

    hello_s: float = 30.0
    answer_s: float = 2.0
    silent_s: float = 100.0
    failures: Backoff = Backoff(first=1.0, most=30.0)  # noqa: RUF009 - it is frozen
    incoming: tuple[float, float] = (128 * 1024.0, 1024 * 1024.0)
    ferry: FerryPolicy = field(default_factory=FerryPolicy)
    crossing: CrossingPolicy = field(default_factory=CrossingPolicy)


@dataclass(slots=True)
class _Partner:
    """One other bridge.

    Attributes:
        link: the mesh's name for it; None while it is down.
        name: its fingerprint.
        crossing: what goes to it and comes from it.
        ferry: what waits for it.
        incoming: what it may bring.
        heard_at: when it said anything.
        hello_at: when to say hello next.
        answered_at: when a hello of it was answered.
        failures: posts in a row that failed.
        not_before: when it may be tried again.
        shunned_until: until when it is left alone.
        posting: whether a hello is on the way.
    """

    name: str
    crossing: Crossing
    ferry: Ferry
    incoming: Bucket
    hello_at: float
    link: Link | None = None
    heard_at: float = -inf
    answered_at: float = -inf
    failures: int = 0
    not_before: float = -inf
    shunned_until: float = -inf
    posting: bool = False


class Bridging:
    """All other bridges of one machine.

    Attributes:
        counts: what did not cross, and why; what did; what others sent that was refused.
    """

    __slots__ = (
        "_actions",
        "_by_link",
        "_links",
        "_numbers",
        "_partners",
        "_policy",
        "_posts",
        "_rng",
        "_wake",
        "counts",
    )

    def __init__(self, rng: Random, policy: BridgePolicy | None = None) -> None:
        """Know nobody yet; :class:`Partners` says who there is."""
        self._policy: Final = policy or BridgePolicy()
        self._rng: Final = rng
        self._partners: Final[dict[str, _Partner]] = {}
        self._by_link: Final[dict[Link, _Partner]] = {}
        self._posts: Final[dict[int, _Partner]] = {}
        self._links: Final = count(FIRST_ISLAND_LINK)
        self._numbers: Final = count(1)
        self._actions: list[BridgeAction] = []
        self._wake: float | None = None
        self.counts: Final[Counter[str]] = Counter()

    @property
    def joined(self) -> frozenset[str]:
        """The bridges that there is a link to."""
        return frozenset(one.name for one in self._by_link.values())

    def owns(self, link: Link) -> bool:
        """Whether a link leads to another bridge."""
        return link in self._by_link

    def handle(self, event: BridgeEvent, now: float) -> list[BridgeAction]:
        """What is to be done after an event.

        Args:
            event: what happened.
            now: seconds since 1970.
        """
        match event:
            case SendFrame():
                self._leaves(event, now)
            case Came():
                self._came(event, now)
            case Posted():
                self._posted(event, now)
            case Partners(fingerprints):
                self._choose(fingerprints, now)
            case Part(link, leave_s):
                self._part(link, leave_s, now)
            case Wake():
                self._wake = None
        for partner in self._partners.values():
            self._due(partner, now)
        wake = min((self._next(partner) for partner in self._partners.values()), default=inf)
        if wake not in (self._wake, inf):
            self._wake = wake
            self._actions.append(WakeAt(wake))
        actions, self._actions = self._actions, []
        return actions

    def _choose(self, fingerprints: Iterable[str], now: float) -> None:
        wanted = frozenset(fingerprints)
        for name in self._partners.keys() - wanted:
            partner = self._partners.pop(name)
            if partner.link is not None:
                self._post(partner, Bundle(Saying.BYE))
                self._down(partner)
        for name in sorted(wanted - self._partners.keys()):
            policy = self._policy
            self._partners[name] = _Partner(
                name,
                Crossing(policy.crossing),
                Ferry(policy.ferry, now),
                Bucket(*policy.incoming, debt=policy.incoming[1]),
                hello_at=now,
            )

    def _part(self, link: Link, leave_s: float, now: float) -> None:
        partner = self._by_link.get(link)
        if partner is not None:
            self._post(partner, Bundle(Saying.BYE))
            self._down(partner)
            partner.heard_at = -inf
            partner.shunned_until = partner.not_before = now + leave_s

    def _leaves(self, frame: SendFrame, now: float) -> None:
        """The mesh gives a packet to a far link."""
        partner = self._by_link.get(frame.link)
        ok = partner is not None
        if partner is not None:
            packet = decode(frame.data)  # the mesh's own, so it can be read
            kept = partner.crossing.leaves(packet, now)
            if kept is not None:
                self.counts[f"kept_{kept.value}"] += 1
            else:
                ok = partner.ferry.put(packet, now)
                self.counts["waiting" if ok else "full"] += 1
        self._actions.append(FrameSent(frame.link, frame.token, ok))

    def _came(self, came: Came, now: float) -> None:
        partner = self._partners.get(came.partner)
        if partner is None:
            self.counts["refused_unlisted"] += 1
            return
        if now < partner.shunned_until:
            self.counts["refused_shunned"] += 1
            return
        try:
            bundle = Bundle.decode(came.body)
        except BundleInvalid:
            self.counts["refused_malformed"] += 1
            return
        partner.heard_at = now
        if bundle.saying is Saying.BYE:
            self._down(partner)
            partner.heard_at = -inf
            return
        if partner.failures:
            partner.failures, partner.not_before = 0, now  # it is there again
        was_up = partner.link is not None
        if bundle.saying is not Saying.HELLO and not was_up:
            self._up(partner)
        answers = now - partner.answered_at >= self._policy.answer_s
        if (bundle.saying is Saying.HELLO or not was_up) and answers:
            partner.answered_at = now
            partner.hello_at = now
        for data in bundle.packets:
            self._arrives(partner, data, now)

    def _arrives(self, partner: _Partner, data: bytes, now: float) -> None:
        if not partner.incoming.take(len(data) + EACH, now):
            self.counts["refused_too_many"] += 1
            return
        try:
            packet = decode(data)
        except Malformed:
            # The mesh would cut the link for it; a bridge only pays, for it is there again at once.
            partner.incoming.charge(LONGEST_PACKET + EACH)
            self.counts["refused_malformed"] += 1
            return
        kept = partner.crossing.arrives(packet, now)
        if kept is not None:
            self.counts[f"refused_{kept.value}"] += 1
        elif partner.link is not None:
            self.counts["came"] += 1
            self._actions.append(FrameReceived(partner.link, data))

    def _posted(self, posted: Posted, now: float) -> None:
        partner = self._posts.pop(posted.number, None)
        if partner is None:
            return
        was_hello = not partner.ferry.settled(posted.number, posted.ok)
        if was_hello:
            partner.posting = False
        if posted.ok:
            partner.failures = 0
            return
        self.counts["not_posted"] += 1
        pause = self._policy.failures.after(partner.failures, self._rng.random)
        partner.failures += 1
        partner.not_before = max(partner.not_before, now + pause)
        if was_hello:
            partner.hello_at = now

    def _due(self, partner: _Partner, now: float) -> None:
        policy = self._policy
        if partner.link is not None and partner.heard_at + policy.silent_s <= now:
            self.counts["silent"] += 1
            self._down(partner)
        self.counts["expired"] += partner.ferry.expire(now)
        if now < partner.not_before:
            return
        if now >= partner.hello_at and not partner.posting:
            partner.hello_at = now + policy.hello_s * self._rng.uniform(*HELLO_JITTER)
            heard = now - partner.heard_at < policy.silent_s
            partner.posting = True
            self._post(partner, Bundle(Saying.HEARD if heard else Saying.HELLO))
        while partner.link is not None and partner.ferry.ready(now):
            number = next(self._numbers)
            packets = partner.ferry.take(number, now)
            self._post(partner, Bundle(Saying.PACKETS, packets), number)
            self.counts["went"] += len(packets)

    def _next(self, partner: _Partner) -> float:
        times = [inf] if partner.posting else [partner.hello_at]
        expires = partner.ferry.expires_at
        if partner.link is not None:
            times.append(partner.ferry.ready_at)
        at = max(min(times), partner.not_before)
        if partner.link is not None:
            at = min(at, partner.heard_at + self._policy.silent_s)
        return at if expires is None else min(at, expires)

    def _post(self, partner: _Partner, bundle: Bundle, number: int | None = None) -> None:
        number = next(self._numbers) if number is None else number
        self._posts[number] = partner
        self._actions.append(Post(number, partner.name, bundle.encode()))

    def _up(self, partner: _Partner) -> None:
        partner.link = next(self._links)
        self._by_link[partner.link] = partner
        self._actions.append(LinkUp(partner.link, FRAME_BYTES, initiated=True))

    def _down(self, partner: _Partner) -> None:
        if partner.link is not None:
            del self._by_link[partner.link]
            self._actions.append(LinkDown(partner.link))
            partner.link = None
        partner.crossing.forget()
