"""Groups: rosters that only their maker signs, and which of them is taken."""

from __future__ import annotations

from unittest.mock import Mock

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fog_compute.p2p.core.groups import MAX_MEMBERS, Groups, Roster
from fog_compute.p2p.core.identity import Identity
from fog_compute.p2p.core.messages import DecentralizedMessage, InvalidMessage, MessageKind

ANN, BOB, EVE = (Identity(bytes([number]) * 32) for number in (1, 2, 3))
OWN = "0d" * 32
GROUP = "0f" * 16
FIRST = Roster.make(ANN, GROUP, "us", [BOB.fingerprint, OWN])


def brings(roster: Roster, sender: Identity = ANN, **fields: object) -> DecentralizedMessage:
    return msgspec.structs.replace(roster.message(), sender=sender.fingerprint, **fields)


def test_roster_names_its_members_and_its_maker_once() -> None:
    """INV-P2P-11."""
    assert Roster.parse(FIRST.encoded) == FIRST
    assert FIRST.members == tuple(sorted({ANN.fingerprint, BOB.fingerprint, OWN}))
    assert (FIRST.maker, FIRST.epoch, FIRST.message().room) == (ANN.fingerprint, 1, GROUP)


@given(st.integers(0, len(FIRST.encoded) * 8 - 1))
def test_no_bit_of_a_roster_can_be_another(bit: int) -> None:
    """INV-P2P-11."""
    broken = bytearray(FIRST.encoded)
    broken[bit // 8] ^= 1 << bit % 8

    with pytest.raises(InvalidMessage):
        Roster.parse(bytes(broken))


@pytest.mark.parametrize("cut", range(0, len(FIRST.encoded), 7))
def test_cut_roster_is_refused(cut: int) -> None:
    """INV-P2P-11."""
    with pytest.raises(InvalidMessage):
        Roster.parse(FIRST.encoded[:cut])


def test_group_is_bounded_and_of_people() -> None:
    """INV-P2P-11."""
    members = [f"{number:064x}" for number in range(MAX_MEMBERS)]
    assert len(Roster.make(ANN, GROUP, "x", members[1:]).members) == MAX_MEMBERS
    with pytest.raises(InvalidMessage, match="16 members at most, and not 17"):
        Roster.make(ANN, GROUP, "x", members)
    with pytest.raises(InvalidMessage, match="no fingerprint"):
        Roster.make(ANN, GROUP, "x", ["Bob"])


def test_only_a_newer_roster_of_the_same_maker_is_taken() -> None:
    """INV-P2P-11."""
    groups = Groups(OWN)
    second = Roster.make(ANN, GROUP, "we", [BOB.fingerprint, OWN], 2)
    stolen = Roster.make(EVE, GROUP, "mine", [EVE.fingerprint, BOB.fingerprint, OWN], 3)

    taken = [groups.take(brings(one)) for one in (FIRST, FIRST, second, FIRST)]
    assert taken == [FIRST, None, second, None]
    assert groups.take(brings(stolen, EVE)) is None

    assert groups.roster(GROUP) == second
    assert (list(groups), len(groups)) == ([GROUP], 1)


def test_roster_is_of_whom_its_key_follows_from_whoever_brings_it() -> None:
    """INV-P2P-11."""
    assert Groups(OWN).take(brings(FIRST, BOB)) == FIRST
    assert Groups(OWN).take(brings(FIRST, EVE)) is None  # no member

    eve_as_ann = Mock(
        wraps=EVE,
        fingerprint=ANN.fingerprint,
        signing_public=EVE.signing_public,
    )
    with pytest.raises(InvalidMessage, match="signed by its maker"):
        Roster.make(eve_as_ann, GROUP, "we", [BOB.fingerprint, OWN])


def test_what_is_no_roster_of_ours_is_passed_over() -> None:
    """INV-P2P-11."""
    for message in (
        brings(FIRST, kind=MessageKind.TEXT),
        brings(FIRST, media_type="text/plain"),
        brings(FIRST, body=b"?"),
        brings(FIRST, room="0e" * 16),
    ):
        assert Groups(OWN).take(message) is None
    assert Groups("0a" * 32).take(brings(FIRST)) is None  # it does not name us


def test_who_is_put_out_of_a_group_learns_it() -> None:
    """INV-P2P-11."""
    groups = Groups(OWN)
    groups.put(FIRST)
    without = Roster.make(ANN, GROUP, "us", [BOB.fingerprint], 2)

    assert groups.take(brings(without)) == without
    assert OWN not in groups[GROUP]


def test_groups_of_strangers_leave_room_for_others() -> None:
    """INV-P2P-09."""
    groups = Groups(OWN)
    strangers = {EVE.fingerprint, OWN}  # oneself is in no book
    groups.put(FIRST)
    taken = []
    for number in range(60):
        roster = Roster.make(EVE, f"{number:032x}", "mine", [OWN])
        taken.append(groups.take(brings(roster, EVE), strangers.__contains__) is not None)
    last = groups.roster(f"{sum(taken) - 1:032x}")
    assert last is not None
    newer = Roster.make(EVE, last.id, "still mine", [OWN], epoch=2)
    of_ann = Roster.make(ANN, "ab" * 16, "ours", [OWN])

    assert taken == [True] * 32 + [False] * 28
    assert groups.take(brings(newer, EVE), strangers.__contains__) == newer
    assert groups.take(brings(of_ann), strangers.__contains__) == of_ann
