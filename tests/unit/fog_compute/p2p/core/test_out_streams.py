"""Streams of ours: when another one begins, and that it stays so."""

from __future__ import annotations

from fog_compute.p2p.core.identity import Identity
from fog_compute.p2p.core.messages import DeliveryState, MessageId
from fog_compute.p2p.core.rosters import Member, Roster
from fog_compute.p2p.core.router import RouterPolicy
from tests.unit.fog_compute.p2p.core.desk import ANN, BOB, GROUP, ZOE, Desk


def place(id_: str) -> MessageId:
    found = MessageId.parse(id_)
    assert found is not None
    return found


def test_stream_that_lacks_a_message_is_ended_over_a_restart_too() -> None:
    """INV-P2P-06."""
    desk = Desk(RouterPolicy(life_ms=5_000))
    ids = [desk.say() for _ in range(2)]

    desk.wait(5.1)
    assert [desk.state(one) for one in ids] == [DeliveryState.EXPIRED] * 2
    desk.again()

    assert [place(desk.say()).sequence for _ in range(2)] == [0, 1]


def test_message_that_fails_ends_no_stream_but_its_own() -> None:
    """INV-P2P-06: what was said since keeps its order."""
    desk = Desk()
    old = [desk.say() for _ in range(3)]
    desk._took(desk.router.cancel(old[:1], desk.now))
    before = place(desk.say())

    desk._took(desk.router.cancel(old[1:2], desk.now))

    assert place(desk.say()) == MessageId(before.stream, 1)


def test_what_somebody_put_out_is_not_told_leaves_the_roster_before_what_follows() -> None:
    """INV-P2P-11: it is the first message of its stream."""
    desk, ann = Desk(), Identity(b"a" * 32)
    desk.form(ANN, BOB, ZOE)
    desk.say(to=None, room=GROUP)
    roster = Roster.make(ann, GROUP, "us", [Member(ANN, b"A" * 32), Member(BOB, b"b" * 32)], 2)

    id_, actions = desk.router.submit(roster.message(), desk.now, roster=roster)
    desk._took(actions)

    assert place(id_).sequence == 0
    assert place(desk.say(to=None, room=GROUP)) == MessageId(place(id_).stream, 1)
