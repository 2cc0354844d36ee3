"""The router's decisions, one at a time."""

from __future__ import annotations

import dataclasses
from random import Random

import msgspec
import pytest

from fog_compute.p2p.core.actions import (
    CarryReceipt,
    Confirm,
    Keep,
    News,
    Offer,
    OutcomeTold,
    Progress,
    StandingChanged,
    TransportChanged,
    Wake,
    WakeAt,
)
from fog_compute.p2p.core.groups import Groups
from fog_compute.p2p.core.inbox import InboxLimits, Refusal, Standing
from fog_compute.p2p.core.messages import (
    MAX_LIFE_MS,
    DecentralizedMessage,
    DeliveryState,
    InvalidMessage,
    MessageId,
    MessageKind,
    Priority,
    new_stream,
    public_id,
)
from fog_compute.p2p.core.outbox import OutboxLimits
from fog_compute.p2p.core.router import RouterPolicy
from fog_compute.p2p.core.standings import Standings
from fog_compute.p2p.core.transport import (
    EVERYBODY,
    Arrival,
    Outcome,
    OutcomeState,
    Reach,
    Reachability,
)
from tests.unit.fog_compute.p2p.core.desk import (
    ANN,
    BLE,
    BOB,
    EVE,
    GROUP,
    HTX,
    ZOE,
    Desk,
    from_bob,
    receipt,
)
from tests.unit.fog_compute.p2p.core.world import CAN_HTX, START


def test_message_is_kept_before_anything_is_done_for_it() -> None:
    """INV-P2P-05."""
    desk = Desk()
    desk.up(htx=True)

    id_ = desk.say()

    assert isinstance(desk.actions[0], Keep)
    assert [one.key.id for one in desk.offers()] == [id_]
    assert desk.book.find(ANN, id_) is not None


def test_arrival_is_kept_before_it_is_confirmed() -> None:
    """INV-P2P-04."""
    desk = Desk()

    actions = desk.arrive(from_bob("hi"))

    kinds = [type(one) for one in actions]
    assert kinds.index(Keep) < kinds.index(News) < kinds.index(Confirm)


def test_messages_of_a_conversation_are_numbered_and_of_another_lane_apart() -> None:
    """INV-P2P-01."""
    desk = Desk()

    ids = [MessageId.parse(desk.say(str(number))) for number in range(3)]
    other = MessageId.parse(desk.say(priority=Priority.HIGH))
    desk.again()
    more = MessageId.parse(desk.say())

    assert [one.sequence for one in ids if one] == [0, 1, 2]
    assert other is not None
    assert other.sequence == 0
    assert more is not None
    assert (more.stream, more.sequence) == (ids[0].stream if ids[0] else "", 3)


def test_nobody_reachable_means_the_outbox_until_somebody_is() -> None:
    """INV-P2P-07."""
    desk = Desk()
    id_ = desk.say()
    assert desk.offers() == []
    assert desk.state(id_) is DeliveryState.QUEUED

    desk.up(htx=True)

    assert [one.transport for one in desk.offers()] == [HTX]


def test_message_that_must_not_wait_fails_at_once_and_says_why() -> None:
    """INV-P2P-07."""
    desk = Desk()
    desk.do(TransportChanged(HTX, dataclasses.replace(CAN_HTX, unavailable_because="offline")))

    id_ = desk.say(offline_capable=False)

    progress = [one for one in desk.actions if isinstance(one, Progress)]
    assert [(one.state, one.reason) for one in progress] == [(DeliveryState.FAILED, "htx: offline")]
    assert desk.book.deliveries[id_, BOB].reason == "htx: offline"


def test_accepted_without_receipt_goes_over_another_transport() -> None:
    """INV-P2P-05."""
    desk = Desk()
    desk.up(htx=True, ble=Reach.DIRECT)
    id_ = desk.say()
    assert [one.transport for one in desk.offers()] == [BLE]
    desk.answer(OutcomeState.ACCEPTED)
    assert desk.state(id_) is DeliveryState.ACCEPTED

    desk.wait(5.1)

    assert [(one.transport, one.key.id) for one in desk.offers()] == [(HTX, id_)]
    assert desk.offers()[0].attempt == 1


