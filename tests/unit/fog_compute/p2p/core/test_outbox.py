"""The outbox: nothing in it is forgotten, and nothing is offered before its time."""

from __future__ import annotations

from fog_compute.p2p.core.messages import DecentralizedMessage, DeliveryState
from fog_compute.p2p.core.outbox import Entry, Outbox, OutboxLimits
from fog_compute.p2p.core.transport import OutcomeState
from tests.unit.fog_compute.p2p.core.desk import BOB, Desk
from tests.unit.fog_compute.p2p.core.world import START


def entry(number: int, *, life_s: int = 60) -> Entry:
    message = DecentralizedMessage(
        body=b"", receiver_id=BOB, id=f"{number}", expires_ms=int(START + life_s) * 1000
    )
    return Entry(message, 1, BOB, 0)


def test_delivery_that_waits_for_another_try_outlives_the_last_one_behind_it() -> None:
    """INV-P2P-05."""
    outbox, first, second = Outbox(OutboxLimits()), entry(1), entry(2)
    outbox.add(first)
    outbox.add(second)
    first.failures, first.not_before = 1, START + 5

    for one in outbox.ready(START):
        assert one is second
        outbox.remove(one)

    assert list(outbox.ready(START + 5)) == [first]


def test_failure_is_followed_by_a_pause_also_where_little_time_is_left() -> None:
    """INV-P2P-05."""
    desk = Desk()
    desk.up(htx=True)
    name = desk.say(expires_ms=int((START + 10) * 1000))
    offers = 0
    for _ in range(20):
        if desk.offers():
            offers += 1
            desk.answer(OutcomeState.FAILED, reason="down")
        else:
            desk.wait(1.0)

    assert offers == 4  # after 0, 1, 3 and 7 s
    assert desk.state(name) is DeliveryState.EXPIRED
