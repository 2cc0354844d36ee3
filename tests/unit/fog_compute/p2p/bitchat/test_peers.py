"""The table of peers: bounded, and nobody takes another's place in it."""

from __future__ import annotations

from random import Random

from fog_compute.p2p.bitchat.mesh.peers import (
    AnnounceTimes,
    AnnounceVerdict,
    PeersPolicy,
    PeerTable,
)
from fog_compute.p2p.bitchat.wire.announce import Announce
from fog_compute.p2p.bitchat.wire.kinds import Kind
from fog_compute.p2p.bitchat.wire.packet import Packet, packet
from tests.unit.fog_compute.p2p.bitchat.neighbours import NOW, Person

ANN, BEN = Person(1), Person(2)


def announced(peer_id: bytes, stamp: int) -> Packet:
    return packet(Kind.ANNOUNCE, peer_id, stamp, b"")


def said(noise_key: bytes, signing_key: bytes = b"s" * 32) -> Announce:
    return Announce("somebody", noise_key, signing_key)


def test_two_noise_keys_whose_hashes_begin_alike_are_not_one_peer() -> None:
    """INV-BITCHAT-54."""
    table = PeerTable(PeersPolicy())
    first, second = said(b"1" * 32), said(b"2" * 32)
    assert table.take(announced(b"sameid!!", 1), first, 7, NOW, True) is AnnounceVerdict.NEW
    assert (
        table.take(announced(b"sameid!!", 2), second, 7, NOW, True) is AnnounceVerdict.KEY_CHANGED
    )
    peer = table.get(b"sameid!!")
    assert peer is not None
    assert peer.noise_key == b"1" * 32


def test_flood_of_names_forgets_those_without_links_first() -> None:
    table = PeerTable(PeersPolicy(most=20))
    friend = announced(b"friend!!", 1)
    table.take(friend, said(b"f" * 32), 7, NOW, True)
    assert table.bind(friend, 7)
    for number in range(90):
        peer_id = number.to_bytes(8)
        table.take(announced(peer_id, 1), said(peer_id * 4), 9, NOW + number, True)
    assert len(table) == 20
    assert table.get(b"friend!!") is not None
    assert table.links_to(b"friend!!") == {7}
    assert table.get((89).to_bytes(8)) is not None
    assert len(table.gone(NOW + 500)) == 20


def test_flood_of_names_over_one_link_pushes_nobody_out_who_came_over_another() -> None:
    table = PeerTable(PeersPolicy(most=20))
    early, late = b"early!!!", b"late!!!!"
    for stamp in (1, 2):
        table.take(announced(early, stamp), said(b"e" * 32), 9, NOW, True)
    for number in range(90):
        peer_id = number.to_bytes(8)
        table.take(announced(peer_id, 1), said(peer_id * 4), 9, NOW + 1 + number, True)
        if number == 45:
            table.take(announced(late, 1), said(b"l" * 32), 8, NOW + 46.5, True)
    assert len(table) == 20
    assert table.get(early) is not None  # it was there before
    assert table.get(late) is not None


def test_newcomer_behind_a_link_that_brings_many_names_has_time_to_be_heard_again() -> None:
    table = PeerTable(PeersPolicy(most=20))
    new = b"newcomer"

    def names(first: int) -> None:
        for number in range(first, first + 15):
            peer_id = number.to_bytes(8)
            table.take(announced(peer_id, 1), said(peer_id * 4), 9, NOW + number / 10, True)

    names(0)
    names(15)
    table.take(announced(new, 1), said(b"n" * 32), 9, NOW + 3, True)
    names(30)
    assert table.get(new) is not None
    table.take(announced(new, 2), said(b"n" * 32), 9, NOW + 4.5, True)
    names(45)
    names(60)
    assert table.get(new) is not None
    assert len(table) == 20


def test_flood_of_names_pushes_nobody_out_whom_the_owner_knows() -> None:
    friend = b"friend!!"
    table = PeerTable(PeersPolicy(most=20), lambda one: b"s" * 32 if one == friend else None)
    table.take(announced(friend, 1), said(b"f" * 32), 9, NOW, True)
    for number in range(90):
        peer_id = number.to_bytes(8)
        for stamp in (1, 2):
            table.take(announced(peer_id, stamp), said(peer_id * 4), 9, NOW + 1 + number, True)
    assert table.get(friend) is not None


def test_link_of_a_peer_that_is_gone_may_become_anothers() -> None:
    table = PeerTable(PeersPolicy(reachable_s=30))
    first, second = ANN.announce(NOW), BEN.announce(NOW + 40)
    for one, who in ((first, ANN), (second, BEN)):
        announce = said(who.keys.noise_public, who.keys.signing_public)
        table.take(one, announce, 1, one.timestamp / 1000, True)
    assert table.bind(first, 1)
    assert not table.bind(ANN.announce(NOW - 5), 1)
    assert not table.bind(second, 1)
    assert table.gone(NOW + 35) == [ANN.peer_id]
    assert table.bind(second, 1)
    assert table.at(1) == BEN.peer_id
    assert table.links_to(ANN.peer_id) == frozenset()


def test_last_announce_serves_a_newcomer_while_it_is_young() -> None:
    times = AnnounceTimes(PeersPolicy(again_s=3.0, connected_s=(11.0, 13.0)), Random(1))
    assert not times.again(NOW)
    assert times.due(NOW, 1)
    assert times.again(NOW + 2.5)
    assert not times.again(NOW + 3.5)
    assert not times.due(NOW + 10.5, 1)
    assert times.due(NOW + 13.5, 1)
    times.soon(NOW + 14)
    assert times.due(NOW + 14, 1)
