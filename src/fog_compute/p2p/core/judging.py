"""What of all that comes is looked at: by its fields, its sender, and its group."""

from __future__ import annotations

from typing import Final

import msgspec

from fog_compute.p2p.core.groups import Groups
from fog_compute.p2p.core.inbox import Refusal
from fog_compute.p2p.core.messages import (
    MAX_LIFE_MS,
    DecentralizedMessage,
    InvalidMessage,
    MessageId,
    MessageKind,
    is_own_id,
)
from fog_compute.p2p.core.rosters import Roster, is_roster
from fog_compute.p2p.core.standings import Standings
from fog_compute.p2p.core.transport import Arrival

__all__ = ["SHOWN", "judge", "outside", "plain"]

SHOWN: Final = frozenset({MessageKind.TEXT, MessageKind.FILE})
"""What is shown also of somebody who only says who they are; it is marked so."""


def judge(arrival: Arrival, own: str, standings: Standings, groups: Groups) -> Refusal | None:
    """Why an arrival is not even looked at; None if it is."""
    message = arrival.message
    try:
        message.check()
    except InvalidMessage:
        return Refusal.MALFORMED
    if not message.id or not message.sender or message.receiver_id not in {None, own}:
        return Refusal.MALFORMED
    if message.sender == own:
        return Refusal.OWN
    if standings.is_blocked(message.sender):
        return Refusal.BLOCKED
    if arrival.sender_verified:
        return None
    if not message.room:
        return None if message.kind in SHOWN else Refusal.UNVERIFIED
    # In a group, its maker says whose a signing key is: a text is shown then, with a mark.
    vouched = message.kind is MessageKind.TEXT and message.room in groups
    return None if vouched else Refusal.UNVERIFIED


def outside(message: DecentralizedMessage, roster: Roster | None, groups: Groups) -> Refusal | None:
    """Why the sender has nothing to say in a group; ``roster`` is a newer one that it brings.

    One that is no newer has its place in its stream all the same.
    """
    if roster is not None:
        return None
    members = groups.get(message.room)
    # Who was put out hears the maker's word of it again, until the receipt has come there.
    by_maker = is_roster(message) and message.sender == groups.maker(message.room)
    if members is not None and message.sender not in members and not by_maker:
        return Refusal.NOT_MEMBER
    in_place = members is not None and MessageId.parse(message.id) is not None
    return None if in_place or not is_roster(message) else Refusal.ROSTER


def plain(message: DecentralizedMessage) -> DecentralizedMessage:
    """What came, with what its sender left open; to one person it is in no room but a group's."""
    room, expires = message.room, message.expires_ms or message.created_ms + MAX_LIFE_MS
    if message.receiver_id is not None and not is_own_id(room):
        room = ""
    return msgspec.structs.replace(message, room=room, expires_ms=expires)
