"""Groups: which roster is taken, from whom, and how many."""

from __future__ import annotations

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fog_compute.p2p.core.groups import Groups
from fog_compute.p2p.core.identity import Identity
from fog_compute.p2p.core.messages import DecentralizedMessage, MessageKind
from fog_compute.p2p.core.rosters import NO_KEY, Member, Roster

ANN, BOB, EVE, ME = (Identity(bytes([number]) * 32) for number in (1, 2, 3, 4))
OWN = ME.fingerprint
GROUP = "0f" * 16


def people(*who: Identity) -> list[Member]:
    return [Member(one.fingerprint, one.signing_public) for one in who]


class AppKeys:
    """Somebody with the app: the two keys say nothing of each other."""

    def __init__(self, fingerprint: str) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(b"\x09" * 32)
        self.fingerprint = fingerprint
        self.signing_public = self._key.public_key().public_bytes_raw()
        self.sign = self._key.sign


FIRST = Roster.make(ANN, GROUP, "us", people(BOB, ME))
WITHOUT = Roster.make(ANN, GROUP, "us", people(BOB), 2, key=NO_KEY)


def take(
    groups: Groups, message: DecentralizedMessage, known: frozenset[str] | None = None
) -> Roster | None:
    """Keep what a message brings, if it is newer; ``known`` are no strangers."""
    roster = groups.newer(message, lambda one: known is not None and one not in known)
    if roster is not None:
        groups.put(roster)
    return roster


def brings(roster: Roster, sender: str = ANN.fingerprint, **other: object) -> DecentralizedMessage:
    return msgspec.structs.replace(roster.message(), sender=sender, **other)


def test_only_a_newer_roster_of_the_same_maker_is_taken() -> None:
    """INV-P2P-11."""
    groups = Groups(OWN)
    second = Roster.make(ANN, GROUP, "we", people(BOB, ME), 2)
    stolen = Roster.make(EVE, GROUP, "mine", people(BOB, ME), 3)

    taken = [take(groups, brings(one)) for one in (FIRST, FIRST, second, FIRST)]
    assert taken == [FIRST, None, second, None]
    assert take(groups, brings(stolen, EVE.fingerprint)) is None

    assert groups.roster(GROUP) == second
    assert (list(groups), len(groups)) == ([GROUP], 1)


def test_a_member_passes_on_what_shows_by_itself_whose_it_is() -> None:
    """INV-P2P-11."""
    app = AppKeys("ad" * 32)
    by_app = Roster.make(app, GROUP, "us", people(BOB, ME))  # type: ignore[arg-type]

    assert take(Groups(OWN), brings(FIRST, BOB.fingerprint)) == FIRST
    assert take(Groups(OWN), brings(FIRST, EVE.fingerprint)) is None  # no member
    # Of these keys anybody can make a pair; the maker alone says that they are his.
    assert take(Groups(OWN), brings(by_app, BOB.fingerprint)) is None
    assert take(Groups(OWN), brings(by_app, app.fingerprint)) == by_app


def test_what_is_no_roster_of_ours_is_passed_over() -> None:
    """INV-P2P-11."""
    for message in (
        brings(FIRST, kind=MessageKind.TEXT),
        brings(FIRST, media_type="text/plain"),
        brings(FIRST, body=b"?"),
        brings(FIRST, room="0e" * 16),
        brings(Roster.make(ANN, GROUP, "us", people(ME), key=NO_KEY)),  # anybody has that key
    ):
        assert take(Groups(OWN), message) is None
    assert take(Groups("0a" * 32), brings(FIRST)) is None  # it does not name us


def test_who_is_put_out_learns_it_and_is_let_in_by_a_newer_roster() -> None:
    """INV-P2P-11."""
    groups = Groups(OWN)
    groups.put(FIRST)
    again = Roster.make(ANN, GROUP, "us", people(ME), 3)

    assert take(groups, brings(WITHOUT)) == WITHOUT
    assert (groups[GROUP], list(groups), groups.roster(GROUP)) == ((), [], None)
    assert take(groups, brings(FIRST)) is None
    assert take(groups, brings(again)) == again
    assert list(groups) == [GROUP]


def test_who_left_is_not_brought_back() -> None:
    """INV-P2P-11."""
    groups = Groups(OWN)
    groups.put(FIRST)
    groups.leave(GROUP)

    assert take(groups, brings(Roster.make(ANN, GROUP, "us", people(ME), 2))) is None
    assert (groups[GROUP], list(groups), groups.roster(GROUP)) == ((), [], None)


@pytest.mark.parametrize("left", [False, True])
def test_groups_of_strangers_leave_room_for_others(left: bool) -> None:
    """INV-P2P-09."""
    groups = Groups(OWN)
    makers = [Identity(bytes([number]) * 32) for number in range(10, 20)]
    known = frozenset({OWN, ANN.fingerprint})
    groups.put(FIRST)
    taken = dict.fromkeys(range(len(makers)), 0)
    for number in range(100):
        maker = makers[number // 10]
        roster = Roster.make(maker, f"{number:032x}", "mine", people(ME))
        message = brings(roster, maker.fingerprint)
        taken[number // 10] += take(groups, message, known) is not None
        if left:
            out = Roster.make(maker, roster.id, "mine", [], 2, key=NO_KEY)
            take(groups, brings(out, maker.fingerprint))
    newer = Roster.make(makers[0], f"{0:032x}", "still mine", people(ME), epoch=3)
    of_ann = Roster.make(ANN, "ab" * 16, "ours", people(ME))

    assert list(taken.values()) == [8, 8, 8, 8, *6 * [0]]
    assert take(groups, brings(newer, makers[0].fingerprint), frozenset()) == newer
    assert take(groups, brings(of_ann), known) == of_ann
