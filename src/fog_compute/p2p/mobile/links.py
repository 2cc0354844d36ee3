"""Links of the mesh that are no Bluetooth: what all kinds of them have in common.

To the mesh's engine a link is a link: packets keep their TTL and signature, duplicates are known,
and what one link brings goes to the others by the same rules.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from fog_compute.p2p.bitchat.events import FrameReceived, FrameSent, LinkDown, LinkUp

__all__ = ["FIRST_ISLAND_LINK", "FIRST_WEB_LINK", "LinkNews", "RateLimit", "Tell"]

FIRST_WEB_LINK: Final = 1 << 40
FIRST_ISLAND_LINK: Final = 1 << 41
"""Numbers of links, so that no two kinds have one in common; Bluetooth counts from 1."""

LinkNews: TypeAlias = LinkUp | LinkDown | FrameReceived | FrameSent

Tell: TypeAlias = Callable[[LinkNews], None]
"""Who hears of it, in the event loop."""


class RateLimit:
    """A bucket of tokens: so many at once, and so many a second."""

    __slots__ = ("_at", "_burst", "_left", "_per_s")

    def __init__(self, per_s: float, burst: float) -> None:
        """Begin with a full bucket."""
        self._per_s: Final = per_s
        self._burst: Final = burst
        self._left = burst
        self._at: float | None = None

    def take(self, count: float, now: float) -> bool:
        """Take tokens, if there are so many; ``now`` in seconds that never go back."""
        if self._at is not None:
            self._left = min(self._burst, self._left + (now - self._at) * self._per_s)
        self._at = now
        if count > self._left:
            return False
        self._left -= count
        return True