def test_transport_that_goes_gives_back_what_it_had() -> None:
    """INV-P2P-05."""
    desk = Desk()
    desk.up(htx=True, ble=Reach.DIRECT)
    desk.say()
    late = desk.offers()[0]
    desk.do(TransportChanged(BLE, None))
    assert [one.transport for one in desk.offers()] == [HTX]

    desk.answer(OutcomeState.ACCEPTED, late)

    assert desk.state(late.key.id) is DeliveryState.SENDING


def test_peer_that_goes_gets_it_over_another_transport() -> None:
    """INV-P2P-05."""
    desk = Desk()
    desk.up(htx=True, ble=Reach.MESH)
    desk.say()
    desk.answer(OutcomeState.ACCEPTED)

    desk.do(Reachability(BLE, BOB, Reach.NONE))

    assert [one.transport for one in desk.offers()] == [HTX]


def test_stored_message_is_waited_for_and_goes_again_as_another_attempt() -> None:
    """INV-P2P-05."""
    desk = Desk()
    desk.up(htx=True)
    id_ = desk.say()
    desk.answer(OutcomeState.STORED)
    assert desk.state(id_) is DeliveryState.STORED
    desk.wait(899.0)
    assert desk.offers() == []

    desk.wait(2.0)

    assert [(one.transport, one.attempt) for one in desk.offers()] == [(HTX, 1)]


def test_stored_message_goes_to_somebody_who_turns_up_nearby() -> None:
    """INV-P2P-05."""
    desk = Desk()
    desk.up(htx=True)
    desk.say()
    desk.answer(OutcomeState.STORED)

    desk.up(ble=Reach.DIRECT)
    assert desk.offers() == []
    desk.wait(10.0)

    assert [one.transport for one in desk.offers()] == [BLE]


def test_failure_is_tried_again_after_growing_pauses() -> None:
    """INV-P2P-05."""
    desk = Desk()
    desk.up(htx=True)
    desk.say()
    for pause in (1.0, 2.0, 4.0):
        desk.answer(OutcomeState.FAILED, reason="no answer")
        assert desk.offers() == []
        desk.wait(pause - 0.1)
        assert desk.offers() == []
        desk.wait(0.2)
        assert len(desk.offers()) == 1


def test_nothing_waits_out_a_pause_when_a_transport_is_back() -> None:
    """INV-P2P-05, INV-P2P-10."""
    desk = Desk()
    desk.up(htx=True)
    desk.say()
    for _ in range(6):
        desk.answer(OutcomeState.FAILED)
        desk.wait(200)
    desk.answer(OutcomeState.FAILED)
    desk.do(TransportChanged(HTX, dataclasses.replace(CAN_HTX, unavailable_because="offline")))
    desk.arrive(from_bob("x"))
    for _ in range(6):
        desk.wait(300)
    assert desk.offers() == []

    desk.do(TransportChanged(HTX, CAN_HTX))

    assert len(desk.offers()) == 1
    assert len([one for one in desk.actions if isinstance(one, CarryReceipt)]) == 1


def test_failure_that_no_try_mends_ends_it_when_no_transport_is_left() -> None:
    """INV-P2P-05."""
    desk = Desk()
    desk.up(htx=True)
    id_ = desk.say()

    desk.answer(OutcomeState.FAILED, reason="they take no files", permanent=True)

    assert desk.state(id_) is DeliveryState.FAILED
    assert desk.book.deliveries[id_, BOB].reason == "they take no files"


def test_offer_without_answer_is_taken_back() -> None:
    """INV-P2P-05."""
    desk = Desk()
    desk.up(htx=True)
    desk.say()
    desk.wait(61.0)
    desk.wait(1.0)

    assert len(desk.offers()) == 1


def test_message_whose_time_is_over_expires_and_the_next_begins_a_stream() -> None:
    """INV-P2P-05: nobody waits for what never comes."""
    desk = Desk(RouterPolicy(life_ms=5_000))
    first = MessageId.parse(desk.say())

    desk.wait(5.1)
    second = MessageId.parse(desk.say())

    assert first is not None
    assert second is not None
    assert desk.state(str(first)) is DeliveryState.EXPIRED
    assert (second.sequence, second.stream == first.stream) == (0, False)


