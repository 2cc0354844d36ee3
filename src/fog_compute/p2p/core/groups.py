"""Groups: up to 16 people who all get the same, as their maker's signed roster says.

A roster travels as the first message of the group's stream, and again whenever it changes, each
time with another key; the highest epoch counts (`fog_compute.p2p.core.rosters`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from fog_compute.errors import FogError
from fog_compute.p2p.core.messages import DecentralizedMessage, InvalidMessage
from fog_compute.p2p.core.rosters import NO_KEY, Roster, is_roster

__all__ = ["Groups", "NotMaker"]

MAX_GROUPS: Final = 256
MAX_OF_STRANGERS: Final = 32
"""Groups that strangers made: they leave room for those of people whom one knows."""

MAX_OF_STRANGER: Final = 8
"""Groups that one stranger made."""


class NotMaker(FogError):
    """A group is changed by its maker alone."""


class Groups(Mapping[str, tuple[str, ...]]):
    """The groups that one is in: of each its members. It keeps the newest roster of each.

    Of a group that one is in no more it keeps that: it has no members then, so that nothing of it
    is shown. Whoever was put out is let in again by a newer roster; whoever left is not.
    """

    def __init__(self, own: str = "") -> None:
        """Begin with none; ``own`` is our fingerprint, and "" takes every group for ours."""
        self._own: Final = own
        self._rosters: Final[dict[str, Roster]] = {}
        self._members: Final[dict[str, tuple[str, ...]]] = {}

    def __getitem__(self, group: str) -> tuple[str, ...]:
        return self._members[group]

    def __iter__(self) -> Iterator[str]:
        return iter([one for one, members in self._members.items() if members])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def roster(self, group: str) -> Roster | None:
        """The roster of a group that one is in."""
        return self._rosters[group] if self.get(group) else None

    def maker(self, group: str) -> str | None:
        """Who made a group, also one that we were put out of; None of one that we left."""
        roster = self._rosters.get(group)
        return None if roster is None else roster.maker

    def shares(self, peer: str, is_known: Callable[[str], bool]) -> bool:
        """Whether somebody is in a group of ours, or of somebody whom one knows otherwise."""
        return any(
            peer in self[one.id] and (one.maker == self._own or is_known(one.maker))
            for one in self._rosters.values()
        )

    def put(self, roster: Roster) -> None:
        """Keep one of ours, or one that was kept before."""
        self._rosters[roster.id] = roster
        members = roster.members
        self._members[roster.id] = members if not self._own or self._own in members else ()

    def load(self, rosters: Iterable[tuple[str, bytes]]) -> None:
        """Put rosters that were written down, by group; an empty one is of a group that one left.

        The next one of its maker replaces a damaged one.
        """
        for group, encoded in rosters:
            if not encoded:
                self.leave(group)
                continue
            with contextlib.suppress(InvalidMessage):
                self.put(Roster.parse(encoded))

    def clear(self) -> None:
        """Forget all."""
        self._rosters.clear()
        self._members.clear()

    def leave(self, group: str) -> None:
        """Forget a group and its key for good; no roster brings it back."""
        self._rosters.pop(group, None)
        self._members[group] = ()

    def newer(
        self, message: DecentralizedMessage, is_stranger: Callable[[str], bool] = lambda _: False
    ) -> Roster | None:
        """The roster that a message brings, if it is one, and newer, and to be `put`; None if not.

        It comes from the maker; or, if the maker's Noise key follows from the key that signed it,
        from a member who passes it on. Who is not in it does not get to know the group by it.

        Args:
            message: what came, from a sender who is proved.
            is_stranger: whether nobody by this fingerprint is known.
        """
        if not is_roster(message):
            return None
        try:
            roster = Roster.parse(message.body)
        except InvalidMessage:
            return None
        left = roster.id in self._members and roster.id not in self._rosters
        if roster.id != message.room or left or not self._is_of(message, roster):
            return None
        if roster.key == NO_KEY and self._own in roster.members:
            return None
        known = self._rosters.get(roster.id)
        if known is not None and (known.maker != roster.maker or known.epoch >= roster.epoch):
            return None
        if known is None and (
            self._own not in roster.members or not self._has_room(roster.maker, is_stranger)
        ):
            return None
        return roster

    def _is_of(self, message: DecentralizedMessage, roster: Roster) -> bool:
        """Whether the maker signed it; a signing key that only stands there shows nothing."""
        if message.sender == roster.maker:
            return True
        maker = roster.member(roster.maker)
        return message.sender in roster.members and maker is not None and maker.is_derived

    def _has_room(self, maker: str, is_stranger: Callable[[str], bool]) -> bool:
        """Whether one more group of a maker may be kept; those that one is in no more count."""
        if len(self._rosters) >= MAX_GROUPS:
            return False
        if not is_stranger(maker):
            return True
        makers = [one.maker for one in self._rosters.values() if one.maker != self._own]
        return (
            sum(is_stranger(one) for one in makers) < MAX_OF_STRANGERS
            and makers.count(maker) < MAX_OF_STRANGER
        )
