"""What a router does so that others know that their messages are here, or were read."""

from __future__ import annotations

import pytest

from fog_compute.p2p.core.actions import (
    CarryReceipt,
    OutcomeTold,
    TransportChanged,
    Wake,
)
from fog_compute.p2p.core.book import ReceiptOwed
from fog_compute.p2p.core.inbox import Refusal
from fog_compute.p2p.core.messages import (
    DeliveryState,
    MessageId,
    MessageKind,
    Receipt,
)
from fog_compute.p2p.core.receipts import IN_ALL, Receipts
from fog_compute.p2p.core.transport import (
    Outcome,
    OutcomeState,
    Reach,
    Reachability,
)
from tests.unit.fog_compute.p2p.core.desk import (
    BLE,
    BOB,
    EVE,
    HTX,
    STREAM,
    Desk,
    from_bob,
    receipt,
)
from tests.unit.fog_compute.p2p.core.world import CAN_HTX, START


def carried(desk: Desk) -> CarryReceipt:
    return next(one for one in desk.actions if isinstance(one, CarryReceipt))


def is_carried(desk: Desk) -> bool:
    return any(isinstance(one, CarryReceipt) for one in desk.actions)


def told(desk: Desk, carry: CarryReceipt, state: OutcomeState) -> None:
    desk.do(OutcomeTold(carry.transport, Outcome(carry.message.id, BOB, state)))


def test_receipt_counts_from_the_recipient_with_proof_alone() -> None:
    """INV-P2P-10."""
    desk = Desk()
    desk.up(htx=True)
    id_ = desk.say()
    desk.arrive(receipt(id_, sender=EVE))
    desk.arrive(receipt(id_), proved=False)
    assert desk.state(id_) is DeliveryState.SENDING
    assert desk.router.refused == {Refusal.UNASKED: 1, Refusal.UNVERIFIED: 1}

    desk.arrive(receipt(id_))
    desk.arrive(receipt(id_, state=DeliveryState.READ))
    desk.arrive(receipt(id_))

    assert desk.state(id_) is DeliveryState.READ
    assert desk.book.deliveries[id_, BOB].state is DeliveryState.READ


def test_receipt_for_a_message_of_an_earlier_run_is_written_down() -> None:
    """INV-P2P-10."""
    desk = Desk()
    desk.up(htx=True)
    id_ = desk.say()
    desk.arrive(receipt(id_))
    desk.again()

    desk.arrive(receipt(id_, "no such message", state=DeliveryState.READ))

    assert desk.book.deliveries[id_, BOB].state is DeliveryState.READ
    assert len(desk.book.deliveries) == 1


def test_broken_receipt_is_counted() -> None:
    """INV-P2P-10."""
    desk = Desk()

    desk.arrive(from_bob("what?", kind=MessageKind.RECEIPT))

    assert desk.router.refused == {Refusal.MALFORMED: 1}


def test_receipts_go_together_and_are_owed_until_a_transport_has_them() -> None:
    """INV-P2P-10."""
    desk = Desk()
    desk.up(htx=True)
    for number in range(3):
        desk.arrive(from_bob("x", number))
    desk.again()
    desk.up(htx=True)
    carried = [one for one in desk.actions if isinstance(one, CarryReceipt)]
    assert [Receipt.parse(one.message.body).ids for one in carried] == [
        tuple(str(MessageId(STREAM, number)) for number in range(3))
    ]
    desk.do(OutcomeTold(HTX, Outcome(carried[0].message.id, BOB, OutcomeState.FAILED)))
    assert len(desk.book.receipts) == 3
    desk.wait(1.1)
    carried = [one for one in desk.actions if isinstance(one, CarryReceipt)]

    desk.do(OutcomeTold(HTX, Outcome(carried[0].message.id, BOB, OutcomeState.STORED)))

    assert not desk.book.receipts


def test_receipt_goes_again_when_its_transport_went() -> None:
    """INV-P2P-10."""
    desk = Desk()
    desk.up(htx=True, ble=Reach.DIRECT)
    desk.arrive(from_bob("x"))
    desk.wait(0.1)
    assert [one.transport for one in desk.actions if isinstance(one, CarryReceipt)] == [BLE]

    desk.do(TransportChanged(BLE, None))

    assert [one.transport for one in desk.actions if isinstance(one, CarryReceipt)] == [HTX]


def test_receipt_goes_over_another_transport_where_one_fails() -> None:
    """INV-P2P-10."""
    desk = Desk()
    desk.up(htx=True, ble=Reach.DIRECT)
    desk.arrive(from_bob("x"))
    tried = []
    for _ in range(3):
        desk.wait(5)
        carried = next(one for one in desk.actions if isinstance(one, CarryReceipt))
        tried.append(carried.transport)
        desk.do(
            OutcomeTold(carried.transport, Outcome(carried.message.id, BOB, OutcomeState.FAILED))
        )

    assert tried == [BLE, HTX, BLE]


