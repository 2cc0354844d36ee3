"""The bridge: all links of the mesh that are no Bluetooth, behind one face.

Phones need none of it: they join as peers of our own Bluetooth service.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fog_compute.observability import get_logger
from fog_compute.p2p.bitchat.events import LinkSource, SendFrame
from fog_compute.p2p.core.transport import TransportUnavailable

__all__ = ["UnifiedMobileBridge"]

_log = get_logger("fog_compute.p2p")


class UnifiedMobileBridge:
    """Several sources of links as one; one that cannot start leaves the others alone.

    Attributes:
        troubles: why some could not start, a line for each.
    """

    def __init__(self, sources: Sequence[LinkSource]) -> None:
        """Start nothing yet."""
        self._sources: Final = tuple(sources)
        self.troubles: tuple[str, ...] = ()

    async def start(self) -> None:
        """Start all that can."""
        troubles: list[str] = []
        for source in self._sources:
            try:
                await source.start()
            except TransportUnavailable as error:
                troubles.append(str(error))
                _log.warning("bridge.unavailable", reason=str(error))
        self.troubles = tuple(troubles)

    async def stop(self) -> None:
        """Stop all; safe to call again."""
        for source in self._sources:
            await source.stop()

    def owns(self, link: int) -> bool:
        """Whether a link is, or was, one of the bridge."""
        return any(source.owns(link) for source in self._sources)

    def send(self, frame: SendFrame) -> None:
        """Send a frame over a link of the bridge."""
        for source in self._sources:
            if source.owns(frame.link):
                source.send(frame)

    def disconnect(self, link: int, leave_s: float = 0.0) -> None:
        """End a link of the bridge."""
        for source in self._sources:
            if source.owns(link):
                source.disconnect(link, leave_s)