def test_no_message_lives_longer_than_its_id_is_remembered() -> None:
    """INV-P2P-04."""
    desk = Desk()
    id_ = desk.say(expires_ms=int(START * 1000) + 2 * MAX_LIFE_MS)

    kept = desk.book.find(ANN, id_)

    assert kept is not None
    assert kept.expires_ms - kept.created_ms == MAX_LIFE_MS
    with pytest.raises(InvalidMessage, match="expires_ms"):
        desk.say(expires_ms=5)


def test_window_of_a_conversation_is_bounded_and_opens_with_receipts() -> None:
    """INV-P2P-08."""
    desk = Desk(RouterPolicy(outbox=OutboxLimits(window=3)))
    desk.up(ble=Reach.DIRECT)
    offered: list[Offer] = []
    for number in range(8):
        desk.say(str(number))
        offered += desk.offers()
    assert len(offered) == 3

    desk.arrive(receipt(offered[0].key.id, offered[2].key.id))

    assert len(desk.offers()) == 2
    assert desk.state(offered[2].key.id) is DeliveryState.DELIVERED


def test_higher_priority_goes_first_and_peers_take_turns() -> None:
    """INV-P2P-08."""
    desk = Desk(RouterPolicy(outbox=OutboxLimits(window=2)))
    for peer in (BOB, ZOE):
        for number in range(3):
            desk.say(f"{number}", to=peer)
    urgent = desk.say(to=ZOE, priority=Priority.URGENT)
    desk.do(TransportChanged(HTX, CAN_HTX))
    desk.do(Reachability(HTX, BOB, Reach.ADDRESS))
    first = desk.offers()
    desk.do(Reachability(HTX, ZOE, Reach.ADDRESS))

    assert [one.key.receiver for one in first] == [BOB, BOB]
    assert desk.offers()[0].key.id == urgent
    assert [one.key.receiver for one in desk.offers()] == [ZOE, ZOE, ZOE]


def test_message_that_comes_again_is_not_shown_and_its_receipt_is_sent_again() -> None:
    """INV-P2P-04, INV-P2P-10."""
    desk = Desk()
    desk.up(htx=True)
    for one in (from_bob("ours"), from_bob("theirs", "an id of the app")):
        desk.arrive(one)
        desk.wait(0.1)
        sent = [each for each in desk.actions if isinstance(each, CarryReceipt)]
        desk.do(OutcomeTold(HTX, Outcome(sent[0].message.id, BOB, OutcomeState.STORED)))
        desk.again()
        desk.up(htx=True)

        actions = desk.arrive(one)

        assert isinstance(actions[-2], Confirm) or isinstance(actions[-1], Confirm)
        assert len(desk.book.receipts) == 1
        desk.wait(0.1)
        sent = [each for each in desk.actions if isinstance(each, CarryReceipt)]
        desk.do(OutcomeTold(HTX, Outcome(sent[0].message.id, BOB, OutcomeState.STORED)))

    assert desk.shown() == ["ours", "theirs"]


def test_message_out_of_order_waits_also_over_a_restart_and_then_no_longer() -> None:
    """INV-P2P-06."""
    desk = Desk(RouterPolicy(inbox=InboxLimits(patience_s=60)))
    desk.arrive(from_bob("0", 0))
    desk.arrive(from_bob("2", 2))
    assert desk.shown() == ["0"]
    desk.now += 30
    desk.again()
    desk.wait(29)
    assert desk.shown() == ["0"]
    desk.wait(2)
    assert desk.shown() == ["0", "2"]

    desk.arrive(from_bob("1", 1))
    desk.arrive(from_bob("1", 1))

    assert desk.shown() == ["0", "2", "1"]
    assert [one.late for one in desk.book.entries()] == [False, False, True]


def test_foreign_id_of_one_sender_keeps_nothing_of_another_away() -> None:
    """INV-P2P-04, INV-P2P-09: neither is what nobody proved."""
    desk = Desk()
    same = "1B4E28BA-2FA1-11D2-883F-0016D3CCA427"

    desk.arrive(from_bob("forged", same), proved=False)
    desk.arrive(from_bob("from eve", same, sender=EVE))
    desk.arrive(from_bob("from bob", same))
    desk.arrive(from_bob("forged again", same), proved=False)

    assert desk.shown() == ["forged", "from eve", "from bob"]
    assert [one.verified for one in desk.book.entries()] == [False, True, True]


