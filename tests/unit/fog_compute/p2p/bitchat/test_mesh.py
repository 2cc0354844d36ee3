"""One engine and what strangers send it: each packet is taken, passed on, or counted as refused."""

from __future__ import annotations

import zlib
from random import Random

import msgspec
import pytest

from fog_compute.p2p.bitchat.events import Disconnect, FrameReceived, LinkDown, LinkUp
from fog_compute.p2p.bitchat.mesh.engine import Mesh, MeshPolicy
from fog_compute.p2p.bitchat.mesh.gossip import Gossip, GossipPolicy
from fog_compute.p2p.bitchat.mesh.guard import GuardPolicy
from fog_compute.p2p.bitchat.mesh.news import (
    Leave,
    PeerAway,
    PeerNear,
    Rename,
    SayAll,
    Sent,
    SentState,
    TextHeard,
    Trace,
    Traced,
)
from fog_compute.p2p.bitchat.mesh.public import MAX_PUBLIC_BYTES, Parked
from fog_compute.p2p.bitchat.wire.announce import Announce
from fog_compute.p2p.bitchat.wire.fragments import cut
from fog_compute.p2p.bitchat.wire.gcs import build
from fog_compute.p2p.bitchat.wire.kinds import Kind
from fog_compute.p2p.bitchat.wire.packet import decode, packet
from fog_compute.p2p.bitchat.wire.ping import Ping
from fog_compute.p2p.bitchat.wire.signing import sign, verify
from fog_compute.p2p.bitchat.wire.sync import SyncRequest, packet_id
from fog_compute.p2p.core.identity import fingerprint_of
from fog_compute.p2p.core.messages import DecentralizedMessage, public_id
from tests.unit.fog_compute.p2p.bitchat.neighbours import NOW, Person, Tried
from tests.unit.fog_compute.p2p.bitchat.packets import text as long_text

ANN, BEN, EVE = Person(1), Person(2), Person(3)


def known(*links: int) -> Tried:
    """An engine with a neighbour, Ann, on the first link."""
    tried = Tried(*links)
    tried.get(links[0], ANN.announce(NOW))
    tried.wait(0.3)
    tried.take()
    return tried


def texts(news: list[object]) -> list[str]:
    return [one.text for one in news if isinstance(one, TextHeard)]


def test_node_says_who_it_is_to_whoever_comes() -> None:
    tried = Tried(1)
    (link, announce), *_ = tried.take(Kind.ANNOUNCE)
    assert link == 1
    assert announce.ttl == 7
    said = Announce.decode(announce.payload)
    assert (said.nickname, said.neighbours) == ("me", ())
    assert verify(announce, said.signing_key)
    tried.do(LinkUp(2, 512, False))
    assert [link for link, _ in tried.take(Kind.ANNOUNCE)] == [2]


def test_announces_are_frequent_alone_and_rare_among_others() -> None:
    alone = Tried()
    alone.wait(40.0)
    lonely = Tried(1)
    lonely.take()
    lonely.wait(60.0)
    assert 2 <= len(lonely.take(Kind.ANNOUNCE)) <= 4


def test_new_nickname_is_told_at_once() -> None:
    tried = known(1)
    tried.do(Rename("other"))
    ((_, announce),) = tried.take(Kind.ANNOUNCE)
    said = Announce.decode(announce.payload)
    assert said.nickname == "other"
    assert said.neighbours == (ANN.peer_id,)


def test_announced_peer_is_near_and_after_a_minute_of_silence_away() -> None:
    tried = Tried(1, 2)
    (near,) = tried.get(1, ANN.announce(NOW))
    assert near == PeerNear(ANN.peer_id, near.announce, 1, True)  # type: ignore[attr-defined]
    (far,) = tried.get(1, BEN.announce(NOW, ttl=4))
    assert isinstance(far, PeerNear)
    assert (far.hops, far.direct) == (4, False)
    tried.wait(45.0)
    tried.get(1, BEN.announce(tried.now, ttl=3))
    assert tried.wait(20.0) == [PeerAway(ANN.peer_id)]
    assert tried.wait(60.0) == [PeerAway(BEN.peer_id)]


