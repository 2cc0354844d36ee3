"""What others are to us: strangers, known, or blocked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from fog_compute.p2p.core.groups import Groups
from fog_compute.p2p.core.inbox import Standing

__all__ = ["Standings"]


class Standings:
    """Everybody's standing."""

    def __init__(self, standings: Mapping[str, Standing], groups: Groups) -> None:
        """Begin with who is known and who is blocked; ``groups`` are those that we are in."""
        self._standings: Final = dict(standings)
        self._groups: Final = groups
        self._written_to: Final[set[str]] = set()

    def __len__(self) -> int:
        """How many are known, or blocked."""
        return len(self._standings)

    def of(self, peer: str) -> Standing:
        """What somebody is to us.

        Whom we wrote to is no stranger, nor who is in a group of ours or of somebody known: a
        stranger who takes us into a group is one as before, and all who are in it.
        """
        standing = self._standings.get(peer, Standing.STRANGER)
        if standing is not Standing.STRANGER:
            return standing
        known = self._knows(peer) or self._groups.shares(peer, self._knows)
        return Standing.KNOWN if known else Standing.STRANGER

    def is_stranger(self, peer: str) -> bool:
        """Whether somebody is one."""
        return self.of(peer) is Standing.STRANGER

    def is_blocked(self, peer: str) -> bool:
        """Whether nothing of somebody's is taken."""
        return self.of(peer) is Standing.BLOCKED

    def change(self, peer: str, standing: Standing) -> None:
        """Somebody is known now, or blocked, or neither: names of strangers come without end."""
        if standing is Standing.STRANGER:
            self._standings.pop(peer, None)
        else:
            self._standings[peer] = standing

    def take_up(self, receivers: Iterable[str]) -> None:
        """Go on from the book: we wrote to these, and to nobody else."""
        self._written_to.clear()
        self.wrote_to(receivers)

    def wrote_to(self, receivers: Iterable[str]) -> None:
        """We wrote to these."""
        self._written_to.update(receivers)

    def _knows(self, peer: str) -> bool:
        return peer in self._written_to or self._standings.get(peer) is Standing.KNOWN
