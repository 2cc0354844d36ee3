"""Links of the mesh that are no Bluetooth: what all kinds of them have in common.

To the mesh's engine a link is a link: packets keep their TTL and signature, duplicates are known,
and what one link brings goes to the others by the same rules.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from fog_compute.p2p.bitchat.events import FrameReceived, FrameSent, LinkDown, LinkUp

__all__ = ["FIRST_ISLAND_LINK", "FIRST_WEB_LINK", "LinkNews", "Tell"]

FIRST_WEB_LINK: Final = 1 << 40
FIRST_ISLAND_LINK: Final = 1 << 41
"""Numbers of links, so that no two kinds have one in common; Bluetooth counts from 1."""

LinkNews: TypeAlias = LinkUp | LinkDown | FrameReceived | FrameSent

Tell: TypeAlias = Callable[[LinkNews], None]
"""Who hears of it, in the event loop."""