def test_public_message_is_shown_once_and_passed_on_as_it_came() -> None:
    """INV-BITCHAT-53."""
    tried = known(1, 2, 3)
    said = ANN.text("hello " * 40, tried.now)  # long enough to be compressed
    assert texts(tried.get(1, said)) == ["hello " * 40]
    assert texts(tried.get(2, said.with_ttl(5))) == []
    tried.wait(0.2)
    ((link, passed),) = tried.take(Kind.MESSAGE)
    assert (link, passed.ttl) == (3, 6)
    assert passed.with_ttl(7).wire == said.wire
    assert tried.mesh.counts["duplicates"] == 1


def test_same_message_compressed_otherwise_is_the_same_message() -> None:
    tried = known(1, 2)
    text = "hello " * 40
    said = ANN.text(text, tried.now)
    other = ANN.text(text, tried.now, packed=False)
    assert said.wire != other.wire
    assert texts(tried.get(1, said, other)) == [text]


def test_message_of_somebody_unknown_waits_for_his_announce() -> None:
    tried = Tried(1, 2)
    tried.take()
    said = ANN.text("early", tried.now)
    assert tried.get(1, said) == []
    tried.wait(0.2)
    assert tried.take(Kind.MESSAGE) == []
    assert texts(tried.get(1, ANN.announce(tried.now))) == ["early"]
    tried.wait(0.2)
    assert [link for link, _ in tried.take(Kind.MESSAGE)] == [2]


@pytest.mark.parametrize("change", ["signature", "payload", "key"])
def test_forged_message_does_not_stand_in_the_way_of_the_real_one(
    change: str,
) -> None:
    tried = known(1, 2)
    real = ANN.text("real", tried.now)
    forged = {
        "signature": lambda: msgspec.structs.replace(
            real, wire=real.wire[:-1] + bytes([real.wire[-1] ^ 1])
        ),
        "payload": lambda: msgspec.structs.replace(
            real, wire=real.wire.replace(b"real", b"fake"), payload=b"fake"
        ),
        "key": lambda: sign(real, EVE.keys),
    }[change]()
    assert tried.get(2, forged) == []
    assert tried.dropped() == {"signature": 1}
    assert texts(tried.get(1, real)) == ["real"]
    tried.wait(0.2)
    assert len(tried.take(Kind.MESSAGE)) == 1


def test_announce_with_another_signing_key_is_refused() -> None:
    """INV-BITCHAT-54."""
    tried = known(1)
    payload = Announce("ann", ANN.keys.noise_public, EVE.keys.signing_public).encode()
    forged = sign(packet(Kind.ANNOUNCE, ANN.peer_id, int(tried.now * 1000), payload), EVE.keys)
    assert tried.get(1, forged) == []
    assert tried.dropped() == {"key-changed": 1}
    pinned = Tried(1, pinned=lambda _peer: EVE.keys.signing_public)
    assert pinned.get(1, ANN.announce(NOW)) == []
    assert pinned.dropped() == {"key-changed": 1}


def test_announce_of_another_name_than_its_key_is_refused() -> None:
    tried = Tried(1)
    payload = Announce("ann", ANN.keys.noise_public, EVE.keys.signing_public).encode()
    forged = sign(packet(Kind.ANNOUNCE, EVE.peer_id, int(NOW * 1000), payload), EVE.keys)
    assert tried.get(1, forged) == []
    assert tried.dropped() == {"content": 1}


