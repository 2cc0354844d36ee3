"""Prekeys: their bytes, their secrets' lives, and mail that nobody reads later."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import betanet
from fog_compute.p2p.bitchat.events import FrameReceived
from fog_compute.p2p.bitchat.mail.carried import Tier
from fog_compute.p2p.bitchat.mail.couriers import Couriers, MailState
from fog_compute.p2p.bitchat.mail.prekey_books import (
    OwnPrekeys,
    PeerBundle,
    PeerPrekeys,
    PrekeyPolicy,
    PrekeyState,
)
from fog_compute.p2p.bitchat.mesh.news import MailHeard, MailKept, PostMail
from fog_compute.p2p.bitchat.wire.announce import Announce, Capability
from fog_compute.p2p.bitchat.wire.errors import Malformed, Reason
from fog_compute.p2p.bitchat.wire.kinds import Kind
from fog_compute.p2p.bitchat.wire.packet import Packet
from fog_compute.p2p.bitchat.wire.prekeys import Prekey, PrekeyBundle, signed_bundle
from fog_compute.testing.mesh.meshes import World
from fog_compute.testing.mesh.topologies import chain
from tests.unit.fog_compute.p2p.bitchat.neighbours import NOW, Person, Tried

DAY = 86_400_000
START = 20_000 * DAY
SIGNER = Ed25519PrivateKey.from_private_bytes(bytes(32))
SIGNING = SIGNER.public_key().public_bytes_raw()
ALICE, BOB = (betanet.NoiseSecret(bytes([number]) * 32) for number in (1, 2))
PREKEYS = (Prekey(1, bytes([7]) * 32), Prekey(0xFFFFFFFF, bytes([8]) * 32))


def bundle(*ids: int, made_ms: int = START, owner: betanet.NoiseSecret = BOB) -> PrekeyBundle:
    prekeys = tuple(Prekey(one, bytes([one % 251]) * 32) for one in ids)
    return signed_bundle(owner.public, prekeys, made_ms, SIGNER)


def test_bundle_has_the_bytes_of_the_app() -> None:
    """INV-BITCHAT-44: laid out by hand from the app's source."""
    entries = bytes.fromhex("00000001" + "07" * 32 + "ffffffff" + "08" * 32)
    signed = b"\x18bitchat-prekey-bundle-v1" + bytes(range(32)) + b"\x02" + entries
    signature = SIGNER.sign(signed + (258).to_bytes(8, "big"))
    expected = (
        b"\x01\x00\x20" + bytes(range(32))
        + b"\x02\x00\x48" + entries
        + b"\x03\x00\x08" + bytes.fromhex("0000000000000102")
        + b"\x04\x00\x40" + signature
    )  # fmt: skip
    ours = signed_bundle(bytes(range(32)), PREKEYS, 258, SIGNER)
    assert ours.encode() == expected
    assert PrekeyBundle.decode(expected + b"\x77\x00\x01x") == ours
    assert ours.verifies(SIGNING)


def test_no_prefix_and_no_changed_bit_of_a_bundle_is_one() -> None:
    """INV-BITCHAT-44."""
    data = bundle(1, 2, 3).encode()
    for end in range(len(data)):
        with pytest.raises(Malformed):
            PrekeyBundle.decode(data[:end])
    for bit in range(len(data) * 8):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            read = PrekeyBundle.decode(bytes(changed))
        except Malformed:
            continue
        assert not read.verifies(SIGNING), bit
    assert not bundle(1).verifies(bytes(31))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data.replace(b"\x02\x00\x24", b"\x02\x00\x00", 1)[:38], Reason.MISSING),
        (lambda data: data[:35] + b"\x02\x00\x23" + bytes(35) + data[74:], Reason.FIELD),
        (lambda data: data[:35] + b"\x02\x01\x44" + bytes(324) + data[74:], Reason.FIELD),
        (lambda data: data[:35] + b"\x02\x00\x48" + bytes(72) + data[74:], Reason.FIELD),
        (lambda data: b"\x01\x00\x1f" + bytes(31) + data[35:], Reason.FIELD),
    ],
)
def test_bundle_with_a_wrong_field_is_refused(change: object, reason: Reason) -> None:
    with pytest.raises(Malformed) as refused:
        PrekeyBundle.decode(change(bundle(1).encode()))  # type: ignore[operator]
    assert refused.value.reason is reason


def test_bundle_has_one_to_eight_prekeys() -> None:
    for count in (0, 9):
        with pytest.raises(Malformed):
            bundle(*range(count))


def own(**changed: int) -> OwnPrekeys:
    policy = PrekeyPolicy(**changed)  # type: ignore[arg-type]  # fields by name
    return OwnPrekeys(policy, PrekeyState())


