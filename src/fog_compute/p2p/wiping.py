"""Destroying all that there is of a person, to the end, whatever comes between.

A file beside the keys says that it has begun; it goes last. Whoever finds it goes on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from fog_compute.errors import FogError
from fog_compute.p2p.bitchat.mail.mail_file import MailFile
from fog_compute.p2p.core.identity import IdentityFile
from fog_compute.p2p.store_book import StoreBook
from fog_compute.threads import in_thread
from fog_compute.writing import write_private

__all__ = ["Wiping", "wipe_mark"]


def wipe_mark(identity_file: Path) -> Path:
    """The file that says that a wipe has begun."""
    return identity_file.with_name("wipe-begun")


class Wiping:
    """Destroys what is kept of one person, who does nothing meanwhile."""

    def __init__(
        self, identity_file: Path, card_file: Path, mail_file: Path | None, book: StoreBook
    ) -> None:
        """Destroy nothing yet."""
        self._identity: Final = identity_file
        self._card: Final = card_file
        self._mail: Final = mail_file
        self._book: Final = book
        self._mark: Final = wipe_mark(identity_file)

    async def begun(self) -> bool:
        """Whether a wipe has begun that did not come to its end."""
        return await in_thread(self._mark.exists)

    async def begin(self) -> bool:
        """Note that it begins, where there is room for that; whether one had begun before."""
        if await self.begun():
            return True
        with contextlib.suppress(OSError):  # a full disk keeps nothing from being destroyed
            await in_thread(write_private, self._mark, b"")
        return False

    async def run(self, also: Callable[[], Awaitable[None]] | None = None) -> bool:
        """Destroy everything; whether there were keys.

        What cannot be destroyed keeps nothing else from it; the first such error is raised then.

        Args:
            also: destroys what others keep.

        Raises:
            HomeUnusable: a file cannot be overwritten.
            StoreError: the messages cannot be deleted.
        """
        found: list[bool] = []

        async def keys() -> None:
            found.append(await in_thread(IdentityFile(self._identity).wipe))

        async def card() -> None:
            await in_thread(self._card.unlink, True)

        async def mail() -> None:
            if self._mail is not None:
                await in_thread(MailFile(self._mail).wipe)

        errors: list[Exception] = []
        for destroy in (keys, card, mail, self._book.wipe, *(() if also is None else (also,))):
            try:
                await destroy()
            except (FogError, OSError) as error:
                errors.append(error)
        if errors:
            raise errors[0]
        await in_thread(self._mark.unlink, True)
        return found[0]