def test_old_announce_brings_nobody_back_who_left() -> None:
    """INV-BITCHAT-54."""
    tried = Tried(1, 2)
    early, late = ANN.announce(NOW), ANN.announce(NOW + 1)
    tried.get(1, late)
    assert tried.get(1, early) == []
    assert tried.get(1, ANN.make(Kind.LEAVE, b"", NOW + 2)) == [PeerAway(ANN.peer_id)]
    assert tried.get(2, late.with_ttl(6), ANN.announce(NOW + 1.5)) == []
    assert tried.dropped() == {"old": 2}
    assert len(tried.get(2, ANN.announce(NOW + 3))) == 1


def test_leave_counts_only_if_its_peer_signed_it() -> None:
    tried = known(1)
    assert tried.get(1, sign(ANN.make(Kind.LEAVE, b"", NOW + 1), EVE.keys)) == []
    assert tried.get(1, BEN.make(Kind.LEAVE, b"", NOW + 1)) == []
    assert tried.get(1, ANN.make(Kind.LEAVE, b"", NOW - 1)) == []
    assert tried.dropped() == {"signature": 1, "unknown-sender": 1, "old": 1}
    tried.do(Leave())
    ((_, leave),) = tried.take(Kind.LEAVE)
    assert leave.signature is not None


@pytest.mark.parametrize(("seconds", "reason"), [(-130, "time"), (130, "time"), (-110, None)])
def test_message_of_another_time_is_refused(seconds: int, reason: str | None) -> None:
    """INV-BITCHAT-55."""
    tried = known(1)
    news = tried.get(1, ANN.text("when?", tried.now + seconds))
    assert texts(news) == ([] if reason else ["when?"])
    assert set(tried.dropped()) == ({reason} if reason else set())


def test_old_announce_tells_keys_and_makes_nobody_near() -> None:
    tried = Tried(1)
    assert not any(isinstance(one, PeerNear) for one in tried.get(1, ANN.announce(NOW - 800)))
    assert texts(tried.get(1, ANN.text("known", NOW))) == ["known"]
    assert tried.get(1, BEN.announce(NOW - 1000)) == []
    assert tried.dropped() == {"time": 1}


def test_packet_in_the_name_of_this_node_is_refused() -> None:
    tried = known(1, 2)
    me = tried.mesh.peer_id
    forged = packet(Kind.MESSAGE, me, int(NOW * 1000), b"I said this")
    assert tried.get(2, forged) == []
    tried.wait(0.3)
    assert tried.take(Kind.MESSAGE) == []
    assert tried.dropped() == {"own-name": 1}


def test_own_message_that_comes_back_is_a_duplicate() -> None:
    tried = known(1, 2)
    (sent,) = tried.do(SayAll("t", "mine"))
    assert isinstance(sent, Sent)
    assert (sent.token, sent.state, len(sent.message_id)) == ("t", SentState.ACCEPTED, 32)
    said = tried.take(Kind.MESSAGE)
    assert sorted(link for link, _ in said) == [1, 2]
    assert tried.get(2, said[0][1].with_ttl(6)) == []
    tried.wait(0.3)
    assert tried.take(Kind.MESSAGE) == []
    assert tried.dropped() == {}


def test_what_cannot_be_said_is_said_so() -> None:
    tried = Tried()
    assert tried.do(SayAll("a", "alone")) == [
        Sent("a", SentState.QUEUED, tried.news[-1].message_id)  # type: ignore[attr-defined]
    ]
    for text in ("", "x" * (MAX_PUBLIC_BYTES + 1)):
        (sent,) = tried.do(SayAll("b", text))
        assert isinstance(sent, Sent)
        assert sent.state is SentState.FAILED
        assert str(MAX_PUBLIC_BYTES) in sent.reason


def test_long_message_goes_in_pieces_and_comes_together() -> None:
    sender, receiver = known(1), Tried(5, person=98)
    text = str([Random(number).random() for number in range(200)])
    sender.do(SayAll("t", text))
    sender.wait(2.0)
    pieces = [one for _, one in sender.take(Kind.FRAGMENT)]
    assert len(pieces) > 3
    assert all(len(one.wire) <= 512 for one in pieces)
    own = next(one for _, one in Tried(1).sent if one.kind == Kind.ANNOUNCE)
    receiver.get(5, own)
    assert texts(receiver.get(5, *reversed(pieces))) == [text]
    assert texts(receiver.get(5, *pieces)) == []


