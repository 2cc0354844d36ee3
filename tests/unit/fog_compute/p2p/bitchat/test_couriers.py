"""Mail by hand: what is taken, kept and given on, and whether it arrives; on a virtual calendar."""

from __future__ import annotations

from random import Random

import msgspec
import pytest

import betanet
from fog_compute.p2p.bitchat.mail.carried import CarriedLimits, CarriedMail, Tier
from fog_compute.p2p.bitchat.mail.couriers import CourierLimits, Couriers, MailState
from fog_compute.p2p.bitchat.mail.handovers import Handover, Nearness, Purpose
from fog_compute.p2p.bitchat.mail.sealed_mail import MAX_MAIL, MailOpened, SealLimits
from fog_compute.p2p.bitchat.wire.courier import CourierEnvelope, day_of, recipient_tag

HOUR = 3_600_000
NOW = 20_000 * 86_400_000 + 7 * HOUR
SECRETS = [betanet.NoiseSecret(bytes([number]) * 32) for number in range(1, 33)]
KEYS = [secret.public for secret in SECRETS]
ALICE, BOB, CARL, DORA, EMIL, FINN = KEYS[:6]


def node(number: int, *, friends: tuple[bytes, ...] = (), limits: CourierLimits | None = None,
         state: MailState | None = None) -> Couriers:  # fmt: skip
    return Couriers(
        SECRETS[number],
        lambda key: Tier.FRIEND if key in friends else Tier.PEER,
        limits,
        state,
    )


def envelope(number: int, to: bytes = BOB, *, copies: int = 1, at: int = NOW) -> CourierEnvelope:
    """One that nobody can open."""
    tag = recipient_tag(to, day_of(at))
    return CourierEnvelope(tag, at + 20 * HOUR, number.to_bytes(4, "big"), copies)


def posted(couriers: Couriers, near: tuple[bytes, ...], message_id: str = "m") -> list[Handover]:
    handovers = couriers.post(message_id, BOB, b"text to bob", near, NOW)
    assert handovers is not None
    return handovers


def said(opened: MailOpened | None) -> tuple[bytes, bytes] | None:
    return None if opened is None else (opened.sender, opened.payload)


def test_mail_goes_from_hand_to_hand_and_is_opened_once() -> None:
    """INV-BITCHAT-40."""
    alice, bob, carl, dora = (node(number) for number in range(4))
    (to_carl,) = posted(alice, (CARL,))
    assert (to_carl.purpose, to_carl.to) == (Purpose.POST, CARL)
    assert carl.received(to_carl.envelope, ALICE, NOW) is None
    alice.sent(to_carl.ticket, ok=True)

    (to_dora,) = carl.met(DORA, Nearness.PROVED, NOW + HOUR)
    assert (to_dora.purpose, to_dora.envelope.copies) == (Purpose.SPRAY, 2)
    assert dora.received(to_dora.envelope, CARL, NOW + HOUR) is None
    carl.sent(to_dora.ticket, ok=True)

    for courier, sender in ((carl, CARL), (dora, DORA)):
        (delivery,) = courier.met(BOB, Nearness.PROVED, NOW + 2 * HOUR)
        assert (delivery.purpose, delivery.envelope.copies) == (Purpose.DELIVER, 1)
        opened = bob.received(delivery.envelope, sender, NOW + 2 * HOUR)
        assert said(opened) == ((ALICE, b"text to bob") if courier is carl else None)
        courier.sent(delivery.ticket, ok=True)
        assert len(courier.carried) == 0
    assert bob.counts == {"opened": 1, "opened_before": 1}


def test_message_is_given_to_three_people_and_to_friends_first() -> None:
    alice = node(0, friends=(FINN,))
    handovers = posted(alice, (CARL, BOB, ALICE, DORA, EMIL, FINN))
    assert [one.to for one in handovers] == [FINN, CARL, DORA]
    assert len({one.envelope.ciphertext for one in handovers}) == 1
    # One that could not be given goes to the next who comes by.
    alice.sent(handovers[1].ticket, ok=False)
    (again,) = alice.met(EMIL, Nearness.PROVED, NOW)
    assert again.purpose is Purpose.POST
    assert alice.met(CARL, Nearness.PROVED, NOW) == []
    alice.settled("m", BOB)
    assert alice.met(KEYS[9], Nearness.PROVED, NOW) == []
    assert alice.next_expiry_ms is None


