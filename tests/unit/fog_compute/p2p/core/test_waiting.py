"""What waits at the router: why it does, and how it is given up."""

from __future__ import annotations

from fog_compute.p2p.core.messages import DeliveryState
from fog_compute.p2p.core.transport import OutcomeState
from tests.unit.fog_compute.p2p.core.test_router import BOB, EVE, Desk


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
