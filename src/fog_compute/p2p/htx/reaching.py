"""Who can be reached over the mixnet, and whether it can be reached itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import betanet
from fog_compute.levels import PrivacyLevel
from fog_compute.p2p.core.contacts import PeerBook
from fog_compute.p2p.core.transport import Reach, Reachability, TransportType
from fog_compute.p2p.htx.mixnet import MixnetClient

__all__ = ["OFFLINE", "Addresses", "trouble_of"]

OFFLINE: Final = "the mixnet cannot be reached"


class Addresses:
    """People's addresses of one level, by the cards in the book, and what was told of them."""

    __slots__ = ("_book", "_level", "_reached", "_tell")

    def __init__(
        self, book: PeerBook, level: PrivacyLevel, tell: Callable[[Reachability], None]
    ) -> None:
        """Tell nothing yet; `begin` does."""
        self._book: Final = book
        self._level: Final = level
        self._tell: Final = tell
        self._reached: Final[set[str]] = set()

    def begin(self) -> None:
        """Tell of everybody who can be reached, as if nothing had been told."""
        self._reached.clear()
        for peer in self._book:
            self.changed(peer.fingerprint)

    def changed(self, fingerprint: str) -> None:
        """Tell who can be reached now, and who no more."""
        reached = self.of(fingerprint)[0] is not None
        if reached and fingerprint not in self._reached:
            self._reached.add(fingerprint)
            self._tell(Reachability(TransportType.BETANET_HTX, fingerprint, Reach.ADDRESS))
        elif not reached and fingerprint in self._reached:
            self._reached.discard(fingerprint)
            self._tell(Reachability(TransportType.BETANET_HTX, fingerprint, Reach.NONE))

    def of(self, fingerprint: str) -> tuple[str | None, str]:
        """Somebody's address at this level, or why there is none."""
        peer = self._book.get(fingerprint)
        addresses: Mapping[PrivacyLevel, str] = {} if peer is None else peer.addresses
        if not addresses:
            return None, "no address of theirs is known: ask for their card, `fog peer add CARD`"
        found = addresses.get(self._level)
        if found is None:
            theirs = ", ".join(level.name for level in addresses)
            return None, f"they take messages at {theirs}, and not at {self._level.name}"
        return found, ""


def trouble_of(client: MixnetClient, level: PrivacyLevel) -> str | None:
    """Why nothing can be sent at a level now; None if it can."""
    try:
        view = client.status()
    except betanet.Closed:
        return "the mixnet client is closed"
    if not view.edges_attached:
        return view.trouble or f"{OFFLINE}: no edge answers"
    lacking = next((one for one in view.shortages if one.hops == level.hops), None)
    return None if lacking is None else lacking.text