@pytest.mark.parametrize(
    ("message", "proved", "refusal"),
    [
        (from_bob("x", id=""), True, Refusal.MALFORMED),
        (from_bob("x", receiver_id=ZOE), True, Refusal.MALFORMED),
        (from_bob("x", media_type="?"), True, Refusal.MALFORMED),
        (from_bob("x", sender=ANN), True, Refusal.OWN),
        (from_bob("x", sender="cc" * 32), True, Refusal.BLOCKED),
        (from_bob("x", created_ms=1, expires_ms=1000), True, Refusal.EXPIRED),
        (from_bob("x", created_ms=9, expires_ms=8), True, Refusal.MALFORMED),
        (from_bob("x", created_ms=9, expires_ms=10 + MAX_LIFE_MS), True, Refusal.MALFORMED),
        (from_bob("x", kind=MessageKind.CONTROL), False, Refusal.UNVERIFIED),
        (from_bob("x", kind=MessageKind.FILE, room=GROUP), False, Refusal.UNVERIFIED),
        (from_bob("x", room=GROUP, receiver_id=None, sender=EVE), True, Refusal.NOT_MEMBER),
    ],
)
def test_what_is_not_taken_is_confirmed_and_counted(
    message: DecentralizedMessage, proved: bool, refusal: Refusal
) -> None:
    """INV-P2P-09."""
    desk = Desk()
    desk.form(ANN, BOB)
    desk.do(StandingChanged("cc" * 32, Standing.BLOCKED))

    actions = desk.arrive(message, proved=proved)

    assert [type(one) for one in actions if not isinstance(one, WakeAt)] == [Confirm]
    assert desk.router.refused == {refusal: 1}
    assert desk.shown() == []


def test_of_strangers_nothing_is_noted_however_many_are_met() -> None:
    """INV-P2P-09."""
    groups = Groups(ANN)
    standings = Standings({EVE: Standing.BLOCKED}, groups)
    for number in range(30):
        standings.change(f"{number:064x}", Standing.STRANGER)
    standings.change(EVE, Standing.STRANGER)

    assert len(standings) == 0
    assert standings.is_stranger(EVE)


def test_strangers_are_bounded_and_known_people_are_not() -> None:
    """INV-P2P-09."""
    limits = InboxLimits(stranger_messages=2, strangers_messages=3, streams=2, seen=4)
    desk = Desk(RouterPolicy(inbox=limits))
    for number in range(4):
        desk.arrive(from_bob("eve", f"e{number}", sender=EVE))
        desk.arrive(from_bob("mal", f"m{number}", sender="33" * 32))
        desk.arrive(from_bob("bob", number))
    assert desk.shown().count("eve") + desk.shown().count("mal") == 3
    assert desk.shown().count("bob") == 4
    assert desk.router.refused == {Refusal.STRANGER_FULL: 5}

    desk.now += 86_400
    desk.arrive(from_bob("eve", "tomorrow", sender=EVE))

    assert desk.shown()[-1] == "eve"


def test_whom_one_wrote_to_is_no_stranger_and_who_shares_a_group_neither() -> None:
    """INV-P2P-09."""
    desk = Desk(RouterPolicy(inbox=InboxLimits(stranger_messages=1)))
    desk.say(to=EVE)
    desk.form(ANN, "33" * 32)
    desk.again()
    for number in range(3):
        desk.arrive(from_bob("eve", f"e{number}", sender=EVE))
        desk.arrive(from_bob("member", f"m{number}", sender="33" * 32))
        desk.arrive(from_bob("other", f"o{number}", sender="44" * 32))
        desk.arrive(from_bob("as if by eve", f"f{number}", sender=EVE), proved=False)

    assert desk.shown().count("eve") == desk.shown().count("member") == 3
    assert desk.shown().count("other") == desk.shown().count("as if by eve") == 1


