"""Messages of groups at the router: who is waited for, who is believed, and what leaving ends."""

from __future__ import annotations

import msgspec
import pytest

from fog_compute.p2p.core.actions import Keep, OutcomeTold, Progress
from fog_compute.p2p.core.book import RosterKept
from fog_compute.p2p.core.identity import Identity
from fog_compute.p2p.core.inbox import Refusal
from fog_compute.p2p.core.messages import (
    MAX_LIFE_MS,
    DecentralizedMessage,
    DeliveryState,
    InvalidMessage,
    MessageKind,
)
from fog_compute.p2p.core.rosters import NO_KEY, ROSTER, Member, Roster
from fog_compute.p2p.core.transport import Outcome, OutcomeState, Reach, TransportType
from tests.unit.fog_compute.p2p.core.desk import ANN, BOB, GROUP, ZOE, Desk, from_bob

APP_ID = "5F0C8D4E-0000-4000-8000-000000000001"


def in_group(desk: Desk, text: str = "hi", number: int | str = 0, *, proved: bool = True) -> None:
    desk.arrive(from_bob(text, number, receiver_id=None, room=GROUP), proved=proved)


@pytest.mark.parametrize("later", [False, True])
def test_who_gives_no_receipt_is_not_waited_for(later: bool) -> None:
    """INV-P2P-10."""
    desk = Desk()
    desk.form(ANN, BOB, ZOE)
    desk.up(ble=Reach.DIRECT)
    id_ = desk.say(to=None, room=GROUP)

    if later:
        desk.answer(OutcomeState.QUEUED, unanswered=True)
        last = Outcome(id_, BOB, OutcomeState.ACCEPTED, unanswered=True)
        desk.do(OutcomeTold(TransportType.BITCHAT_BLE, last))
    else:
        desk.answer(OutcomeState.ACCEPTED, unanswered=True)
    last_told = [one for one in desk.actions if isinstance(one, Progress)][-1]
    assert (last_told.state, last_told.reason) == (
        DeliveryState.ACCEPTED,
        "their program gives no receipts in a group",
    )
    desk.wait(3_000)

    assert desk.offers() == []
    assert desk.router.waiting == 1  # Zoe's
    assert desk.state(id_) is DeliveryState.ACCEPTED
    assert desk.book.deliveries[id_, BOB].state is DeliveryState.ACCEPTED


def test_the_app_is_sent_no_receipts_of_what_it_says_in_a_group() -> None:
    """INV-P2P-10."""
    desk = Desk()
    desk.form(ANN, BOB)
    desk.up(htx=True)

    in_group(desk, "from the app", APP_ID)
    assert not desk.book.receipts
    in_group(desk, "from ours")
    assert [one.id for one in desk.book.receipts] == [from_bob("").id]
    assert desk.shown() == ["from the app", "from ours"]


def test_whom_a_maker_alone_vouches_for_is_shown_with_a_mark_in_that_group() -> None:
    """INV-BITCHAT-98."""
    desk = Desk()
    in_group(desk, "no group", APP_ID, proved=False)
    desk.form(ANN, BOB)
    in_group(desk, "hello", APP_ID, proved=False)
    in_group(desk, "proved", APP_ID)

    assert [(one.message.text, one.verified) for one in desk.book.entries()] == [
        ("hello", False),
        ("proved", True),
    ]
    assert desk.router.refused == {Refusal.UNVERIFIED: 1}


def test_who_leaves_gives_up_what_was_not_said_and_hears_nothing_more() -> None:
    """INV-P2P-48."""
    desk = Desk()
    desk.form(ANN, BOB)
    id_ = desk.say(to=None, room=GROUP)
    other = desk.say()

    actions = desk._took(desk.router.leave(GROUP, desk.now))
    in_group(desk)

    kept = [one for one in actions if isinstance(one, Keep)]
    assert len(kept) == 1  # all at once: a crash leaves nothing waiting
    assert RosterKept(GROUP, b"", desk.now) in kept[0].changes
    assert desk.book.rosters == {GROUP: b""}
    assert desk.state(id_) is DeliveryState.FAILED
    assert desk.router.waiting_for(BOB, "") == {other}
    assert desk.shown() == []
    assert desk.router.refused == {Refusal.NOT_MEMBER: 1}
    with pytest.raises(InvalidMessage, match="no group that you are in"):
        desk.say(to=None, room=GROUP)


def brings(roster: Roster, number: int | str = 0) -> DecentralizedMessage:
    return msgspec.structs.replace(
        from_bob("", number, receiver_id=None, sender=roster.maker),
        body=roster.encoded,
        room=roster.id,
        kind=MessageKind.CONTROL,
        media_type=ROSTER,
    )


