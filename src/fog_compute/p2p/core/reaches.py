"""Who can be reached how, and what each transport can do, as they last said."""

from __future__ import annotations

from typing import Final

from fog_compute.p2p.core.transport import EVERYBODY, Reach, TransportCapabilities, TransportType

__all__ = ["Reaches"]


class Reaches:
    """What all transports said."""

    def __init__(self) -> None:
        """Begin with no transport."""
        self.capabilities: Final[dict[TransportType, TransportCapabilities]] = {}
        self._of_peer: Final[dict[str, dict[TransportType, Reach]]] = {}

    def of(self, peer: str) -> dict[TransportType, Reach]:
        """How each transport reaches somebody; one that broadcasts reaches everybody who is near.

        What goes to everybody needs nobody who is heard.
        """
        if peer == EVERYBODY:
            return {
                kind: Reach.MESH
                for kind, can in self.capabilities.items()
                if can.supports_broadcast
            }
        return self._of_peer.get(peer, {})

    def everybody(self) -> dict[str, dict[TransportType, Reach]]:
        """Everybody who is reached, over transports that can be used now."""
        able = {kind for kind, can in self.capabilities.items() if can.available}
        found = {
            peer: {kind: reach for kind, reach in known.items() if kind in able}
            for peer, known in self._of_peer.items()
        }
        return {peer: known for peer, known in found.items() if known}

    def note(self, transport: TransportType, peer: str, reach: Reach) -> Reach:
        """Note how somebody is reached; return how it was before."""
        known = self._of_peer.setdefault(peer, {})
        before = known.get(transport, Reach.NONE)
        if reach is Reach.NONE:
            known.pop(transport, None)
            if not known:
                del self._of_peer[peer]
        else:
            known[transport] = reach
        return before

    def forget(self, transport: TransportType) -> None:
        """A transport went: it reaches nobody."""
        for peer in [one for one, known in self._of_peer.items() if transport in known]:
            self.note(transport, peer, Reach.NONE)