def test_streams_and_opaque_ids_of_a_sender_are_bounded() -> None:
    """INV-P2P-09."""
    desk = Desk(RouterPolicy(inbox=InboxLimits(streams=2, seen=3)))
    for number in range(3):
        desk.arrive(from_bob("s", str(MessageId(new_stream(Random(number)), 0))))
    for number in range(4):
        desk.arrive(from_bob("o", f"opaque {number}"))

    assert desk.shown() == ["s", "s", "o", "o", "o"]
    assert desk.router.refused == {Refusal.STREAMS_FULL: 1, Refusal.SEEN_FULL: 1}
    desk.now += MAX_LIFE_MS / 1000 + 8000
    desk.do(Wake())
    fresh = {"created_ms": int(desk.now * 1000)}
    desk.arrive(from_bob("s", str(MessageId(new_stream(Random(9)), 0)), **fresh))
    desk.arrive(from_bob("o", "opaque 9", **fresh))
    assert desk.shown()[-2:] == ["s", "o"]


def test_group_message_has_one_id_for_all_and_a_state_for_each() -> None:
    """INV-P2P-11."""
    desk = Desk()
    desk.form(ANN, BOB, ZOE)
    desk.up(htx=True)
    desk.do(Reachability(HTX, ZOE, Reach.ADDRESS))

    id_ = desk.say(to=None, room=GROUP)
    assert {one.key for one in desk.offers()} == {(id_, BOB), (id_, ZOE)}
    desk.arrive(receipt(id_))

    assert desk.state(id_) is DeliveryState.DELIVERED
    assert desk.state(id_, ZOE) is DeliveryState.SENDING


def test_group_of_other_members_is_another_stream() -> None:
    """INV-P2P-11: nobody waits for what went out before they were in it."""
    desk = Desk()
    desk.form(ANN, BOB)
    first = MessageId.parse(desk.say(to=None, room=GROUP))
    desk.form(ANN, BOB, ZOE)
    second = MessageId.parse(desk.say(to=None, room=GROUP))

    assert first is not None
    assert second is not None
    assert (second.sequence, second.stream == first.stream) == (0, False)
    with pytest.raises(InvalidMessage, match="no group"):
        desk.say(to=None, room="ff" * 16)


def test_what_goes_to_all_floods_once_and_goes_to_those_who_are_named() -> None:
    """INV-P2P-11."""
    desk = Desk()
    desk.up(htx=True, ble=Reach.MESH)
    message = DecentralizedMessage(body=b" hello all ")

    id_, actions = desk.router.submit(message, desk.now, [BOB, ANN, BOB])
    desk._took(actions)

    # Bob is near, so his copy comes by the flood; the direct one makes sure.
    assert {one.key for one in desk.offers()} == {(id_, EVERYBODY), (id_, BOB)}
    kept = desk.book.find(ANN, id_)
    assert kept is not None
    assert id_ == public_id(kept) == public_id(msgspec.structs.replace(kept, body=b"hello all"))
    for offer in desk.offers():
        if offer.key.receiver == EVERYBODY:
            desk.answer(OutcomeState.ACCEPTED, offer)
    assert desk.router.submit(message, desk.now)[0] != id_
    desk.again()
    assert desk.router.waiting == 1


def test_flood_is_not_private_and_receipts_are_not_sent_by_hand() -> None:
    """INV-P2P-07."""
    desk = Desk()

    with pytest.raises(InvalidMessage, match="not private"):
        desk.say(to=None, requires_privacy=True)
    with pytest.raises(InvalidMessage, match="receipts"):
        desk.say(kind=MessageKind.RECEIPT)
    with pytest.raises(InvalidMessage, match="your own"):
        desk.say(to=ANN)
    desk.do(StandingChanged(BOB, Standing.BLOCKED))
    with pytest.raises(InvalidMessage, match="--undo"):
        desk.say()


def test_late_news_of_a_transport_counts() -> None:
    """INV-P2P-02."""
    desk = Desk()
    desk.up(ble=Reach.COURIER)
    id_ = desk.say()
    desk.answer(OutcomeState.QUEUED)
    assert desk.state(id_) is DeliveryState.ACCEPTED

    desk.do(OutcomeTold(BLE, Outcome(id_, BOB, OutcomeState.STORED)))

    assert desk.state(id_) is DeliveryState.STORED
    assert desk.router.state("another", BOB) is None


