"""Fragments: a packet too long for one frame, in pieces that are packets themselves.

The payload of a fragment:

=======  ======  ==================================================================================
offset   bytes   field
=======  ======  ==================================================================================
0        8       id of the set, random
8        2       index of this piece, from 0
10       2       number of pieces, 1 to 10,000
12       1       kind of the packet in pieces
13       n       piece of that packet's bytes, 469 at most in frames of 512; ours have 467
=======  ======  ==================================================================================

A fragment has the sender, recipient, time, TTL and route of its packet, and no signature: the
packet has one. Android's app takes 256 pieces in a set.

Pieces are unsigned and may come over several links, so what is put together is bounded by link:
each pays for the sets that it began, and where it has no room left, one of its own goes.

Source: ``BLEFragmentAssemblyBuffer.swift``, ``BLEFragmentHandler.swift`` and
``BLEOutboundFragmentPlanner.swift`` of the app.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import msgspec

from fog_compute.errors import ConfigError
from fog_compute.p2p.bitchat.wire.errors import Malformed, Reason
from fog_compute.p2p.bitchat.wire.kinds import LARGE, Kind
from fog_compute.p2p.bitchat.wire.packet import Packet, decode, packet

__all__ = [
    "FRAME_BYTES",
    "MANY_TAKE",
    "MAX_PIECES",
    "PIECES",
    "SAFE_FRAME_BYTES",
    "SET_ID_BYTES",
    "Assembly",
    "AssemblyPolicy",
    "Fragment",
    "cut",
]

SET_ID_BYTES: Final = 8
MAX_PIECES: Final = 10_000
PIECES: Final = 256
"""The pieces of a set that every program takes."""
FRAME_BYTES: Final = 512
"""The longest attribute of GATT, and so the longest frame that goes in one piece."""
SAFE_FRAME_BYTES: Final = 510
"""The longest frame of ours: BlueZ 5.63 to 5.68 takes a write of two bytes more, and drops it."""
MANY_TAKE: Final = PIECES * (SAFE_FRAME_BYTES - 43)
"""Bytes of the longest packet that every program takes in pieces of ours, 467 bytes each."""
HEAD: Final = SET_ID_BYTES + 5
SMALLEST: Final = 64
OVERHEAD: Final = 1_024
"""Bytes of a packet beside its payload, at most what a route takes and some."""
COST: Final = 128
"""What a piece costs in memory beside its bytes, so that tiny ones are not for nothing."""

SetKey: TypeAlias = tuple[bytes, bytes]


class Fragment(msgspec.Struct, frozen=True):
    """The payload of a fragment.

    Attributes:
        set_id: 8 random bytes.
        index: which piece it is, from 0.
        total: of how many.
        kind: of the packet in pieces.
        piece: its bytes.
    """

    set_id: bytes
    index: int
    total: int
    kind: int
    piece: bytes

    def encode(self) -> bytes:
        """The payload of a packet of the kind ``FRAGMENT``."""
        numbers = self.index.to_bytes(2, "big") + self.total.to_bytes(2, "big")
        return b"%b%b%c%b" % (self.set_id, numbers, self.kind, self.piece)

    @classmethod
    def decode(cls, payload: bytes) -> Fragment:
        """Read a fragment.

        Raises:
            Malformed: it is none, is empty, or counts wrong.
        """
        if len(payload) <= HEAD:
            raise Malformed(Reason.TRUNCATED, "a fragment has no piece of anything")
        index = int.from_bytes(payload[8:10], "big")
        total = int.from_bytes(payload[10:12], "big")
        if total > MAX_PIECES:
            raise Malformed(Reason.TOO_LONG, f"a packet in pieces has up to {MAX_PIECES}")
        if index >= total:
            raise Malformed(Reason.FIELD, "a fragment counts behind its last")
        if payload[12] == Kind.FRAGMENT:
            raise Malformed(Reason.KIND, "a fragment is a piece of a fragment")
        return cls(payload[:SET_ID_BYTES], index, total, payload[12], payload[HEAD:])


def cut(
    whole: Packet, set_id: bytes, *, frame: int = SAFE_FRAME_BYTES, pieces: int = PIECES
) -> list[Packet]:
    """The fragments of a packet, in their order.

    Args:
        whole: the packet, signed if it is to be.
        set_id: 8 random bytes.
        frame: bytes that a frame may have; pieces have 64 at least.
        pieces: how many its recipients take, 10,000 at most.

    Raises:
        Malformed: it takes more.
    """
    version = 2 if whole.route else 1
    around = 14 + 8 + 8 + HEAD if version == 1 else 16 + 8 + 8 + 1 + 8 * len(whole.route) + HEAD
    size = max(SMALLEST, frame - around)
    wire = whole.on_air
    total = -(-len(wire) // size)
    if total > min(pieces, MAX_PIECES):
        raise Malformed(Reason.TOO_LONG, f"a packet of {len(wire)} bytes takes {total} fragments")
    return [
        packet(
            Kind.FRAGMENT,
            whole.sender,
            whole.timestamp,
            Fragment(
                set_id, index, total, whole.kind, wire[index * size : (index + 1) * size]
            ).encode(),
            ttl=whole.ttl,
            recipient=whole.recipient,
            route=whole.route,
            version=version,
            sync_answer=whole.sync_answer,
        )
        for index in range(total)
    ]


@dataclass(frozen=True, slots=True)
class AssemblyPolicy:
    """The bounds of what is put together.

    Attributes:
        life_s: seconds without a new piece after which a set is forgotten; the app's bound from
            the first piece on would shut out what takes longer to send.
        longest_s: seconds from the first piece to the last.
        sets: sets in all.
        link_sets: sets that one link may have begun.
        link_bytes: bytes of those, with what keeping them costs.
        set_bytes: bytes of one set, likewise; the largest file fits. An eighth for what is no file.
        sender_sets: sets of one sender that one link may have begun.
        stalled_s: seconds without a new piece after which a set is asked for.
        done: whole sets that are remembered, so that a late piece begins none anew.
    """

    life_s: float = 30.0
    longest_s: float = 180.0
    sets: int = 128
    link_sets: int = 32
    link_bytes: int = 4 << 20
    set_bytes: int = 2 << 20
    sender_sets: int = 8
    stalled_s: float = 5.0
    done: int = 1_024

    def __post_init__(self) -> None:
        if self.set_bytes > self.link_bytes:
            raise ConfigError("the sets of one link have room for one at least")


@dataclass(slots=True)
class _Set:
    """What is there of one packet."""

    link: int
    total: int
    kind: int
    directed: bool
    began: float
    grown: float
    asked: float
    size: int = 0
    pieces: dict[int, bytes] = field(default_factory=dict)
    links: set[int] = field(default_factory=set)


class Assembly:
    """Puts fragments together, for all links and senders.

    Attributes:
        dropped: sets that were given up: ``expired``, ``crowded``, ``large`` or ``spoiled``.
    """

    __slots__ = ("_charged", "_done", "_policy", "_sets", "dropped")

    def __init__(self, policy: AssemblyPolicy | None = None) -> None:
        self._policy = policy or AssemblyPolicy()
        # In the order in which they grew, so what stands still is in front.
        self._sets: OrderedDict[SetKey, _Set] = OrderedDict()
        self._charged: Counter[int] = Counter()
        self._done: OrderedDict[SetKey, float] = OrderedDict()
        self.dropped: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._sets)

    @property
    def size(self) -> int:
        """Bytes that are kept, with what keeping them costs."""
        return self._charged.total()

    def take(self, carrier: Packet, link: int, now: float) -> Packet | None:
        """Take a fragment; the packet if it is whole now.

        It goes no further, for its fragments do; whether it is signed, the caller looks.

        Args:
            carrier: a packet of the kind ``FRAGMENT``.
            link: over which it came; it pays for the set if it begins one.
            now: seconds.

        Raises:
            Malformed: it is no fragment, does not fit its set, or a set that came over this link
                alone is no packet of its sender. The link is at fault.
        """
        self._expire(now)
        part = Fragment.decode(carrier.payload)
        key = (carrier.sender, part.set_id)
        if key in self._done:
            return None
        found = self._sets.get(key)
        if found is None:
            found = self._begin(key, carrier, part, link, now)
        elif (part.total, part.kind) != (found.total, found.kind):
            raise Malformed(Reason.FIELD, "a fragment does not fit the others of its set")
        if now - found.began > self._policy.longest_s:
            self._drop(key, "expired")
            return None
        if part.index in found.pieces:
            return None  # the first one counts: who comes later may not replace it
        cost = len(part.piece) + COST
        room = self._policy.set_bytes // (1 if found.kind in LARGE else 8)
        if found.size + cost > room:
            self._drop(key, "large")
            raise Malformed(Reason.TOO_LONG, "a packet in pieces is larger than any of its kind")
        found.pieces[part.index] = part.piece
        found.links.add(link)
        found.grown = now
        self._sets.move_to_end(key)
        found.size += cost
        self._charged[found.link] += cost
        if len(found.pieces) == found.total:
            return self._finish(key, found, now)
        while self._charged[found.link] > self._policy.link_bytes:
            self._drop(self._oldest(found.link, but=key), "crowded")
        return None

    def stalled(self, now: float, most: int = 60) -> list[bytes]:
        """Ids of sets for everybody that have not grown for a while, each once in that while.

        Sets for one recipient are not among them: nobody keeps those for gossip.
        """
        self._expire(now)
        pause = self._policy.stalled_s
        found = [
            (key[1], one)
            for key, one in self._sets.items()
            if not one.directed and now - max(one.grown, one.asked) >= pause
        ]
        found.sort(key=lambda pair: pair[1].grown)
        for _, one in found[:most]:
            one.asked = now
        return [set_id for set_id, _ in found[:most]]

    @property
    def next_due(self) -> float | None:
        """When a set is too old without anything else happening."""
        first = next(iter(self._sets.values()), None)
        return None if first is None else first.grown + self._policy.life_s

    def _begin(self, key: SetKey, carrier: Packet, part: Fragment, link: int, now: float) -> _Set:
        mine = [one for one, held in self._sets.items() if held.link == link]
        same = [one for one in mine if one[0] == carrier.sender]
        if len(same) >= self._policy.sender_sets:
            self._drop(same[0], "crowded")
        elif len(mine) >= self._policy.link_sets:
            self._drop(mine[0], "crowded")
        elif len(self._sets) >= self._policy.sets:
            # The link that began most sets gives one.
            most, _ = Counter(held.link for held in self._sets.values()).most_common(1)[0]
            self._drop(self._oldest(most), "crowded")
        begun = _Set(link, part.total, part.kind, carrier.directed, now, now, now)
        self._sets[key] = begun
        return begun

    def _finish(self, key: SetKey, found: _Set, now: float) -> Packet | None:
        """The packet of a set that is whole."""
        try:
            whole = _whole(found, key[0])
        except Malformed:
            self._drop(key, "spoiled")
            if len(found.links) == 1:
                raise
            return None  # anybody may have spoiled it
        self._forget(key)
        self._done[key] = now
        if len(self._done) > self._policy.done:
            self._done.popitem(last=False)
        return whole

    def _oldest(self, link: int, but: SetKey | None = None) -> SetKey:
        """The set of a link that has not grown for longest, other than one."""
        return next(k for k, one in self._sets.items() if one.link == link and k != but)

    def _expire(self, now: float) -> None:
        oldest = now - self._policy.life_s
        while self._sets:
            key, first = next(iter(self._sets.items()))
            if first.grown > oldest:
                break
            self._drop(key, "expired")
        while self._done and next(iter(self._done.values())) <= oldest:
            self._done.popitem(last=False)

    def _drop(self, key: SetKey, why: str) -> None:
        self._forget(key)
        self.dropped[why] += 1

    def _forget(self, key: SetKey) -> None:
        gone = self._sets.pop(key)
        self._charged[gone.link] -= gone.size
        if not self._charged[gone.link]:
            del self._charged[gone.link]


def _whole(found: _Set, sender: bytes) -> Packet:
    """The packet that a whole set is, if it is what its fragments say."""
    whole = decode(b"".join(found.pieces[index] for index in range(found.total)))
    if whole.kind != found.kind:
        raise Malformed(Reason.KIND, "fragments make a packet of another kind than they say")
    if whole.sender != sender:
        raise Malformed(Reason.FIELD, "fragments make a packet of another sender")
    return whole.with_ttl(0)
