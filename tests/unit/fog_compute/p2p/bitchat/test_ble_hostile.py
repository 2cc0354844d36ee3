"""The whole transport, and what strangers send it: cut short, out of time, in another's name."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from random import Random

import msgspec
import pytest

from fog_compute.p2p.bitchat.ble_groups import GroupTalk
from fog_compute.p2p.bitchat.ble_messages import write_private
from fog_compute.p2p.bitchat.ble_peers import NearPeers
from fog_compute.p2p.bitchat.ble_told import Told
from fog_compute.p2p.bitchat.mesh.news import HeardPrivately, MailHeard
from fog_compute.p2p.bitchat.wire.kinds import Kind
from fog_compute.p2p.bitchat.wire.packet import Packet
from fog_compute.p2p.bitchat.wire.private import PrivateKind
from fog_compute.p2p.core.contacts import PeerBook
from fog_compute.p2p.core.groups import Groups
from fog_compute.p2p.core.messages import DecentralizedMessage, MessageKind
from fog_compute.p2p.core.transport import Arrival
from tests.unit.fog_compute.p2p.bitchat.neighbours import NOW, Person
from tests.unit.fog_compute.p2p.bitchat.test_engine_mutations import ANN, payloads
from tests.unit.fog_compute.p2p.bitchat.wired import Wired, wired

TO_ME = {Kind.COURIER_ENVELOPE, Kind.NOISE_HANDSHAKE, Kind.NOISE_ENCRYPTED, Kind.PING, Kind.PONG}
LINKS = itertools.count(100)


def over_fresh_links(me: Wired, each: int = 40) -> Iterator[int]:
    """Links without end, each of which brings no more than a link may."""
    while True:
        link = next(LINKS)
        me.up(link)
        yield from itertools.repeat(link, each)
        me.down(link)


def packets(me: Wired) -> list[Packet]:
    """One packet of each kind, and of each payload."""
    to_me, numbers = me.me.peer_id, itertools.count()
    return [
        ANN.make(
            kind,
            payload,
            me.now + next(numbers) / 1000,
            recipient=to_me if kind in TO_ME else None,
            version=2 if kind == Kind.FILE_TRANSFER else 1,
        )
        for kind, several in payloads(Random(1), me.now, me.me).items()
        for payload in several
    ]


async def still_hears(me: Wired, link: int) -> bool:
    """Whether somebody who says something is heard."""
    bob = Person(8)
    me.up(link)
    me.get(link, bob.announce(me.now), bob.text("still there?", me.now))
    return [one.text for one in await me.heard()][-1:] == ["still there?"]


@pytest.mark.asyncio
async def test_no_prefix_of_a_packet_says_anything() -> None:
    """INV-BITCHAT-03, INV-BITCHAT-04."""
    async with wired(1) as me:
        me.get(1, ANN.announce(me.now))
        await me.told()
        links = over_fresh_links(me, 10)
        for packet in packets(me):
            for end in range(len(packet.wire)):
                me.raw(next(links), packet.wire[:end])
        assert await me.heard() == []
        assert me.transport.mesh is not None
        counts = me.transport.mesh.counts
        assert counts["malformed_truncated"] > 1_000
        assert await still_hears(me, 2)


@pytest.mark.asyncio
async def test_signed_packets_whose_payload_is_cut_end_nothing() -> None:
    """INV-BITCHAT-03, INV-BITCHAT-04."""
    async with wired(1) as me:
        me.get(1, ANN.announce(me.now - 1))
        await me.told()
        links = over_fresh_links(me)
        for number, packet in enumerate(packets(me)):
            size = len(packet.payload)
            for end in {*range(min(size, 40)), *range(40, size, 9), max(size - 1, 0)}:
                cut = ANN.make(
                    packet.kind,
                    packet.payload[:end],
                    me.now + (number * 1_000 + end) / 1_000_000,
                    recipient=packet.recipient,
                    version=packet.version,
                    signed=packet.kind not in {Kind.FRAGMENT, Kind.PING, Kind.PONG},
                )
                me.get(next(links), cut)
        texts = {one.text for one in await me.heard() if one.kind is MessageKind.TEXT}
        # A prefix of a text is a text; of nothing else there is one.
        assert texts <= {"hello"[:end] for end in range(6)} | {"zwölf"[:end] for end in range(6)}
        assert await still_hears(me, 2)


def private_payloads() -> list[tuple[int, bytes]]:
    """What a session may bring, whole."""
    at = int(NOW * 1000)
    message = DecentralizedMessage(
        body=b"text", id="1" * 32, created_ms=at, expires_ms=at + 1_000, receiver_id="a" * 64
    )
    file = msgspec.structs.replace(message, kind=MessageKind.FILE, name="a.txt")
    made = [*write_private(message), *write_private(message, dated=True), *write_private(file)]
    return [(one[0], one[1:]) for one in made] + [(PrivateKind.DELIVERED, b"\xc3\xa4id")]


def test_no_prefix_of_what_a_session_brings_ends_anything() -> None:
    """INV-BITCHAT-04."""
    keys, me = Person(5).keys, Person(99).keys
    dropped: Counter[str] = Counter()
    near = NearPeers(PeerBook(own=me.fingerprint), print, lambda: 0, dropped)
    talk = GroupTalk(me, "me", Groups(me.fingerprint), near)
    told = Told(me.fingerprint, near, talk, dropped)
    whole = private_payloads()
    for kind, body in whole:
        for end in range(len(body) + 1):
            for other in (kind, 0x00, 0x06, 0x12, 0xFF):
                told.hear(
                    HeardPrivately(b"", keys.noise_public, other, body[:end], 5), int(NOW * 1000)
                )
                told.hear(
                    MailHeard(keys.noise_public, other, body[:end], b"name of envelope"),
                    int(NOW * 1000),
                )
    arrivals = []
    while (event := told.take()) is not None:
        assert isinstance(event, Arrival)
        event.message.check()
        arrivals.append(event.message)
    # By session and by mail: a receipt for "ä", "äi" and "äid", each of the others, and the two
    # files without the field behind them, which may be absent.
    assert len(arrivals) == 2 * (len(whole) - 1 + 3 + 2)
    assert set(dropped) == {"truncated", "field", "missing", "text", "kind"}


@pytest.mark.asyncio
async def test_announces_that_are_forged_or_replayed_bring_nobody_near() -> None:
    """INV-BITCHAT-14, INV-BITCHAT-54."""
    eve = Person(7)
    async with wired(1, 2) as me:
        first = ANN.announce(me.now)
        me.get(1, first)
        assert me.transport.mesh is not None
        known = me.transport.mesh.peers.get(ANN.peer_id)
        assert known is not None
        # In Ann's name by another key, by Ann's id with Eve's keys, with a bit changed.
        claimed = eve.make(Kind.ANNOUNCE, first.payload, me.now + 1)
        renamed = eve.announce(me.now + 1)
        turned = bytearray(first.wire)
        turned[-1] ^= 1
        me.get(2, msgspec.structs.replace(claimed, sender=ANN.peer_id))
        me.raw(2, renamed.wire.replace(eve.peer_id, ANN.peer_id))
        me.raw(2, bytes(turned))
        me.raw(2, first.wire)  # repeated over Eve's link
        assert (known.signing_key, known.announce.nickname) == (ANN.keys.signing_public, "ann")
        me.get(1, ANN.make(Kind.LEAVE, b"", me.now + 2))
        assert not known.near
        await me.wait(5.0)
        me.raw(2, first.wire)
        me.raw(2, first.with_ttl(3).on_air)
        assert not known.near
        assert me.transport.mesh.peers.get(eve.peer_id) is None


@pytest.mark.asyncio
@pytest.mark.parametrize("off_s", [-3_600.0, -130.0, 130.0, 86_400.0])
async def test_who_is_minutes_out_of_time_is_refused_and_comes_back_with_the_time(
    off_s: float,
) -> None:
    """INV-BITCHAT-55."""
    async with wired(1) as me:
        me.get(1, ANN.announce(me.now + off_s), ANN.text("when?", me.now + off_s))
        assert await me.heard() == []
        me.get(1, ANN.announce(me.now), ANN.text("now", me.now))
        assert [one.text for one in await me.heard()] == ["now"]
