"""Where a node's mail is between two runs: a file of its owner's alone, whole or not there.

In it are sealed envelopes, the secrets of prekeys, and to whom mail of one's own is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from fog_compute.errors import HomeUnusable
from fog_compute.p2p.bitchat.mail.couriers import MailState
from fog_compute.reading import TooLarge, read_state
from fog_compute.units import MIB
from fog_compute.writing import destroy, write_private

__all__ = ["MailFile"]

MAX_FILE_BYTES: Final = 16 * MIB
"""540 envelopes of 16 KiB are 8.6 MiB."""


class _File(msgspec.Struct, frozen=True):
    version: int
    mail: MailState


class MailFile:
    """The file of a node's mail. Its folder has to exist."""

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        """Read nothing yet."""
        self._path: Final = path

    def load(self) -> MailState | None:
        """What was saved last; None if nothing was.

        Raises:
            HomeUnusable: the file cannot be read, or is damaged; the text says what to do.
        """
        try:
            kept = msgspec.msgpack.decode(read_state(self._path, MAX_FILE_BYTES), type=_File)
        except FileNotFoundError:
            return None
        except TooLarge:
            raise self._damaged() from None
        except OSError as error:
            raise self._unusable("cannot be read", error) from error
        except (msgspec.DecodeError, ValueError):
            raise self._damaged() from None
        if kept.version != 1:
            raise self._damaged()
        return kept.mail

    def save(self, mail: MailState) -> None:
        """Put this in the place of what was saved before; it is on disk when this returns.

        Raises:
            HomeUnusable: it cannot be written; what was there before still is.
        """
        try:
            write_private(self._path, msgspec.msgpack.encode(_File(1, mail)))
        except OSError as error:
            raise self._unusable("cannot be written", error) from error

    def wipe(self) -> bool:
        """Overwrite the file and delete it; whether there was one.

        Raises:
            HomeUnusable: it cannot be overwritten or deleted.
        """
        return destroy(self._path, self._unusable)

    def _damaged(self) -> HomeUnusable:
        return HomeUnusable(
            f"the mail in {self._path} is damaged: delete the file, and what others left for you"
            " with couriers is lost"
        )

    def _unusable(self, what: str, error: OSError) -> HomeUnusable:
        return HomeUnusable(f"the mail in {self._path} {what}: {error.strerror}")
