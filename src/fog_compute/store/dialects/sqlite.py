"""SQLite: a file, a lock beside it, one process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from fog_compute.errors import StoreError, StoreUnusable
from fog_compute.layout import DATABASE_PATH_BYTES
from fog_compute.locking import take_lock
from fog_compute.store.dialects.base import NO_PLACE, Engines, Listening

__all__ = ["SqliteDatabase"]

DRIVER: Final = "sqlite+pysqlite"
READERS: Final = 4
BUSY_TIMEOUT_MS: Final = 5000
MOST_FAULTS: Final = 100
"""Faults of a file that are looked for: one page may make thousands."""


class SqliteDatabase:
    """A database in a file of this machine."""

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        """Use the file ``path``."""
        self._path = path

    @property
    def name(self) -> str:
        """Its path."""
        return str(self._path)

    @property
    def shared(self) -> bool:
        """Never: a lock keeps the others away."""
        return False

    @property
    def blobs_folder(self) -> Path:
        """A folder beside the file."""
        return self._path.parent / "blobs"

    def take(self, stack: contextlib.ExitStack) -> None:
        """Make its folder, and lock it for this process until ``stack`` ends."""
        path = self._path
        try:
            if len(bytes(path.resolve())) > DATABASE_PATH_BYTES:
                raise StoreUnusable(
                    f"the path of the database {path} is longer than {DATABASE_PATH_BYTES} bytes:"
                    " choose a shorter one"
                )
            if path.is_dir():
                raise StoreUnusable(f"the database {path} is a folder: name a file")
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            stack.callback(os.close, _lock(path.with_name(path.name + ".lock")))
        except OSError as err:
            kind = StoreUnusable if isinstance(err, NO_PLACE) else StoreError
            raise kind(f"the database {path} cannot be opened: {err.strerror}") from err

    def engines(self) -> Engines:
        """Return the engine that writes (one connection) and the one that reads."""
        url = URL.create(DRIVER, database=str(self._path))
        writing = create_engine(url, poolclass=QueuePool, pool_size=1, max_overflow=0)
        event.listen(writing, "connect", _prepare_writer)
        event.listen(writing, "begin", _begin_immediate)
        reading = create_engine(
            url.set(
                database="file:" + quote(bytes(self._path.absolute())),
                query={"mode": "ro", "uri": "true"},
            ),
            poolclass=QueuePool,
            pool_size=READERS,
            isolation_level="AUTOCOMMIT",
        )
        event.listen(reading, "connect", _prepare_reader)
        return Engines(writing, writing, reading)

    def listen(self, channel: str) -> Listening:
        """Never: nobody else writes."""
        raise StoreUnusable(f"nobody else writes to {self.name}: {channel} is never heard")

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    def in_one_view(self, connection: Connection) -> None:
        """A transaction sees what was there when it first read."""
        connection.exec_driver_sql("BEGIN")

    def own_faults(self, connection: Connection) -> Iterator[tuple[str, str]]:
        """Pages and indexes that are not whole, and rows that name rows that are not there."""
        for (said,) in connection.exec_driver_sql(f"PRAGMA integrity_check({MOST_FAULTS})"):
            if said != "ok":
                yield self.name, said
        for table, row, parent, _ in connection.exec_driver_sql("PRAGMA foreign_key_check"):
            yield f"{table} row {row}", f"what it names in {parent} is not there"

    def size(self, connection: Connection) -> int:
        """The file and what was written beside it."""
        del connection
        files = (self._path, self._path.with_name(self._path.name + "-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    def vacuum(self, connection: Connection) -> None:
        """Write the file anew."""
        driver = connection.connection.cursor()
        try:
            driver.execute("VACUUM")
            driver.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            driver.close()

    def unhurried(self, connection: Connection) -> contextlib.AbstractContextManager[None]:
        """It is waited for in any case."""
        del connection
        return contextlib.nullcontext()

    def alone(self, connection: Connection) -> bool:
        """Always: `take` kept the others away."""
        del connection
        return True


def _lock(path: Path) -> int:
    """Hold ``path`` for this process; two writers would not see each other's groups."""
    descriptor = take_lock(path, tries=1)
    if descriptor is None:
        raise StoreError(
            f"the database is in use by another process (lock {path.name}): stop it first"
        )
    return descriptor


def _prepare_writer(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # SQLAlchemy's begin event starts transactions, not sqlite3
    _pragmas(connection, "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON")


def _prepare_reader(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    _pragmas(connection, "query_only=ON")


def _pragmas(connection: DBAPIConnection, *pragmas: str) -> None:
    cursor = connection.cursor()
    for pragma in (f"busy_timeout={BUSY_TIMEOUT_MS}", *pragmas):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
