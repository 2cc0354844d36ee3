"""Whose clock is wrong: what is said more than two minutes from now is refused, by all.

A node whose clock is off hears nobody and is heard by nobody, and each packet alone looks like one
that somebody repeats. But a neighbour says who it is every half minute, and what comes over its
link with all hops left was made just now. If that is minutes from now, the two clocks are apart; if
it is so with all neighbours, this node's own is the likely one, and none can be talked to.

Whoever repeats an old announce over his own link makes that link look so, and no other.
"""

from __future__ import annotations

from statistics import median
from typing import Final

from fog_compute.p2p.bitchat.events import Link
from fog_compute.p2p.bitchat.mesh.news import ClocksApart

__all__ = ["Clocks"]

TOLD_S: Final = 90.0
"""For so long it counts what a neighbour's announce showed: three of them may be lost."""

LOOK_S: Final = 10.0
"""Announces that are refused are looked at once in so many seconds, of each link."""

QUIET_S: Final = 600.0
"""The same is told again after so many seconds."""


class Clocks:
    """How far the clocks of neighbours are from this node's."""

    __slots__ = ("_apart", "_looked", "_most", "_said", "_told")

    def __init__(self, most_s: float) -> None:
        """``most_s`` is how far two clocks may be apart."""
        self._most: Final = most_s
        self._told: dict[Link, tuple[float, float]] = {}
        self._looked: dict[Link, float] = {}
        self._apart = ClocksApart(0.0, 0, False)
        self._said = float("-inf")

    def down(self, link: Link) -> None:
        """A link is over."""
        self._told.pop(link, None)
        self._looked.pop(link, None)

    def looks(self, link: Link, now: float) -> bool:
        """Whether a refused announce is worth a look; it counts as looked at."""
        if now - self._looked.get(link, float("-inf")) < LOOK_S:
            return False
        self._looked[link] = now
        return True

    def note(self, link: Link, made_s: float, now: float) -> ClocksApart | None:
        """A neighbour made an announce at ``made_s`` by its clock; what is new by that, if any."""
        self._told[link] = made_s - now, now
        recent = [off for off, at in self._told.values() if now - at <= TOLD_S]
        wrong = [off for off in recent if abs(off) > self._most]
        one_side = min(recent) > 0 or max(recent) < 0
        everybody = len(wrong) == len(recent) and one_side
        apart = ClocksApart(median(wrong) if wrong else 0.0, len(wrong), everybody)
        former, self._apart = self._apart, apart
        same = (former.everybody, bool(former.neighbours)) == (everybody, bool(wrong))
        if same and (not wrong or now - self._said < QUIET_S):
            return None
        self._said = now
        return apart