def test_receipt_of_a_private_message_is_private() -> None:
    """INV-P2P-10."""
    desk = Desk()
    desk.up(ble=Reach.DIRECT)
    desk.arrive(from_bob("psst", requires_privacy=True))
    desk.wait(0.1)

    assert not [one for one in desk.actions if isinstance(one, CarryReceipt)]


def test_what_was_read_is_told() -> None:
    """INV-P2P-10."""
    desk = Desk()
    desk.up(htx=True)
    read = [from_bob("x", "x"), from_bob("y", "y")]
    desk._took(desk.router.read(read, desk.now))
    desk.wait(0.1)
    sent = [each for each in desk.actions if isinstance(each, CarryReceipt)]

    assert Receipt.parse(sent[0].message.body) == Receipt(DeliveryState.READ, ("x", "y"))


def test_receipt_that_waits_inside_a_transport_is_owed_until_it_went_out() -> None:
    """INV-P2P-10: a transport says *queued*, and a minute later that it could not."""
    desk = Desk()
    desk.up(htx=True, ble=Reach.MESH)
    desk._took(desk.router.read([from_bob("x")], desk.now))
    desk.wait(0.1)
    first = carried(desk)
    told(desk, first, OutcomeState.QUEUED)
    assert len(desk.book.receipts) == 1
    desk.wait(60)
    assert not is_carried(desk)

    told(desk, first, OutcomeState.FAILED)
    desk.wait(1.1)

    second = carried(desk)
    assert (first.transport, second.transport) == (BLE, HTX)
    told(desk, first, OutcomeState.ACCEPTED)  # it says nothing any more
    assert len(desk.book.receipts) == 1
    told(desk, second, OutcomeState.STORED)
    assert not desk.book.receipts


def test_receipt_that_waits_holds_up_no_other_and_goes_when_its_recipient_is_near() -> None:
    """INV-P2P-10."""
    desk = Desk()
    desk.up(ble=Reach.COURIER)
    desk.arrive(from_bob("x", 0))
    desk.wait(0.1)
    first = carried(desk)
    told(desk, first, OutcomeState.QUEUED)
    desk.arrive(from_bob("y", 1))
    desk.wait(0.1)
    assert Receipt.parse(carried(desk).message.body).ids == (str(MessageId(STREAM, 1)),)
    told(desk, carried(desk), OutcomeState.ACCEPTED)

    desk.do(Reachability(BLE, BOB, Reach.DIRECT))
    assert not is_carried(desk)
    desk.wait(10)

    assert carried(desk).message.body == first.message.body


@pytest.mark.parametrize(("waits", "seconds", "pause"), [(False, 60.0, 1.0), (True, 900.0, 0.0)])
def test_receipt_that_a_transport_says_nothing_of_goes_again(
    waits: bool, seconds: float, pause: float
) -> None:
    """INV-P2P-10."""
    desk = Desk()
    desk.up(htx=True)
    desk.arrive(from_bob("x"))
    desk.wait(0.1)
    first = carried(desk)
    if waits:
        told(desk, first, OutcomeState.QUEUED)
    desk.wait(seconds - 1)
    assert not is_carried(desk)
    desk.wait(1.2)
    assert is_carried(desk) == (pause == 0)

    desk.now += pause
    if pause:
        desk.do(Wake())

    assert carried(desk).message.id != first.message.id


def test_what_was_read_is_told_again_where_that_may_have_got_lost() -> None:
    """INV-P2P-10: nobody asks for it."""
    desk = Desk()
    desk.up(ble=Reach.DIRECT)
    desk._took(desk.router.read([from_bob("x")], desk.now))
    for pause in (0.1, 30.0, 300.0):
        desk.wait(pause)
        told(desk, carried(desk), OutcomeState.ACCEPTED)
        assert len(desk.book.receipts) == 1
    desk.do(TransportChanged(HTX, CAN_HTX))
    desk.do(Reachability(HTX, BOB, Reach.ADDRESS))
    assert not is_carried(desk)

    desk.wait(3600.0)

    assert carried(desk).transport is HTX
    told(desk, carried(desk), OutcomeState.STORED)
    assert not desk.book.receipts


def test_receipts_of_one_that_cannot_be_reached_are_bounded_and_hold_up_nobody() -> None:
    """INV-P2P-09, INV-P2P-10."""
    owed = Receipts([], START)
    for number in range(IN_ALL):
        assert owed.owe(ReceiptOwed(EVE, f"{number}", DeliveryState.DELIVERED), START)

    assert not owed.owe(ReceiptOwed(BOB, "x", DeliveryState.DELIVERED), START)

    assert {one.peer for one in owed.due(START + 1)} == {EVE}
    assert len(owed) == IN_ALL
