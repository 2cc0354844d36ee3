"""The file in which a machine keeps the keys of its groups."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from fog_compute.errors import ConfigError
from fog_compute.reading import read_state
from fog_compute.tasks.groups import LOCAL, Group, Keyring
from fog_compute.writing import write_private

__all__ = ["KeyringFile", "Keys"]

Keys = Callable[[], Keyring]
"""Gives the groups as they are now: their keys may be replaced while everything runs."""

_Seen = tuple[int, int, int]


class KeyringFile:
    """Groups with their keys in a file that only its owner can read; a change is noticed."""

    __slots__ = ("_keyring", "_path", "_seen")

    def __init__(self, path: Path) -> None:
        """Read nothing yet."""
        self._path: Final = path
        self._keyring = Keyring()
        self._seen: _Seen | None = None

    def load(self) -> Keyring:
        """The groups.

        Raises:
            ConfigError: the file is damaged, cannot be read, or others can read it.
        """
        try:
            seen = self._look()
            if seen != self._seen:
                self._keyring = Keyring.parse(read_state(self._path))
                self._seen = seen
        except OSError as error:
            raise ConfigError(
                f"the groups in {self._path} cannot be read: {error.strerror}"
            ) from error
        except ConfigError as error:
            raise ConfigError(f"{self._path} cannot be used: {error}") from None
        return self._keyring

    def current(self) -> Keyring:
        """The groups as they are now, or, where the file cannot be read now, as they were."""
        try:
            return self.load()
        except ConfigError:
            return self._keyring

    def load_or_make(self) -> Keyring:
        """The groups; where there is no file yet, one group that has no other member.

        Raises:
            ConfigError: the file cannot be read or made.
        """
        if not self._path.exists():
            self.write(Keyring((Group.new(LOCAL),)))
        return self.load()

    def write(self, keyring: Keyring) -> None:
        """Keep these groups instead.

        Raises:
            ConfigError: they cannot be written; those that were kept still are.
        """
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(self._path, keyring.encode())
        except OSError as error:
            raise ConfigError(
                f"the groups cannot be written to {self._path}: {error.strerror}"
            ) from error

    def _look(self) -> _Seen:
        found = self._path.stat()
        if found.st_mode & 0o077:
            raise ConfigError(f"it holds keys that others may read: chmod go-rwx {self._path}")
        return found.st_ino, found.st_mtime_ns, found.st_size