def test_mail_stays_until_the_link_took_it() -> None:
    carl = node(2)
    carl.received(envelope(1), ALICE, NOW)
    (first,) = carl.met(BOB, Nearness.PROVED, NOW)
    assert carl.met(BOB, Nearness.PROVED, NOW) == []
    carl.sent(first.ticket, ok=False)
    (second,) = carl.met(BOB, Nearness.PROVED, NOW)
    carl.sent(second.ticket, ok=True)
    carl.sent(second.ticket, ok=True)
    assert carl.counts == {"taken": 1, "deliver_lost": 1, "deliver_sent": 1}
    assert carl.met(BOB, Nearness.PROVED, NOW) == []


def test_whoever_only_says_to_be_the_recipient_gets_copies_now_and_then() -> None:
    """INV-BITCHAT-41."""
    carl = node(2)
    carl.received(envelope(1, copies=4), ALICE, NOW)
    times = (0, 1, 9, 10, 11, 25)
    sent = [carl.met(BOB, Nearness.DISTANT, NOW + minute * 60_000) for minute in times]
    assert [len(handovers) for handovers in sent] == [1, 0, 0, 1, 0, 1]
    assert sent[0][0].purpose is Purpose.SEND
    assert sent[0][0].envelope.copies == 1
    assert len(carl.carried) == 1
    # Nothing is sprayed or posted to somebody who is not there.
    assert carl.met(DORA, Nearness.DISTANT, NOW) == []


def test_copies_are_halved_and_what_did_not_arrive_is_taken_back() -> None:
    carl = node(2)
    carl.received(envelope(1, copies=7), ALICE, NOW)
    (one,) = carl.met(DORA, Nearness.PROVED, NOW)
    (two,) = carl.met(EMIL, Nearness.PROVED, NOW)
    assert (one.envelope.copies, two.envelope.copies) == (3, 2)
    assert carl.carried.items[0].envelope.copies == 2
    assert carl.met(DORA, Nearness.PROVED, NOW) == []
    assert carl.met(ALICE, Nearness.PROVED, NOW) == []
    carl.sent(one.ticket, ok=False)
    assert carl.carried.items[0].envelope.copies == 5
    (again,) = carl.met(DORA, Nearness.PROVED, NOW)
    assert again.envelope.copies == 2
    # The depositor's own packet, repeated, fills up nothing.
    carl.received(envelope(1, copies=8), ALICE, NOW)
    assert carl.carried.items[0].envelope.copies == 3
    carl.received(envelope(2, copies=1), ALICE, NOW)
    carl.received(envelope(2, copies=4), ALICE, NOW)
    assert carl.carried.items[1].envelope.copies == 4


def test_strangers_mail_is_refused_and_so_is_mail_that_came_over_others() -> None:
    carl = Couriers(SECRETS[2], lambda key: Tier.PEER if key == ALICE else None)
    carl.received(envelope(1), DORA, NOW)
    carl.received(envelope(2), None, NOW)
    carl.received(envelope(3), ALICE, NOW)
    assert carl.counts == {"stranger": 2, "taken": 1}
    # Whose mail we would not carry, we give none to.
    carl.received(envelope(4, copies=4), ALICE, NOW)
    assert carl.post("m", BOB, b"text", (DORA,), NOW) == []
    assert carl.met(DORA, Nearness.PROVED, NOW) == []


