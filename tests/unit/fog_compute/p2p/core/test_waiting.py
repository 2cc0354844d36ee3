"""What waits at the router: why it does, and how it is given up."""

from __future__ import annotations

import pytest

from fog_compute.p2p.core.actions import Progress
from fog_compute.p2p.core.messages import DeliveryState
from fog_compute.p2p.core.outbox import OutboxFull, OutboxLimits
from fog_compute.p2p.core.router import RouterPolicy
from fog_compute.p2p.core.transport import OutcomeState, PartLeft, TransportType
from tests.unit.fog_compute.p2p.core.desk import BOB, EVE, Desk


def test_cancelled_message_is_offered_no_more() -> None:
    """INV-P2P-05."""
    desk = Desk()
    id_ = desk.say()

    desk._took(desk.router.cancel([id_], desk.now))
    desk.up(htx=True)

    assert desk.offers() == []
    assert desk.book.deliveries[id_, BOB].state is DeliveryState.FAILED
    assert desk.router.waiting_for(BOB, "") == set()


def test_what_waits_says_why_until_it_goes_out() -> None:
    desk = Desk()
    id_ = desk.say()
    assert desk.router.why(id_, BOB) == "no transport carries it"
    assert desk.router.waiting_for(BOB, "") == {id_}
    assert desk.router.deliveries() == {DeliveryState.QUEUED: 1}

    desk.up(htx=True)
    assert desk.router.why(id_, BOB) == ""  # it is under way
    desk.answer(OutcomeState.FAILED, reason="the mailbox is full")

    assert desk.router.why(id_, BOB) == "the mailbox is full"
    assert desk.router.why(id_, EVE) == desk.router.why("9" * 32, BOB) == ""


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (OutboxLimits(per_peer=3), "for one recipient"),
        (OutboxLimits(in_all=3), "3 messages wait"),
        (OutboxLimits(bytes_in_all=16), "15 B wait"),
    ],
)
def test_full_outbox_says_what_to_do(limits: OutboxLimits, said: str) -> None:
    """INV-P2P-08."""
    desk = Desk(RouterPolicy(outbox=limits))
    ids = [desk.say() for _ in range(3)]

    with pytest.raises(OutboxFull, match=said) as caught:
        desk.say()

    assert "fog chat cancel" in str(caught.value)
    desk._took(desk.router.cancel(ids[:1], desk.now))
    desk.say()


def test_how_much_has_left_is_told_while_a_transport_has_it_and_never_kept() -> None:
    """INV-P2P-44."""
    desk = Desk()
    id_ = desk.say()
    part = PartLeft(TransportType.BETANET_HTX, id_, BOB, 20_000, 70_000)
    assert desk.router.handle(part, desk.now) == []  # it waits here
    desk.up(htx=True)
    assert desk.router.handle(part, desk.now) == [
        Progress(id_, BOB, DeliveryState.SENDING, part.transport, "", 20_000, 70_000)
    ]
    desk.answer(OutcomeState.ACCEPTED)
    (told,) = desk.router.handle(part, desk.now)
    assert isinstance(told, Progress)
    assert told.state is DeliveryState.ACCEPTED
    stranger = PartLeft(TransportType.BETANET_HTX, id_, EVE, 20_000, 70_000)
    assert desk.router.handle(stranger, desk.now) == []
