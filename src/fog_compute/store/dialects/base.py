"""What the store needs of a database."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from sqlalchemy import Connection, Engine

NO_PLACE: Final = (PermissionError, NotADirectoryError, FileExistsError)
"""The machine's answers where no file or folder can be, however often it is tried."""


@dataclass(frozen=True, slots=True)
class Engines:
    """The connections to one database, by what they are for.

    Attributes:
        writing: one connection, of the writer; a transaction on it keeps other writers from the
            rows that it reads with ``with_for_update``.
        visiting: connections for short transactions that no group has a part in; with SQLite the
            writer's own.
        reading: read-only connections, each query for itself.
    """

    writing: Engine
    visiting: Engine
    reading: Engine

    def dispose(self) -> None:
        """Close all connections that nobody uses at the moment."""
        self.reading.dispose()
        self.visiting.dispose()
        self.writing.dispose()


class Listening(Protocol):
    """A connection on which notifications of other connections come."""

    def fileno(self) -> int:
        """The descriptor from which something can be read when there may be some."""
        ...

    def heard(self) -> Sequence[str]:
        """What came since the last call; raises whatever the driver does if the connection died."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


class Database(Protocol):
    """A database, named and not yet opened."""

    @property
    def name(self) -> str:
        """What to call it in front of a person; holds no password."""
        ...

    @property
    def shared(self) -> bool:
        """Whether other processes may have it open at the same time."""
        ...

    @property
    def blobs_folder(self) -> Path | None:
        """The folder of its blobs unless told otherwise; None if it has them in rows."""
        ...

    def take(self, stack: contextlib.ExitStack) -> None:
        """Make its place ready, and keep those away who may not share it until ``stack`` ends.

        Raises:
            StoreUnusable: it can have no place there.
            StoreError: it is in use, or its place cannot be used now.
        """
        ...

    def engines(self) -> Engines:
        """Return new engines; nothing is connected yet.

        Raises:
            StoreUnusable: its driver is not installed.
        """
        ...

    def listen(self, channel: str) -> Listening:
        """Connect, and hear what others notify; only where it is `shared`."""
        ...

    @property
    def path(self) -> Path | None:
        """The file that it is in; None if a server has it."""
        ...

    def in_one_view(self, connection: Connection) -> None:
        """Let a reading connection see what is there now until the end of its transaction."""
        ...

    def own_faults(self, connection: Connection) -> Iterator[tuple[str, str]]:
        """What the database itself finds wrong with what it holds: what it is, and why."""
        ...

    def size(self, connection: Connection) -> int:
        """Bytes of the disk that it takes."""
        ...

    def vacuum(self, connection: Connection) -> None:
        """Give back room that nothing uses, on a connection of the writer outside of any group."""
        ...

    def unhurried(self, connection: Connection) -> contextlib.AbstractContextManager[None]:
        """While a statement may take minutes in which nothing is heard, wait for it."""
        ...

    def alone(self, connection: Connection) -> bool:
        """Whether nobody else has it open."""
        ...
