"""One's own contact card, kept so that it is signed anew only when what it says has changed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from fog_compute.levels import PrivacyLevel
from fog_compute.p2p.core.cards import MAX_CARD_CHARS, CardInvalid, ContactCard
from fog_compute.p2p.core.identity import Identity, as_name
from fog_compute.reading import read_state
from fog_compute.writing import write_private

__all__ = ["OwnCard"]


class OwnCard:
    """A card in a file. One that cannot be read is made anew."""

    __slots__ = ("_identity", "_path")

    def __init__(self, identity: Identity, path: Path) -> None:
        """Read nothing yet."""
        self._identity: Final = identity
        self._path: Final = path

    def issue(self, name: str, addresses: Mapping[PrivacyLevel, str], now_ms: int) -> ContactCard:
        """The card with this name and these addresses: the one of before, if it says the same.

        Raises:
            OSError: a new one cannot be kept.
        """
        before = self._read()
        if before is not None and (before.name, before.addresses) == (as_name(name), addresses):
            return before
        # Also where the clock went back: the newest card is the one that holds.
        issued_ms = now_ms if before is None else max(now_ms, before.issued_ms + 1)
        card = ContactCard.make(self._identity, name, addresses, issued_ms)
        write_private(self._path, card.text.encode("ascii") + b"\n")
        return card

    def _read(self) -> ContactCard | None:
        try:
            text = read_state(self._path, MAX_CARD_CHARS + 1).decode("ascii", "replace")
            card = ContactCard.parse(text)
        except (OSError, CardInvalid):
            return None
        return card if card.fingerprint == self._identity.fingerprint else None
