"""Couriers among engines: people who are never near at the same time, on a virtual clock."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from fog_compute.p2p.bitchat.events import FrameReceived, LinkDown
from fog_compute.p2p.bitchat.mail.carried import Tier
from fog_compute.p2p.bitchat.mail.couriers import CourierLimits, MailState
from fog_compute.p2p.bitchat.mail.sealed_mail import SealLimits
from fog_compute.p2p.bitchat.mesh.engine import MeshPolicy
from fog_compute.p2p.bitchat.mesh.news import (
    MailHeard,
    MailKept,
    MailSettled,
    PostMail,
    SayTo,
    Sent,
    SentState,
    TextHeard,
)
from fog_compute.p2p.bitchat.wire.courier import CourierEnvelope, day_of, recipient_tag
from fog_compute.p2p.bitchat.wire.kinds import Kind
from fog_compute.p2p.bitchat.wire.packet import Packet
from fog_compute.p2p.bitchat.wire.private import PrivateKind, PrivateMessage, within
from fog_compute.testing.mesh.air import AirModel
from fog_compute.testing.mesh.meshes import World
from fog_compute.testing.mesh.topologies import chain
from tests.unit.fog_compute.p2p.bitchat.neighbours import NOW, Person, Tried

TEXT = within(PrivateKind.MESSAGE, PrivateMessage("id", "wait for me").encode())
SENDER, COURIER, RECIPIENT = 0, 1, 2


def alone(nodes: int = 3, *, loss: float = 0.0, seed: int = 4) -> World:
    """Everybody has met everybody once, and nobody is near anybody now."""
    world = World(chain(nodes), seed, model=AirModel(loss=loss))
    world.run(10.0)
    for pair in sorted(world.air.links):
        world.air.cut(*pair)
    world.run(300.0)
    return world


def key(world: World, node: int) -> bytes:
    """Its Noise key, as the others know it."""
    peer_id = world.meshes[node].peer_id
    found = {
        peer.noise_key for mesh in world.meshes for peer in mesh.peers if peer.peer_id == peer_id
    }
    (noise_key,) = found
    return noise_key


def post(world: World, node: int, to: int, payload: bytes = TEXT, name: str = "id") -> Sent:
    world.air.give(node, PostMail("t", name, key(world, to), payload))
    return world.sent(node)[-1]


def meet(world: World, a: int, b: int, seconds: float = 40.0) -> None:
    world.air.connect(a, b)
    world.run(seconds)
    world.air.cut(a, b)
    world.run(1.0)


def mail(world: World, node: int) -> list[MailHeard]:
    return [one for _, one in world.news[node] if isinstance(one, MailHeard)]


def kept(news: Sequence[object]) -> MailState:
    return [one for one in news if isinstance(one, MailKept)][-1].state


def carried(world: World, node: int) -> int:
    return world.meshes[node].counts["mail_carried"]


@pytest.mark.parametrize("size", [11, 9_000])
def test_courier_brings_mail_to_somebody_whom_the_sender_does_not_meet(size: int) -> None:
    """INV-BITCHAT-40."""
    world = alone(loss=0.05)
    payload = TEXT + bytes(size)
    assert post(world, SENDER, RECIPIENT, payload).state is SentState.QUEUED
    meet(world, SENDER, COURIER)
    assert carried(world, COURIER) == 1
    meet(world, COURIER, RECIPIENT)
    (heard,) = mail(world, RECIPIENT)
    assert heard == MailHeard(key(world, SENDER), PrivateKind.MESSAGE, payload[1:], heard.envelope)
    assert carried(world, COURIER) == 0
    assert mail(world, COURIER) == []


def test_what_became_of_mail_that_waited_is_told() -> None:
    world = alone()
    post(world, SENDER, RECIPIENT)
    meet(world, SENDER, COURIER)
    assert [one.state for one in world.sent(SENDER)] == [SentState.QUEUED, SentState.ACCEPTED]
    tried = Tried(policy=MeshPolicy(couriers=CourierLimits(seal=SealLimits(life_ms=90_000))))
    tried.do(PostMail("t", "id", Person(2).keys.noise_public, TEXT))
    tried.wait(100.0)
    sent = [one for one in tried.news if isinstance(one, Sent)]
    assert [one.state for one in sent] == [SentState.QUEUED, SentState.FAILED]
    assert sent[1].reason == "nobody came by who could carry it"


def test_what_became_of_a_copy_for_one_member_says_nothing_of_another_members() -> None:
    tried = Tried(policy=MeshPolicy(couriers=CourierLimits(seal=SealLimits(life_ms=90_000))))
    bob, carl = (Person(number).keys.noise_public for number in (2, 3))
    for token, recipient in (("to bob", bob), ("to carl", carl)):
        tried.do(PostMail(token, "one id", recipient, TEXT))
    tried.do(MailSettled("one id", bob))
    tried.news.clear()
    tried.wait(100.0)
    sent = [one for one in tried.news if isinstance(one, Sent)]
    assert [(one.token, one.state) for one in sent] == [("to carl", SentState.FAILED)]


def test_payloads_of_one_message_are_all_carried_and_settled_together() -> None:
    world = alone()
    for payload in (TEXT, TEXT + b"2", TEXT):
        post(world, SENDER, RECIPIENT, payload)
    meet(world, SENDER, COURIER)
    assert carried(world, COURIER) == 2
    world.air.give(SENDER, MailSettled("id", key(world, RECIPIENT)))
    states = [one for _, one in world.news[SENDER] if isinstance(one, MailKept)]
    assert states[-1].state.own == ()


def test_mail_is_given_at_once_where_somebody_is_near() -> None:
    world = alone()
    world.air.connect(SENDER, COURIER)
    world.run(20.0)
    assert post(world, SENDER, RECIPIENT).state is SentState.ACCEPTED
    world.run(1.0)
    assert carried(world, COURIER) == 1
    # The same once more is the same, and the courier has it.
    assert post(world, SENDER, RECIPIENT).state is SentState.QUEUED
    world.run(60.0)
    assert carried(world, COURIER) == 1


def test_settled_mail_is_given_to_nobody_else() -> None:
    world = alone(4)
    post(world, SENDER, RECIPIENT)
    meet(world, SENDER, COURIER)
    world.air.give(SENDER, MailSettled("id", key(world, RECIPIENT)))
    meet(world, SENDER, 3)
    assert (carried(world, COURIER), carried(world, 3)) == (1, 0)


def test_copy_goes_on_to_another_courier_whose_link_is_proved() -> None:
    """INV-BITCHAT-43."""
    world = alone(4)
    post(world, SENDER, RECIPIENT)
    meet(world, SENDER, COURIER)
    meet(world, COURIER, 3)
    assert (carried(world, COURIER), carried(world, 3)) == (1, 1)
    meet(world, 3, RECIPIENT)
    meet(world, COURIER, RECIPIENT)
    assert len(mail(world, RECIPIENT)) == 1
    assert (carried(world, COURIER), carried(world, 3)) == (0, 0)


def test_recipient_far_away_gets_a_copy_and_the_courier_keeps_its_own() -> None:
    """INV-BITCHAT-41."""
    world = alone(4)
    post(world, SENDER, RECIPIENT)
    meet(world, SENDER, COURIER)
    world.air.connect(COURIER, 3)
    world.air.connect(3, RECIPIENT)
    world.run(60.0)
    assert len(mail(world, RECIPIENT)) == 1
    assert carried(world, COURIER) == 1


def test_link_that_ends_too_soon_has_taken_nothing() -> None:
    world = alone()
    post(world, SENDER, RECIPIENT, TEXT + bytes(9_000))
    world.air.connect(SENDER, COURIER)
    world.run(0.1)
    world.air.cut(SENDER, COURIER)
    assert world.meshes[SENDER].counts["mail_post_lost"] == 1
    world.run(100.0)
    assert carried(world, COURIER) == 0
    meet(world, SENDER, COURIER)
    assert carried(world, COURIER) == 1


def test_what_cannot_be_carried_is_told() -> None:
    world = alone()
    sent = post(world, SENDER, RECIPIENT, bytes(16_289))
    assert (sent.state, sent.message_id) == (SentState.FAILED, "")


def test_mail_is_kept_over_a_restart_and_ends_with_its_day() -> None:
    policy = MeshPolicy(couriers=CourierLimits(seal=SealLimits(life_ms=90_000)))
    bob, tried = Person(2), Tried(1, policy=policy)
    tried.do(PostMail("t", "id", bob.keys.noise_public, TEXT))
    before = msgspec.msgpack.encode(kept(tried.news))
    again = Tried(1, mail=msgspec.msgpack.decode(before, type=MailState))
    ann = Person(3)
    again.get(1, ann.announce(again.now))
    again.wait(0.5)
    posted = [one for _, one in again.sent if one.kind == Kind.COURIER_ENVELOPE]
    assert [one.recipient for one in posted] == [ann.peer_id]
    again.wait(80.0)
    assert kept(again.news).own != ()
    again.wait(20.0)
    assert kept(again.news) == MailState()


def envelope(number: int, to: Person, now: float = NOW) -> bytes:
    now_ms = int(now * 1000)
    tag = recipient_tag(to.keys.noise_public, day_of(now_ms))
    return CourierEnvelope(tag, now_ms + 3_600_000, bytes([number])).encode()


def test_mail_is_carried_for_who_is_at_the_link_and_signed_it() -> None:
    """INV-BITCHAT-42."""
    ann, eve, bob = Person(1), Person(2), Person(3)
    tried = Tried(1, 2)
    me = tried.mesh.peer_id
    tried.get(1, ann.announce(tried.now))
    tried.get(2, ann.announce(tried.now + 0.001, ttl=5))
    carry = Kind.COURIER_ENVELOPE
    tried.get(1, ann.make(carry, envelope(1, bob), tried.now, recipient=me, signed=False))
    tried.get(2, ann.make(carry, envelope(2, bob), tried.now, recipient=me))
    tried.get(1, eve.make(carry, envelope(3, bob), tried.now, recipient=me))
    tried.get(1, ann.make(carry, b"\x01\x00", tried.now, recipient=me))
    assert tried.mesh.counts["mail_carried"] == 0
    tried.get(1, ann.make(carry, envelope(4, bob), tried.now, recipient=me))
    assert tried.mesh.counts["mail_carried"] == 1
    counts = tried.mesh.counts
    assert (counts["dropped_signature"], counts["dropped_content"]) == (1, 1)
    assert (counts["dropped_not-neighbour"], counts["dropped_parked"]) == (1, 1)
    # What waits is not let in by an announce over another link.
    tried.get(1, ann.announce(tried.now + 0.002))
    assert tried.mesh.counts["mail_carried"] == 1
    assert tried.mesh.counts["dropped_not-neighbour"] == 2
    # Nobody else's claim to be the recipient takes it away.
    tried.get(2, bob.announce(tried.now))
    tried.wait(20.0)
    assert tried.mesh.counts["mail_carried"] == 1
    assert tried.mesh.counts["mail_send_sent"] == 1


def test_envelope_that_overtakes_the_announce_waits_for_it() -> None:
    ann, bob = Person(1), Person(3)
    tried = Tried(1)
    give = ann.make(Kind.COURIER_ENVELOPE, envelope(1, bob), NOW, recipient=tried.mesh.peer_id)
    tried.get(1, give)
    assert tried.mesh.counts["mail_carried"] == 0
    tried.get(1, ann.announce(tried.now))
    assert tried.mesh.counts["mail_carried"] == 1


def test_whom_the_owner_blocked_gives_and_gets_no_mail() -> None:
    ann, bob = Person(1), Person(3)
    blocked = ann.keys.noise_public
    tried = Tried(1, tier=lambda noise_key: None if noise_key == blocked else Tier.FRIEND)
    tried.get(1, ann.announce(tried.now))
    me = tried.mesh.peer_id
    tried.get(1, ann.make(Kind.COURIER_ENVELOPE, envelope(1, bob), tried.now, recipient=me))
    sent = tried.do(PostMail("t", "id", bob.keys.noise_public, TEXT))
    assert [one.state for one in sent if isinstance(one, Sent)] == [SentState.QUEUED]
    assert tried.mesh.counts["mail_stranger"] == 1


def test_proof_of_a_link_ends_with_it() -> None:
    world = World(chain(2), 2)
    world.run(5.0)
    world.air.give(0, SayTo("t", world.meshes[1].peer_id, TEXT))
    world.run(2.0)
    peers, other = world.meshes[0].peers, world.meshes[1].peer_id
    assert peers.proved_link(other) == world.air.link(0, 1)
    world.air.give(0, LinkDown(world.air.link(0, 1)))
    assert peers.proved_link(other) is None


def test_session_over_others_proves_no_link() -> None:
    world = World(chain(3), 2)
    world.run(5.0)
    world.air.give(0, SayTo("t", world.meshes[2].peer_id, TEXT))
    world.run(2.0)
    for mesh in world.meshes:
        for peer in mesh.peers:
            assert mesh.peers.proved_link(peer.peer_id) is None


def test_garbage_in_an_envelope_is_no_mail() -> None:
    ann = Person(1)
    tried = Tried(1)
    me = tried.mesh.peer_id
    tried.get(1, ann.announce(tried.now))
    broadcast = ann.make(Kind.COURIER_ENVELOPE, envelope(1, ann), tried.now)
    assert tried.do(FrameReceived(1, broadcast.on_air)) == []
    bad = ann.make(Kind.COURIER_ENVELOPE, envelope(2, Person(99)), tried.now, recipient=me)
    tried.get(1, bad)
    assert tried.mesh.counts["mail_wrong_length"] == 1
    assert tried.mesh.counts["mail_carried"] == 0


def test_mail_that_nobody_can_open_costs_the_link_and_not_the_others() -> None:
    """INV-BITCHAT-99."""
    ann, bob = Person(1), Person(2)
    tried = Tried(1, 2)
    me = tried.mesh.peer_id
    tried.get(2, bob.announce(tried.now))
    tag = recipient_tag(Person(99).keys.noise_public, day_of(int(tried.now * 1000)))

    def spoiled(number: int) -> Packet:
        expires_ms = int(tried.now * 1000) + 60_000
        body = CourierEnvelope(tag, expires_ms, number.to_bytes(2, "big") * 60).encode()
        return ann.make(Kind.COURIER_ENVELOPE, body, tried.now, recipient=me, signed=False)

    for number in range(900):
        tried.get(1, spoiled(number))
    opened = tried.mesh.counts["dropped_not-opened"]
    assert 300 < opened < 450  # of a link's frames each took three
    assert tried.dropped()["too-many"] == 900 - opened
    (heard,) = tried.get(2, bob.text("still heard", tried.now))
    assert isinstance(heard, TextHeard)
    # A second copy is known, and not tried.
    tried.wait(5.0)
    again = spoiled(1_000)
    tried.get(1, again, again)
    assert tried.mesh.counts["dropped_not-opened"] == opened + 1