def test_mail_of_each_and_of_all_is_bounded_and_that_of_friends_stays() -> None:
    """INV-BITCHAT-42."""
    limits = CarriedLimits(most=6, most_of_peers=4, each={Tier.FRIEND: 3, Tier.PEER: 2})
    mail = CarriedMail(limits)
    taken = [
        mail.take_in(envelope(number), KEYS[number // 3], Tier.PEER, NOW) for number in range(9)
    ]
    assert taken == [True, True, False, True, True, False, False, False, False]
    assert mail.refused == {"depositor_full": 2, "peers_full": 3}
    friends = [
        mail.take_in(envelope(number), KEYS[number // 3], Tier.FRIEND, NOW)
        for number in range(30, 38)
    ]
    assert friends == [True] * 8
    assert [one.tier for one in mail.items] == [Tier.FRIEND] * 6
    assert not mail.take_in(envelope(50), KEYS[20], Tier.PEER, NOW)
    assert mail.refused["full"] == 1
    assert mail.refused["evicted"] == 6


def test_mail_ends_and_nobody_sets_an_end_beyond_a_day() -> None:
    """INV-BITCHAT-42."""
    carl = node(2)
    for hours, kept in ((0, 0), (-1, 0), (25, 1), (26, 1)):
        one = msgspec.structs.replace(envelope(hours + 5), expires_ms=NOW + hours * HOUR)
        carl.received(one, ALICE, NOW)
        assert len(carl.carried) == kept
    assert carl.counts["expired"] == 2
    assert carl.carried.refused == {"expiry": 1}
    assert carl.next_expiry_ms == NOW + 25 * HOUR
    assert carl.met(BOB, Nearness.PROVED, NOW + 25 * HOUR) == []
    assert len(carl.carried) == 0
    alice = node(0)
    posted(alice, (CARL,), "old")
    assert alice.next_expiry_ms == NOW + 24 * HOUR
    assert alice.expire(NOW + 24 * HOUR - 1) == []
    assert alice.expire(NOW + 24 * HOUR) == [("old", BOB)]


def test_own_mail_is_bounded_and_long_messages_do_not_go_this_way() -> None:
    alice = node(0, limits=CourierLimits(own=4, own_each=3))
    assert [alice.post(f"b{n}", BOB, b"text", (), NOW) for n in range(4)] == [[], [], [], None]
    assert [alice.post(f"d{n}", DORA, b"text", (), NOW) for n in range(2)] == [[], None]
    assert alice.post("long", EMIL, bytes(MAX_MAIL + 1), (), NOW) is None
    alice.settled("d0", DORA)
    assert alice.post("fits", EMIL, bytes(MAX_MAIL), (), NOW) == []
    alice.settled("fits", EMIL)
    assert alice.post("weak", bytes(32), b"text", (), NOW) is None
    assert alice.counts == {"own_full": 2, "too_long": 1, "weak_key": 1}
    assert len(alice.state.own[0].envelope.encode()) > 0


def test_all_of_it_survives_a_restart_and_what_was_leaving_stays() -> None:
    alice, carl = node(0), node(2)
    posted(alice, (CARL,))
    carl.received(envelope(1, copies=4), ALICE, NOW)
    carl.met(DORA, Nearness.PROVED, NOW)
    carl.met(BOB, Nearness.PROVED, NOW)
    kept = [
        msgspec.msgpack.decode(msgspec.msgpack.encode(one.state), type=MailState)
        for one in (alice, carl)
    ]
    alice, carl = node(0, state=kept[0]), node(2, state=kept[1])
    (delivery,) = carl.met(BOB, Nearness.PROVED, NOW)
    assert delivery.purpose is Purpose.DELIVER
    assert carl.carried.items[0].envelope.copies == 2
    assert alice.met(CARL, Nearness.PROVED, NOW) == []
    (post,) = alice.met(DORA, Nearness.PROVED, NOW)
    opened = node(1).received(post.envelope, None, NOW)
    assert said(opened) == (ALICE, b"text to bob")


def test_what_is_for_us_and_cannot_be_opened_is_counted() -> None:
    bob = node(1)
    assert bob.received(envelope(1), ALICE, NOW) is None
    other = betanet.noise_x_seal(CARL, b"bitchat-courier-v1", b"text", SECRETS[0])
    wrong = msgspec.structs.replace(envelope(1), ciphertext=other)
    assert bob.received(wrong, ALICE, NOW) is None
    prekey = msgspec.structs.replace(envelope(2), prekey=7)
    assert bob.received(prekey, ALICE, NOW) is None
    assert bob.counts == {"wrong_length": 1, "bad_tag": 1, "unknown_prekey": 1}


def test_courier_gets_no_more_than_it_is_likely_to_take() -> None:
    alice = node(0, friends=(DORA,))
    for number in range(9):
        alice.post(f"{number}", BOB, b"x", (), NOW)
    assert len(alice.met(CARL, Nearness.PROVED, NOW)) == 2
    assert len(alice.met(DORA, Nearness.PROVED, NOW)) == 5
    carl = node(2)
    for number in range(4):
        carl.received(envelope(number, copies=4), KEYS[10 + number], NOW)
    handovers = carl.met(DORA, Nearness.PROVED, NOW)
    assert [one.purpose for one in handovers] == [Purpose.SPRAY] * 2
    assert carl.met(DORA, Nearness.PROVED, NOW) == []
    carl.sent(handovers[0].ticket, ok=False)
    assert len(carl.met(DORA, Nearness.PROVED, NOW)) == 1


def test_handovers_without_an_answer_are_taken_for_lost() -> None:
    alice = node(0, limits=CourierLimits(under_way=3))
    handovers = posted(alice, (CARL, DORA, EMIL))
    assert alice.met(FINN, Nearness.PROVED, NOW) == []
    handovers += alice.post("other", EMIL, b"x", (CARL, DORA), NOW) or []
    assert alice.counts == {"post_lost": 2}
    assert [one.to for one in alice.met(FINN, Nearness.PROVED, NOW)] == [FINN, FINN]


def meetings(seed: int, *, couriers: bool, lost: float = 0.1) -> tuple[bool, int, int]:
    """A day of 30 people who meet by chance; the sender never meets the recipient.

    Returns:
        Whether a message arrived, how many people held it at most, and how often it was opened.
    """
    rng = Random(seed)
    people = [node(number) for number in range(30)]
    posted(people[0], ())
    opened = most = 0
    for minute in range(24 * 60 - 1):
        now = NOW + minute * 60_000
        pairs = rng.sample(range(30), 2)
        if set(pairs) == {0, 1} or (not couriers and 0 in pairs):
            continue
        for here, there in (pairs, pairs[::-1]):
            for handover in people[here].met(KEYS[there], Nearness.PROVED, now):
                ok = rng.random() >= lost
                if ok and people[there].received(handover.envelope, KEYS[here], now):
                    opened += 1
                people[here].sent(handover.ticket, ok=ok)
        most = max(most, sum(len(one.carried) for one in people))
    assert all(not one.expire(NOW + 25 * HOUR) or one is people[0] for one in people)
    assert sum(len(one.carried) for one in people) == 0
    return opened > 0, most, opened


def test_couriers_carry_what_could_not_arrive_otherwise() -> None:
    """INV-BITCHAT-43."""
    runs = [meetings(seed, couriers=True) for seed in range(12)]
    assert all(arrived for arrived, _, _ in runs)
    # Three couriers with four copies each, and no more, however often people meet.
    assert max(most for _, most, _ in runs) == 12
    assert {opened for _, _, opened in runs} == {1}
    assert meetings(3, couriers=False) == (False, 0, 0)


@pytest.mark.slow
def test_mail_arrives_in_nearly_every_world() -> None:
    runs = [meetings(seed, couriers=True, lost=0.3) for seed in range(100)]
    assert sum(arrived for arrived, _, _ in runs) >= 99
    assert max(most for _, most, _ in runs) <= 12


def test_message_to_several_is_mail_for_each_of_them_until_it_arrived_there() -> None:
    """INV-BITCHAT-40."""
    alice, dora, emil = node(0), node(3), node(4)
    for recipient in (DORA, EMIL):
        assert alice.post("m", recipient, b"to a group", [], NOW) == []
    assert len(alice.state.own) == 2

    alice.settled("m", DORA)

    (to_carl,) = alice.met(CARL, Nearness.LINKED, NOW)
    assert not dora.is_ours(to_carl.envelope, NOW)
    assert said(emil.received(to_carl.envelope, None, NOW)) == (ALICE, b"to a group")


def again_later(one: CourierEnvelope, days: int) -> CourierEnvelope:
    """What a courier makes of a copy that he kept: he knows the recipient's key."""
    at = NOW + days * 24 * HOUR
    tag = recipient_tag(BOB, day_of(at))
    return msgspec.structs.replace(one, tag=tag, expires_ms=at + HOUR)


def test_mail_that_was_kept_is_not_opened_again_whatever_a_courier_makes_of_it() -> None:
    """INV-BITCHAT-86."""
    alice, bob = node(0), node(1)
    (to_carl,) = posted(alice, (CARL,))
    opened = bob.received(to_carl.envelope, None, NOW)
    assert opened is not None
    # Its message may have been lost with the process: after a restart a copy is taken.
    assert said(node(1, state=bob.state).received(to_carl.envelope, None, NOW)) == said(opened)
    bob.taken(opened.name, opened.sender)
    stored = msgspec.msgpack.decode(msgspec.msgpack.encode(bob.state), type=MailState)
    for days in (0, 1, 8, 400):
        late = again_later(to_carl.envelope, days)
        for one in (bob, node(1, state=stored)):
            at = NOW + days * 24 * HOUR
            assert one.is_ours(late, at)
            assert one.received(late, None, at) is None
    assert bob.counts == {"opened": 1, "opened_before": 4}


def test_strangers_push_out_nothing_that_friends_sent() -> None:
    """INV-BITCHAT-86."""
    limits = CourierLimits(seal=SealLimits(opening=5, kept={Tier.FRIEND: 2, Tier.PEER: 3}))
    bob = node(1, friends=(ALICE,), limits=limits)
    (of_friend,) = posted(node(0), (CARL,))
    opened = bob.received(of_friend.envelope, None, NOW)
    assert opened is not None
    bob.taken(opened.name, opened.sender)
    for number in range(12):
        (one,) = posted(node(3), (CARL,), f"{number}")
        stranger = bob.received(one.envelope, None, NOW)
        assert stranger is not None
        bob.taken(stranger.name, stranger.sender)
    assert {tier: len(names) for tier, names in bob.state.opened.items()} == {
        Tier.FRIEND: 1,
        Tier.PEER: 3,
    }
    assert bob.received(of_friend.envelope, None, NOW) is None