def test_secrets_are_erased_after_use_and_new_ones_take_their_place() -> None:
    """INV-BITCHAT-45."""
    mine = own(low=6, grace_ms=100, unused_ms=10_000)
    assert own().next_expiry_ms is None
    assert mine.refresh(START)
    assert [one.id for one in mine.public()] == list(range(8))
    assert not mine.refresh(START + 1)
    assert mine.use(3, START + 5)
    assert not mine.use(3, START + 50)
    assert not mine.use(99, START)
    assert mine.secret(3) is not None
    assert 3 not in {one.id for one in mine.public()}
    assert mine.next_expiry_ms == START + 105
    assert not mine.refresh(START + 105)
    assert mine.secret(3) is None
    for number in (0, 1):
        mine.use(number, START + 200)
    made = mine.made_ms
    assert mine.refresh(START + 200)
    assert [one.id for one in mine.public()] == [2, 4, 5, 6, 7, 8, 9, 10]
    assert mine.made_ms > made
    assert mine.refresh(START + 10_000)
    assert [one.id for one in mine.public()] == [8, 9, 10, *range(11, 16)]


def test_no_two_bundles_have_one_time_even_where_the_clock_goes_back() -> None:
    mine = own()
    mine.refresh(START)
    times = [mine.made_ms]
    for number in range(4):
        mine.use(number, START - 50)
        times.append(mine.made_ms)
    assert times == sorted(set(times))


def test_prekey_is_used_for_one_message_and_the_newest_bundle_counts() -> None:
    theirs = PeerPrekeys(PrekeyPolicy(seal_ms=1_000), ())
    assert theirs.assign(BOB.public, START) is None
    assert theirs.take(bundle(4, 2))
    assert not theirs.take(bundle(9))
    assert not theirs.take(bundle(9, made_ms=START - 1))
    assert [theirs.assign(BOB.public, START) for _ in range(3)] == [
        Prekey(2, bytes([2]) * 32),
        Prekey(4, bytes([4]) * 32),
        None,
    ]
    # What was used stays used where it is offered again.
    assert theirs.take(bundle(4, 5, made_ms=START + 1))
    assert theirs.assign(BOB.public, START + 1_002) is None
    assert theirs.assign(BOB.public, START + 1_001) == Prekey(5, bytes([5]) * 32)
    assert theirs.assign(BOB.public, START) is None


def test_bundles_of_others_are_bounded() -> None:
    theirs = PeerPrekeys(PrekeyPolicy(peers=2), ())
    owners = [betanet.NoiseSecret(bytes([number]) * 32) for number in range(20, 23)]
    for owner in (*owners[:2], owners[0], owners[2]):
        theirs.take(bundle(1, owner=owner, made_ms=START + len(theirs.items)))
    kept = [one.bundle.noise_key for one in theirs.items]
    assert kept == [owners[0].public, owners[2].public]


def test_names_that_were_made_up_push_out_nobodys_prekeys_but_their_own_links() -> None:
    """INV-BITCHAT-89."""
    owners = [betanet.NoiseSecret(bytes([number]) * 32) for number in range(20, 60)]
    friend, before, beside, *made_up = owners
    theirs = PeerPrekeys(PrekeyPolicy(peers=7), (), lambda key: key == friend.public)
    for number in range(10):  # the friend stays even where all come over one link
        theirs.take(bundle(1, owner=friend, made_ms=START + number), 5)
    theirs.take(bundle(1, owner=before))
    theirs.take(bundle(1, owner=beside), 6)
    for owner in made_up:
        theirs.take(bundle(1, owner=owner), 5)
    kept = {one.bundle.noise_key for one in theirs.items}
    assert len(kept) == 7
    assert {friend.public, before.public, beside.public} <= kept


def couriers(secret: betanet.NoiseSecret, state: MailState | None = None) -> Couriers:
    return Couriers(secret, lambda _: Tier.PEER, state=state)


def test_mail_that_is_sealed_to_a_prekey_is_read_by_nobody_later() -> None:
    """INV-BITCHAT-45."""
    alice, bob = couriers(ALICE), couriers(BOB)
    bob.own_prekeys.refresh(START)
    published = signed_bundle(BOB.public, bob.own_prekeys.public(), bob.own_prekeys.made_ms, SIGNER)
    alice.peer_prekeys.take(published)
    near = bytes([9]) * 32
    (one,) = alice.post("1", BOB.public, b"text", [near], START) or []
    (two,) = alice.post("2", BOB.public, b"more", [near], START) or []
    assert (one.envelope.prekey, two.envelope.prekey) == (0, 1)
    assert alice.counts == {"sealed_to_prekey": 2}
    with pytest.raises(betanet.NoiseError):
        betanet.noise_x_open(b"bitchat-courier-v1", one.envelope.ciphertext, BOB)
    opened = bob.received(one.envelope, None, START)
    assert opened is not None
    assert (opened.sender, opened.payload) == (ALICE.public, b"text")
    # Its secret lives two days longer; what was copied off the air is worth nothing then.
    wrong = msgspec.structs.replace(two.envelope, prekey=2)
    assert bob.received(wrong, None, START) is None
    assert bob.counts == {"opened": 1, "bad_tag": 1}
    bob.own_prekeys.refresh(START + 2 * DAY)
    stored = msgspec.msgpack.decode(msgspec.msgpack.encode(bob.state), type=MailState)
    again = couriers(BOB, stored)
    late = msgspec.structs.replace(one.envelope, expires_ms=START + 3 * DAY)
    assert again.received(late, None, START) is None
    assert again.counts == {"unknown_prekey": 1}
    opened = again.received(two.envelope, None, START)
    assert opened is not None
    assert (opened.sender, opened.payload) == (ALICE.public, b"more")
    assert again.own_prekeys.next_id == 8
    assert stored.prekeys.own[0].secret.hex() not in repr(stored)