@pytest.mark.parametrize("size", [430, 450, 480, 481, 482, 483, 497])
def test_frames_of_ours_have_no_length_that_some_radios_drop(size: int) -> None:
    """INV-BITCHAT-21: BlueZ 5.66 takes writes of 511 and 512 bytes, and drops them."""
    ann, bob = Person(1), Person(2)
    tried = Tried(1, 2)
    tried.get(1, ann.announce(NOW))
    tried.get(2, bob.announce(NOW))
    body = Random(size).randbytes(size - 16)
    made = ann.make(Kind.NOISE_ENCRYPTED, body, NOW, signed=False, recipient=bob.peer_id)
    tried.frames.clear()
    tried.get(1, made)
    tried.wait(1.0)
    text = "".join(map(chr, Random(size).choices(range(33, 127), k=size - 86)))
    tried.get(1, ann.text(text, NOW))
    tried.do(SayAll("t", text))
    tried.wait(2.0)
    assert max(tried.frames) in range(300, 511)
    through = [one for link, one in tried.take() if link == 2 and one.kind == made.kind]
    assert [one.wire[3:] for one in through] == [made.wire[3:]] * (len(made.wire) < 511)


def test_piece_of_the_longest_length_is_passed_on_as_it_came() -> None:
    ann, bob = Person(1), Person(2)
    tried = Tried(1, 2)
    tried.get(1, ann.announce(NOW))
    tried.get(2, bob.announce(NOW))
    whole = ann.make(Kind.NOISE_ENCRYPTED, bytes(1_000), NOW, signed=False, recipient=bob.peer_id)
    piece, *_ = cut(whole, b"8 random", frame=512)
    tried.frames.clear()
    tried.get(1, piece)
    tried.wait(1.0)
    assert 512 in tried.frames


def test_link_that_takes_little_gets_pieces_and_the_others_whole_packets() -> None:
    """INV-BITCHAT-61."""
    tried = Tried(1, 2)
    tried.do(LinkUp(3, 182, False))
    tried.do(LinkUp(4, 40, False))
    tried.get(1, ANN.announce(tried.now))
    tried.wait(0.3)
    tried.take()
    said = ANN.text("a text without any repetition: " + str(Random(1).randbytes(70)), tried.now)
    tried.get(1, said)
    tried.wait(0.5)
    sent = tried.take()
    assert [link for link, one in sent if one.kind == Kind.MESSAGE] == [2]
    assert all(len(one.wire) <= 182 for link, one in sent if link == 3)
    pieces = [one for link, one in sent if link == 3 and one.kind == Kind.FRAGMENT]
    assert len(pieces) > 1
    other = Tried(7, person=97)
    other.get(7, ANN.announce(tried.now))
    assert len(texts(other.get(7, *pieces))) == 1
    assert not [one for link, one in sent if link == 4 and one.kind == Kind.MESSAGE]


def test_lost_piece_is_asked_for_and_given() -> None:
    sender, receiver = known(1), Tried(5, person=98)
    text = str([Random(number).random() for number in range(200)])
    sender.do(SayAll("t", text))
    sender.wait(2.0)
    pieces = [one for _, one in sender.take(Kind.FRAGMENT)]
    receiver.get(5, next(one for _, one in Tried(1).sent if one.kind == Kind.ANNOUNCE))
    receiver.get(5, *pieces[:1], *pieces[2:])
    receiver.take()
    receiver.wait(6.0)
    questions = [one for _, one in receiver.take(Kind.REQUEST_SYNC)]
    named = [one for one in questions if SyncRequest.decode(one.payload).fragments]
    assert named
    # Whoever said it keeps its pieces, too, and only those of that set are asked for.
    sender.get(1, named[0])
    sender.wait(2.0)
    given = [one for _, one in sender.take(Kind.FRAGMENT)]
    assert [one.payload for one in given] == [pieces[1].payload]
    assert texts(receiver.get(5, *given)) == [text]