def test_reach_over_a_transport_that_is_not_there_says_nothing() -> None:
    desk = Desk()

    desk.do(Reachability(HTX, BOB, Reach.ADDRESS))
    desk.do(TransportChanged(HTX, CAN_HTX))
    desk.say()

    assert desk.offers() == []


def test_stranger_does_not_fill_a_gap_of_his_own_making_beyond_his_share() -> None:
    """INV-P2P-09."""
    desk = Desk(RouterPolicy(inbox=InboxLimits(patience_s=60, stranger_messages=4)))
    desk.arrive(from_bob("far ahead", 1_000_000, sender=EVE))
    desk.arrive(from_bob("far ahead", 1_000_000, sender=EVE))  # a copy is not counted
    desk.wait(61)
    assert desk.shown() == ["far ahead"]

    for number in range(10):
        desk.arrive(from_bob("late", number, sender=EVE))

    assert desk.shown().count("late") == 3
    assert desk.router.refused == {Refusal.REPEATED: 1, Refusal.STRANGER_FULL: 7}


def test_news_of_one_copy_says_nothing_of_others_nor_that_of_one_transport_of_another() -> None:
    """INV-P2P-05: a group's message has one id for all its members."""
    desk = Desk()
    desk.form(ANN, BOB, ZOE)
    desk.up(ble=Reach.MESH)
    desk.do(Reachability(BLE, ZOE, Reach.MESH))
    id_ = desk.say(to=None, room=GROUP)
    for offer in desk.offers():
        desk.answer(OutcomeState.QUEUED, offer)

    desk.do(OutcomeTold(BLE, Outcome(id_, BOB, OutcomeState.FAILED)))
    desk.do(OutcomeTold(HTX, Outcome(id_, ZOE, OutcomeState.FAILED)))

    assert desk.state(id_, BOB) is DeliveryState.QUEUED
    assert desk.state(id_, ZOE) is DeliveryState.ACCEPTED


def test_router_that_begins_again_knows_what_the_book_knows_and_who_is_near() -> None:
    """INV-P2P-04, INV-P2P-13: what was decided, and could not be written, was not."""
    desk = Desk()
    desk.up(ble=Reach.DIRECT)
    kept = desk.say("kept")
    old = desk.offers()[0]
    desk.router.submit(DecentralizedMessage(body=b"lost", receiver_id=BOB), desk.now)
    desk.router.handle(Arrival(HTX, from_bob("lost"), True, "token"), desk.now)

    desk.router.begin_again(desk.book.state(desk.now), desk.now)
    desk.do(Wake())

    assert [one.key.id for one in desk.offers()] == [kept]
    assert any(isinstance(one, WakeAt) for one in desk.actions)
    desk.answer(OutcomeState.FAILED, old)
    assert desk.state(kept) is DeliveryState.SENDING
    after = MessageId.parse(desk.say("after"))
    assert after is not None
    assert after.sequence == 1
    desk.arrive(from_bob("lost"))
    assert desk.shown() == ["lost"]


@pytest.mark.parametrize(
    ("life_s", "late_s", "is_shown"),
    [
        (3, 12, True),
        (3, 14, False),
        (1000, 1200, True),
        (1000, 1300, False),
        (86_400, 89_000, True),
    ],
)
def test_what_is_to_be_gone_soon_is_not_shown_long_after(
    life_s: int, late_s: int, is_shown: bool
) -> None:
    """INV-P2P-47."""
    desk = Desk()
    message = from_bob("brief", expires_ms=int(START + life_s) * 1000)
    desk.now += late_s

    desk.arrive(message)

    assert desk.shown() == ["brief"][: int(is_shown)]
    assert desk.router.refused == ({} if is_shown else {Refusal.EXPIRED: 1})


def test_what_goes_to_one_person_is_in_no_room() -> None:
    """INV-P2P-47."""
    desk = Desk()

    with pytest.raises(InvalidMessage, match="in no room"):
        desk.say(room="lab")
    desk.arrive(from_bob("as if others heard it", 0, room="lab"))
    desk.arrive(from_bob("of a group", 1, room=GROUP))

    assert [one.message.room for one in desk.book.entries()] == ["", GROUP]