def test_who_was_put_out_is_let_in_again_and_who_left_is_not() -> None:
    """INV-P2P-11, INV-P2P-48."""
    bob, desk, own = Identity(b"b" * 32), Desk(), Member(ANN, b"a" * 32)
    first, out, again, later = (
        Roster.make(bob, GROUP, "us", members, epoch, key=key)
        for epoch, (members, key) in enumerate(
            (([own], None), ([], NO_KEY), ([own], None), ([own], None)), 1
        )
    )

    shown, waiting = [], []
    for number, roster in enumerate((first, out, again)):
        desk.arrive(brings(roster, number))
        shown.append(list(desk.groups))
        if desk.groups.get(GROUP):
            desk.say(to=None, room=GROUP)
        waiting.append(len(desk.router.waiting_for(None, GROUP)))
    desk._took(desk.router.leave(GROUP, desk.now))
    desk.arrive(brings(later, 3))

    assert shown == [[GROUP], [], [GROUP]]
    assert waiting == [1, 0, 1]
    assert list(desk.groups) == []
    assert desk.router.refused == {Refusal.NOT_MEMBER: 1}


def test_a_roster_that_is_not_taken_is_counted_and_not_shown() -> None:
    """INV-P2P-09."""
    bob, desk = Identity(b"b" * 32), Desk()
    roster = Roster.make(bob, GROUP, "us", [Member(ANN, b"a" * 32)])
    other = Roster.make(bob, "0e" * 16, "them", [Member(ZOE, b"a" * 32)])

    desk.arrive(brings(other, "roster-1"))
    desk.arrive(brings(roster, "roster-2"))
    desk.arrive(brings(roster, "roster-3"))
    desk.arrive(brings(roster, 0))  # those that follow in its stream need not wait for it

    assert [one.message.id for one in desk.book.entries()] == ["roster-2", brings(roster).id]
    assert desk.router.refused == {Refusal.ROSTER: 2}


def test_a_stranger_is_no_less_one_for_the_groups_that_he_makes() -> None:
    """INV-P2P-09."""
    eve, desk, own = Identity(b"e" * 32), Desk(), Member(ANN, b"a" * 32)
    bob = Member(BOB, b"b" * 32)
    for number in range(20):
        roster = Roster.make(eve, f"{number:032x}", "mine", [own, bob])
        desk.arrive(brings(roster, f"roster-{number}"))
    assert len(desk.groups) == 8
    for number in range(60):
        said = from_bob(f"{number}", f"{number:032x}", receiver_id=None, sender=eve.fingerprint)
        desk.arrive(msgspec.structs.replace(said, room=f"{0:032x}"))
    assert len(desk.shown()) == 50  # and who is in the groups
    assert desk.router.refused == {Refusal.ROSTER: 12, Refusal.STRANGER_FULL: 18}

    desk.say(to=None, room=f"{0:032x}")
    desk.arrive(brings(Roster.make(eve, "ab" * 16, "yours", [own]), "roster-a"))
    assert len(desk.groups) == 9  # one has spoken with them


def test_a_roster_waits_for_its_members_as_long_as_anything_may() -> None:
    """INV-P2P-11."""
    desk = Desk()
    roster = Roster.make(Identity(b"a" * 32), GROUP, "us", [Member(BOB, b"b" * 32)])

    id_, actions = desk.router.submit(roster.message(), desk.now, roster=roster)
    desk._took(actions)

    message = desk.book.find(ANN, id_)
    assert message is not None
    assert message.expires_ms - message.created_ms == MAX_LIFE_MS


def test_the_key_of_a_group_is_not_in_the_log() -> None:
    """INV-P2P-48."""
    bob, desk = Identity(b"b" * 32), Desk()
    roster = Roster.make(bob, GROUP, "us", [Member(ANN, b"a" * 32)])
    desk.arrive(brings(roster))

    (entry,) = desk.book.entries()
    assert entry.message.body == b""
    assert desk.book.rosters == {GROUP: roster.encoded}
    assert desk.groups.roster(GROUP) == roster


def test_who_was_put_out_confirms_it_as_often_as_it_comes() -> None:
    """INV-P2P-10, INV-P2P-48: its maker waits for that."""
    bob, desk, own = Identity(b"b" * 32), Desk(), Member(ANN, b"a" * 32)
    desk.arrive(brings(Roster.make(bob, GROUP, "us", [own], 1), 0))
    out = brings(Roster.make(bob, GROUP, "us", [], 2, key=NO_KEY), 1)
    out = msgspec.structs.replace(out, receiver_id=ANN)
    desk.arrive(out)
    assert desk.groups.get(GROUP) == ()
    desk.book.receipts.clear()
    desk.again()

    desk.arrive(out)

    assert [one.id for one in desk.book.receipts] == [out.id]