def test_neighbour_gets_what_it_lacks_and_no_more() -> None:
    tried = known(1, 2)
    said = [ANN.text(f"text {number}", tried.now + number / 1000) for number in range(5)]
    tried.get(1, *said)
    tried.wait(1.0)
    tried.take()
    nothing, _ = build([])
    tried.get(2, BEN.make(Kind.REQUEST_SYNC, SyncRequest(nothing).encode(), tried.now, ttl=0))
    tried.wait(3.0)
    answers = [one for link, one in tried.take() if link == 2 and one.sync_answer]
    assert all(one.ttl == 0 for one in answers)
    assert sorted(one.payload for one in answers if one.kind == Kind.MESSAGE) == sorted(
        one.payload for one in said
    )
    assert ANN.peer_id in {one.sender for one in answers if one.kind == Kind.ANNOUNCE}


def test_slow_link_is_given_nothing_that_waits_for_it_already() -> None:
    """INV-BITCHAT-56: what a slow link carries again with each question makes it slower."""
    tried = known(1, 2)
    tried.busy.add(2)
    said = [ANN.text(f"text {number}", tried.now + number / 1000) for number in range(90)]
    tried.get(1, *said[:20])
    tried.wait(1.0)
    flooded = tried.take()
    tried.get(1, *(one.as_sync_answer() for one in said[20:]))
    nothing, _ = build([])
    for _ in range(3):
        tried.wait(1.0)
        tried.get(2, BEN.make(Kind.REQUEST_SYNC, SyncRequest(nothing).encode(), tried.now, ttl=0))
    tried.free(2)
    tried.wait(5.0)
    got = [one.payload for link, one in [*flooded, *tried.take(Kind.MESSAGE)] if link == 2]
    assert sorted(got) == sorted({*got})
    assert len(got) > 60


def test_text_passes_the_announces_of_a_crowd_on_a_slow_link() -> None:
    """INV-BITCHAT-81."""
    tried = known(1, 2)
    tried.busy.add(2)
    for number in range(40, 70):
        tried.get(1, Person(number).announce(tried.now, ttl=6))
    tried.wait(0.5)
    before = [one for link, one in tried.take(Kind.ANNOUNCE) if link == 2]
    tried.get(1, ANN.text("hello", tried.now))
    tried.wait(0.5)
    tried.free(2)
    left = [one.kind for link, one in tried.take() if link == 2]
    assert 0 < len(before) < 30
    assert left.index(Kind.MESSAGE) == 0
    assert left.count(Kind.ANNOUNCE) == 30 - len(before)


def test_what_a_set_takes_for_a_member_is_asked_for_by_the_next_one() -> None:
    """INV-BITCHAT-56: a wrong member would otherwise be missing until something else is said."""
    gossip = Gossip(GossipPolicy(), Random(4))
    for number in range(150):
        gossip.keep(ANN.text(f"text {number}", NOW + number / 1000), NOW)
    lacking = [packet_id(BEN.text(f"other {number}", NOW)) for number in range(3_000)]
    for _ in range(40):
        members = gossip.question(NOW).has.members()
        lacking = [one for one in lacking if one in members]
    assert lacking == []


def test_message_that_nobody_can_check_is_asked_for_when_its_sender_is_announced() -> None:
    tried = known(1)
    tried.wait(1.0)
    said = EVE.text("who am I?", tried.now - 60)
    assert tried.get(1, said.as_sync_answer()) == []

    def lacks() -> bool:
        tried.take()
        tried.wait(16.0)
        asked = [one for _, one in tried.take(Kind.REQUEST_SYNC)]
        has = [SyncRequest.decode(one.payload).has.members() for one in asked]
        return any(packet_id(said) not in one for one in has)

    assert not lacks()
    tried.wait(10.0)  # it waits here no more
    tried.get(1, EVE.announce(tried.now))
    assert lacks()
    assert texts(tried.get(1, said.as_sync_answer())) == ["who am I?"]


