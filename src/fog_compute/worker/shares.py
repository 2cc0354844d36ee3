"""Equal shares of what a worker has: of its slots, its queue, its cache, the polls that it holds.

Whatever is scarce is shared first among groups, and what a group has among its sessions. So many
sessions of one group take nothing from another group, and no session is locked out by a busy one.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

__all__ = ["NOBODY", "Owner", "Turns", "furthest_above"]

START_S: Final = 0.01
"""Seconds of a slot that the start of an attempt counts by itself, so that none is for nothing."""

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Owner:
    """Who is charged for something.

    Attributes:
        group: the group that the sender proved to belong to; empty for none.
        session: `session_of` the key under which its blobs are sealed.
    """

    group: str
    session: bytes


NOBODY: Final = Owner("", b"")
"""Who is charged for what came without the name of a session."""


def furthest_above(loads: Mapping[Owner, float], newcomer: Owner, amount: float) -> Owner:
    """Return from whom to take, so that ``newcomer`` can have ``amount`` more of a full thing.

    It is the session with most of the group with most; the newcomer itself unless another has
    more than it would have.
    """
    wanted = {**loads, newcomer: loads.get(newcomer, 0) + amount}
    groups: dict[str, float] = {}
    for owner, load in wanted.items():
        groups[owner.group] = groups.get(owner.group, 0) + load
    group = max(groups, key=lambda one: (groups[one], one == newcomer.group))
    inside = (owner for owner in wanted if owner.group == group)
    return max(inside, key=lambda owner: (wanted[owner], owner == newcomer))


class _Served(Generic[K]):
    """How much each of several has had; who was idle gets no more for it than who was not."""

    __slots__ = ("_floor", "_had", "_waiting")

    def __init__(self) -> None:
        self._had: dict[K, float] = {}
        self._waiting: frozenset[K] = frozenset()
        self._floor = 0.0

    def least(self, waiting: Iterable[K]) -> K:
        """Return who of those that wait now has had least; the first of equals."""
        order = tuple(dict.fromkeys(waiting))
        for one in order:
            if one not in self._waiting:
                self._had[one] = max(self._had.get(one, 0.0), self._floor)
        self._waiting = frozenset(order)
        chosen = min(order, key=self._had.__getitem__)
        self._floor = max(self._floor, self._had[chosen])
        for one in [o for o, had in self._had.items() if had <= self._floor and o not in order]:
            del self._had[one]
        return chosen

    def charge(self, one: K, amount: float) -> None:
        """Note that one has had so much more."""
        self._had[one] = self._had.get(one, self._floor) + amount


class Turns:
    """Whose attempt gets the next free slot: by group, then by session, by the time they had."""

    __slots__ = ("_groups", "_sessions")

    def __init__(self) -> None:
        """Nobody has had anything."""
        self._groups: _Served[str] = _Served()
        self._sessions: dict[str, _Served[Owner]] = {}

    def next(self, waiting: Iterable[Owner]) -> Owner:
        """Return whose turn it is, and charge the start; ``waiting`` holds one at least."""
        owners = tuple(dict.fromkeys(waiting))
        group = self._groups.least(owner.group for owner in owners)
        sessions = self._sessions.setdefault(group, _Served())
        chosen = sessions.least(owner for owner in owners if owner.group == group)
        for gone in self._sessions.keys() - {owner.group for owner in owners}:
            del self._sessions[gone]
        self.charge(chosen, START_S)
        return chosen

    def charge(self, owner: Owner, seconds: float) -> None:
        """Note the time that an attempt of ``owner`` had a slot."""
        self._groups.charge(owner.group, seconds)
        self._sessions.setdefault(owner.group, _Served()).charge(owner, seconds)
