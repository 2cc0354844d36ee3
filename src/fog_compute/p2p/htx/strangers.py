"""How much is taken from people whom one does not know: little, and little of each.

A name costs nothing, so that there is a bound on all of them together beside that on each.
"""

from __future__ import annotations

from typing import Final

from fog_compute.p2p.htx.envelope import EnvelopeInvalid
from fog_compute.units import KIB

__all__ = ["StrangerLimits"]

STRANGER_BYTES: Final = 16 * KIB
"""Longest message of a stranger, with its envelope."""

PER_STRANGER: Final = 10
ALL_STRANGERS: Final = 100
WINDOW_S: Final = 3600.0
"""So many messages of one stranger, and of all of them, in an hour."""


class StrangerLimits:
    """Counts messages by sender, in windows that begin with the first one."""

    def __init__(self) -> None:
        self._counts: Final[dict[str, int]] = {}
        self._began: float | None = None
        self._all = 0

    def admit(self, sender: str, size: int, now: float) -> None:
        """Count a message of a stranger.

        Raises:
            EnvelopeInvalid: it is too long, or one too many.
        """
        if size > STRANGER_BYTES:
            raise EnvelopeInvalid("stranger_size", "it is too long for one who is not known")
        if self._began is None or now - self._began >= WINDOW_S:
            self._began, self._all = now, 0
            self._counts.clear()
        if self._all >= ALL_STRANGERS or self._counts.get(sender, 0) >= PER_STRANGER:
            raise EnvelopeInvalid("stranger_rate", "too many come from people who are not known")
        self._all += 1
        self._counts[sender] = self._counts.get(sender, 0) + 1