def test_neighbour_that_asks_all_the_time_is_answered_rarely() -> None:
    """INV-BITCHAT-56."""
    tried = known(1, 2)
    tried.get(1, ANN.text("text", tried.now))
    nothing, _ = build([])
    for number in range(50):
        question = BEN.make(
            Kind.REQUEST_SYNC, SyncRequest(nothing).encode(), tried.now + number / 1000, ttl=7
        )
        tried.get(2, question)
    assert tried.mesh.counts["sync_refused"] == 42
    tried.wait(2.0)
    # It claimed seven hops, and went none.
    assert BEN.peer_id not in {one.sender for _, one in tried.take(Kind.REQUEST_SYNC)}


def test_answer_to_nothing_that_was_asked_is_refused() -> None:
    """INV-BITCHAT-56."""
    tried = Tried(1)
    tried.get(1, ANN.announce(tried.now))
    answer = ANN.text("pushed", tried.now - 3600).as_sync_answer()
    tried.do(LinkUp(9, 512, False))
    assert tried.get(9, answer) == []
    assert tried.dropped() == {"unasked": 1}
    tried.wait(1.0)  # by now both were asked
    assert texts(tried.get(9, answer)) == ["pushed"]
    assert texts(tried.get(9, ANN.text("too old", tried.now - 7 * 3600).as_sync_answer())) == []


def test_message_whose_flood_was_lost_goes_on_from_whoever_got_it_by_asking() -> None:
    tried = known(1, 2)
    tried.wait(1.0)
    tried.take()
    fresh, old = ANN.text("fresh", tried.now - 10), ANN.text("old", tried.now - 100)
    assert texts(tried.get(1, fresh.as_sync_answer(), old.as_sync_answer())) == ["fresh", "old"]
    tried.wait(0.3)
    ((link, passed),) = tried.take(Kind.MESSAGE)
    assert link == 2
    assert passed.wire == fresh.with_ttl(5).wire
    assert verify(passed, ANN.keys.signing_public)


def test_packet_for_somebody_else_goes_to_his_link_alone() -> None:
    """INV-BITCHAT-58."""
    tried = known(1, 2, 3)
    tried.get(2, BEN.announce(tried.now))
    tried.take()
    sealed = EVE.make(
        Kind.NOISE_ENCRYPTED, b"x" * 40, tried.now, recipient=ANN.peer_id, signed=False
    )
    assert tried.get(3, sealed) == []
    tried.wait(0.3)
    ((link, passed),) = tried.take(Kind.NOISE_ENCRYPTED)
    assert (link, passed.ttl, len(passed.on_air)) == (1, 6, 256)


def test_route_is_followed_and_where_it_breaks_everybody_is_asked() -> None:
    """INV-BITCHAT-58."""
    tried = known(1, 2, 3)
    tried.get(2, BEN.announce(tried.now))
    tried.take()
    me, far = tried.mesh.peer_id, b"faraway!"

    def routed(route: tuple[bytes, ...], body: bytes) -> list[int]:
        sealed = EVE.make(
            Kind.NOISE_ENCRYPTED,
            body,
            tried.now,
            recipient=far,
            route=route,
            version=2,
            signed=False,
        )
        tried.get(3, sealed)
        tried.wait(0.3)
        return sorted(link for link, _ in tried.take(Kind.NOISE_ENCRYPTED))

    assert routed((me, BEN.peer_id), b"by ben") == [2]
    assert routed((ANN.peer_id, BEN.peer_id), b"by ann") == [1]
    assert routed((me, b"nowhere!"), b"broken") == [1, 2]