def test_mail_is_sealed_to_the_key_itself_where_prekeys_are_not_known_of() -> None:
    alice = Couriers(ALICE, lambda _: Tier.PEER, takes_prekeys=lambda _: False)
    alice.peer_prekeys.take(bundle(1))
    (one,) = alice.post("1", BOB.public, b"text", [bytes([9]) * 32], START) or []
    assert one.envelope.prekey is None
    assert couriers(BOB).received(one.envelope, None, START) is not None


def announced(person: Person, now: float, capabilities: Capability) -> Packet:
    keys = person.keys
    made = Announce("ann", keys.noise_public, keys.signing_public, (), capabilities)
    return person.make(Kind.ANNOUNCE, made.encode(), now)


def given(tried: Tried, link: int) -> list[Packet]:
    return [one for by, one in tried.sent if one.kind == Kind.PREKEY_BUNDLE and by == link]


def test_neighbour_is_given_prekeys_once_and_whoever_knows_nothing_of_them_is_not() -> None:
    ann, eve, tried = Person(1), Person(2), Tried(1, 2)
    tried.get(1, announced(ann, tried.now, Capability.PREKEYS))
    tried.get(2, announced(eve, tried.now, Capability.GROUPS))
    tried.wait(0.5)
    (packet,) = given(tried, 1)
    assert (packet.ttl, packet.recipient) == (0, None)
    read = PrekeyBundle.decode(packet.payload)
    assert read.verifies(Person(99).keys.signing_public)
    assert len(read.prekeys) == 8
    tried.get(1, announced(ann, tried.now, Capability.PREKEYS))
    tried.wait(5.0)
    assert (len(given(tried, 1)), given(tried, 2)) == (1, [])
    # Now and then all get them, who then pass them on.
    tried.wait(4_000.0)
    assert {one.ttl for one in given(tried, 2)} == {7}


def test_prekeys_count_if_their_owner_signed_them_inside_and_outside() -> None:
    ann, eve, tried = Person(1), Person(2), Tried(1)
    tried.get(1, announced(ann, tried.now, Capability.PREKEYS))
    keys = ann.keys
    good = signed_bundle(keys.noise_public, PREKEYS, int(NOW * 1000), keys)
    forged = signed_bundle(keys.noise_public, PREKEYS, int(NOW * 1000), eve.keys)
    others = signed_bundle(eve.keys.noise_public, PREKEYS, int(NOW * 1000), eve.keys)
    kind, at = Kind.PREKEY_BUNDLE, itertools.count(1)
    bad = [
        ann.make(kind, forged.encode(), tried.now + next(at) / 1000),
        ann.make(kind, others.encode(), tried.now + next(at) / 1000),
        ann.make(kind, good.encode(), tried.now + next(at) / 1000, signed=False),
        ann.make(kind, b"\x01", tried.now + next(at) / 1000),
        eve.make(kind, others.encode(), tried.now),
    ]
    for one in bad:
        tried.do(FrameReceived(1, one.on_air))
    tried.news.clear()
    tried.get(1, ann.make(kind, good.encode(), tried.now))
    (state,) = [one.state for one in tried.news if isinstance(one, MailKept)]
    assert state.prekeys.peers == (PeerBundle(good),)
    counts = tried.mesh.counts
    assert (counts["dropped_signature"], counts["dropped_content"]) == (2, 2)
    assert counts["dropped_unknown-sender"] == 1


def test_people_who_met_once_leave_each_other_mail_that_ends_with_its_prekey() -> None:
    """INV-BITCHAT-45."""
    world = World(chain(3), 4)
    world.run(10.0)
    # The first two are neighbours, so they have each other's prekeys.
    (noise_key,) = {
        peer.noise_key for peer in world.meshes[0].peers if peer.peer_id == world.meshes[1].peer_id
    }
    for pair in sorted(world.air.links):
        world.air.cut(*pair)
    world.run(300.0)
    world.air.give(0, PostMail("t", "id", noise_key, b"\x01text"))
    assert world.meshes[0].counts["mail_sealed_to_prekey"] == 1
    for a, b in ((0, 2), (2, 1)):
        world.air.connect(a, b)
        world.run(40.0)
        world.air.cut(a, b)
        world.run(100.0)
    (heard,) = [one for _, one in world.news[1] if isinstance(one, MailHeard)]
    assert heard.body == b"text"
    kept = [one for _, one in world.news[1] if isinstance(one, MailKept)][-1].state
    assert [one.id for one in kept.prekeys.own if one.used_ms is not None] == [0]
