"""Keeps contacts on disk as they change, and says to the router what they are to us now."""

from __future__ import annotations

import asyncio
from typing import Final

from fog_compute.clock import Clock
from fog_compute.errors import FogError
from fog_compute.observability import get_logger
from fog_compute.p2p.core.actions import StandingChanged
from fog_compute.p2p.core.background import background
from fog_compute.p2p.core.contacts import PeerBook
from fog_compute.p2p.core.inbox import Standing
from fog_compute.p2p.core.peer import Peer
from fog_compute.p2p.driver import RouterDriver
from fog_compute.p2p.store_book import StoreBook

__all__ = ["ContactKeeper", "standing_of"]

_log = get_logger("fog_compute.p2p")

SAVE_S: Final = 1.0
"""How long changes wait for others that are kept with them."""


class ContactKeeper:
    """One person's contacts, while the system runs."""

    def __init__(
        self, contacts: PeerBook, book: StoreBook, driver: RouterDriver, clock: Clock
    ) -> None:
        """Keep what changes of ``contacts`` from now on in ``book``."""
        self._contacts: Final = contacts
        self._book: Final = book
        self._driver: Final = driver
        self._clock: Final = clock
        self._saving: asyncio.Task[None] | None = None
        self._is_over = False
        contacts.watch(self._changed)

    async def save(self) -> None:
        """Keep at once what has changed.

        Raises:
            StoreError: it cannot be kept now; it is tried again with the next change.
        """
        kept, dropped = self._contacts.take_changes()
        if not kept and not dropped:
            return
        try:
            await self._book.save_peers(kept, dropped)
        except FogError as error:
            _log.warning("contacts.not_kept", error=type(error).__name__)
            self._contacts.put_back([*(one.fingerprint for one in kept), *dropped])
            raise

    async def stop(self) -> None:
        """Keep what has changed, if that can be, and no more after it."""
        self._is_over = True
        if self._saving is not None:
            self._saving.cancel()
        await self._try()

    def _changed(self, fingerprint: str) -> None:
        if self._is_over:
            return
        peer = self._contacts.get(fingerprint)
        standing = Standing.STRANGER if peer is None else standing_of(peer)
        self._driver.tell(StandingChanged(fingerprint, standing))
        if self._saving is None or self._saving.done():
            self._saving = background(self._save_soon(), "contacts-save")

    async def _save_soon(self) -> None:
        await self._clock.sleep(SAVE_S)
        await self._try()

    async def _try(self) -> None:
        try:
            await self.save()
        except FogError:
            return  # it is in the log, and tried again with the next change


def standing_of(peer: Peer) -> Standing:
    """What somebody is to us."""
    if peer.blocked:
        return Standing.BLOCKED
    return Standing.KNOWN if peer.is_kept else Standing.STRANGER