def test_link_is_the_peers_whose_announce_came_over_it_whole_and_stays_so() -> None:
    tried = Tried(1, 2)
    announce = ANN.announce(NOW)
    tried.get(2, announce.with_ttl(6))
    assert tried.mesh.peers.links_to(ANN.peer_id) == frozenset()
    (near,) = tried.get(1, announce)
    assert isinstance(near, PeerNear)
    assert near.direct
    # Somebody on the same link passes another's announce on without taking a hop off.
    tried.get(1, BEN.announce(NOW))
    assert tried.mesh.peers.at(1) == ANN.peer_id
    tried.do(LinkDown(1))
    assert tried.mesh.peers.links_to(ANN.peer_id) == frozenset()


def test_trace_tells_hops_and_time_and_a_pong_of_another_counts_nothing() -> None:
    tried = known(1)
    tried.do(Trace("t", ANN.peer_id))
    ((_, ping),) = tried.take(Kind.PING)
    nonce = Ping.decode(ping.payload).nonce
    tried.now += 0.5

    def pong(who: Person, nonce: bytes, ttl: int) -> list[object]:
        return tried.get(
            1,
            who.make(
                Kind.PONG,
                Ping(nonce, 7).encode(),
                tried.now,
                ttl=ttl,
                recipient=tried.mesh.peer_id,
                signed=False,
            ),
        )

    assert pong(EVE, nonce, 7) == []
    assert pong(ANN, b"another!", 7) == []
    (traced,) = pong(ANN, nonce, 5)
    assert isinstance(traced, Traced)
    assert (traced.token, traced.peer_id, traced.hops) == ("t", ANN.peer_id, 3)
    assert traced.seconds == pytest.approx(0.5)
    assert pong(ANN, nonce, 4) == []
    assert tried.dropped() == {"unasked": 2}


def test_pings_are_answered_a_few_times() -> None:
    tried = known(1)
    for number in range(30):
        ping = ANN.make(
            Kind.PING,
            Ping(number.to_bytes(8), 7).encode(),
            tried.now,
            recipient=tried.mesh.peer_id,
            signed=False,
        )
        tried.get(1, ping)
    assert len(tried.take(Kind.PONG)) == 10
    assert tried.dropped() == {"too-many": 20}


def test_what_is_no_packet_costs_a_link_its_connection() -> None:
    """INV-BITCHAT-57."""
    tried = known(1)
    rng, cut = Random(7), []
    for _ in range(40):
        cut = tried.do(FrameReceived(1, rng.randbytes(rng.randrange(60))))
        if cut:
            break
    assert isinstance(cut[0], Disconnect)
    assert tried.dropped()["malformed"] > 10


def test_forgeries_that_a_neighbour_passes_on_do_not_part_the_two() -> None:
    """INV-BITCHAT-57."""
    tried = known(1)
    for number in range(60):
        forged = sign(ANN.text(f"{number}", tried.now), EVE.keys)
        assert tried.get(1, forged) == []
        tried.wait(0.05)
    assert texts(tried.get(1, ANN.text("real", tried.now))) == ["real"]
    assert tried.dropped() == {"signature": 60}


def test_link_that_brings_too_much_is_heard_less_and_others_are_not() -> None:
    tried = Tried(1, 2, policy=MeshPolicy(guard=GuardPolicy(frames_s=10, frames=30)))
    tried.get(1, ANN.announce(NOW))
    heard = texts(tried.get(1, *(ANN.text(f"{number}", NOW) for number in range(80))))
    assert len(heard) == 29
    assert tried.dropped() == {"too-many": 51}
    assert texts(tried.get(2, ANN.text("other way", NOW))) == ["other way"]


def test_packets_that_wait_are_bounded_by_link_and_by_time() -> None:
    parked = Parked(keep_s=9.0, each=4, total=7)
    assert [parked.park(ANN.text(f"{n}", NOW), 1, 0.0) for n in range(6)] == [True] * 4 + [
        False
    ] * 2
    assert [parked.park(BEN.text(f"{n}", NOW), 2, 0.0) for n in range(6)] == [True] * 3 + [
        False
    ] * 3
    assert len(parked.take(ANN.peer_id, 5.0)) == 4
    assert parked.take(ANN.peer_id, 5.0) == []
    parked.down(2)
    assert len(parked) == 0
    parked.park(ANN.text("late", NOW), 1, 0.0)
    assert parked.take(ANN.peer_id, 10.0) == []


def test_any_frame_gives_a_counted_drop_and_never_an_exception() -> None:
    """Every prefix of every packet, and every flipped bit of some."""
    tried = known(1, 2)
    now = tried.now
    nothing, _ = build([])
    packets = [
        ANN.announce(now),
        ANN.text("text", now),
        ANN.make(Kind.LEAVE, b"", now),
        ANN.make(Kind.REQUEST_SYNC, SyncRequest(nothing).encode(), now, ttl=0),
        *(
            ANN.make(kind, b"payload", now, recipient=tried.mesh.peer_id, signed=False)
            for kind in range(0x30)
        ),
    ]
    rng = Random(2)
    for one in packets:
        for end in range(len(one.wire)):
            tried.mesh.handle(FrameReceived(2, one.wire[:end]), now)
        for _ in range(30):
            changed = bytearray(one.wire)
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
            tried.mesh.handle(FrameReceived(2, bytes(changed)), now)
        now += 30


def test_engine_without_links_only_waits_for_the_next_announce() -> None:
    mesh = Mesh(ANN.keys, "ann", Random(1))
    actions = mesh.handle(SayAll("t", "to nobody"), NOW)
    assert [type(one).__name__ for one in actions] == ["Sent", "WakeAt"]


@pytest.mark.parametrize("packed", [True, False])
def test_what_a_relay_compressed_anew_goes_on_as_it_was_signed(packed: bool) -> None:
    """INV-BITCHAT-12."""
    tried = known(1, 2)
    body = long_text(Random(1), 300)
    said = ANN.text(body.decode(), tried.now, packed=packed)
    deflate = zlib.compressobj(1, zlib.DEFLATED, -15)
    packed_anew = len(body).to_bytes(2, "big") + deflate.compress(body) + deflate.flush()
    head = said.wire[:11] + b"\x06" + len(packed_anew).to_bytes(2, "big") + said.wire[14:22]
    again = decode(head + packed_anew + said.wire[-64:])
    assert again.wire != said.wire
    assert texts(tried.get(1, again)) == [body.decode()]
    tried.wait(0.2)
    ((_, passed),) = tried.take(Kind.MESSAGE)
    assert passed.with_ttl(7) == said


def test_long_frames_count_for_several() -> None:
    """INV-BITCHAT-57."""
    tried = Tried(1, policy=MeshPolicy(guard=GuardPolicy(frames_s=10, frames=30)))
    tried.get(1, ANN.announce(NOW))
    for number in range(9):
        made = ANN.make(0x77, bytes([number]) * 5_000, NOW, packed=False, signed=False)
        tried.get(1, made)
    assert tried.dropped() == {"too-many": 6}


def test_what_is_said_to_all_has_the_id_that_it_has_on_every_transport() -> None:
    """INV-P2P-11."""
    tried = Tried(1)
    said_ms = int(tried.now * 1000) - 4_321
    message = DecentralizedMessage(
        body=b" to all ", sender=fingerprint_of(Person(99).keys.noise_public), created_ms=said_ms
    )
    (sent,) = tried.do(SayAll("a", " to all ", said_ms))
    assert isinstance(sent, Sent)
    assert sent.message_id == public_id(message)
    (late,) = tried.do(SayAll("b", " to all ", said_ms - 20_000_000))
    assert isinstance(late, Sent)
    assert late.message_id != sent.message_id
    assert late.state is SentState.ACCEPTED
