"""Opening, writing and closing the store."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote

from sqlalchemy import create_engine, event
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from fog_compute.clock import Clock, SystemClock
from fog_compute.errors import StoreError, StoreUnusable
from fog_compute.layout import DATABASE_PATH_BYTES
from fog_compute.locking import take_lock
from fog_compute.observability import get_logger
from fog_compute.store.blobs import BlobStore
from fog_compute.store.changes import Change, Reported, Written
from fog_compute.store.damage import Damaged, Damages
from fog_compute.store.events import Events
from fog_compute.store.failures import plain
from fog_compute.store.migrate import migrate
from fog_compute.store.redate import redate
from fog_compute.store.repositories import Attempts, Results, Statistics, Tasks
from fog_compute.store.writer import Writer
from fog_compute.tasks.model import Task
from fog_compute.threads import in_thread
from fog_compute.units import KIB

_log = get_logger("fog_compute.store")

DRIVER: Final = "sqlite+pysqlite"
READERS: Final = 4
BUSY_TIMEOUT_MS: Final = 5000
BLOB_GRACE_S: Final = 86400.0
ROW_BYTES: Final = 64 * KIB
"""Results of up to this many bytes lie in the database; larger ones are blobs."""

_NO_PLACE: Final = (PermissionError, NotADirectoryError, FileExistsError)
_DAMAGED: Final = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)


@dataclass(frozen=True, slots=True)
class Swept:
    """What `Store.sweep` deleted."""

    tasks: int
    results: int
    blobs: int


class Store:
    """Everything that must survive a restart, in one SQLite file and a folder of blobs beside it.

    Attributes:
        blobs: modules, inputs: put and get by SHA-256.
        tasks: make and find tasks.
        attempts: find attempts.
        results: find results.
        events: a task's history; wait for its next change.
        statistics: totals per privacy level.
        damages: the rows that could not be read so far.
    """

    def __init__(
        self,
        writing: Engine,
        reading: Engine,
        blobs: BlobStore,
        clock: Clock,
        result_ttl: timedelta,
        locks: contextlib.ExitStack,
    ) -> None:
        """Use `Store.open`."""
        self._writing = writing
        self._reading = reading
        self._locks = locks
        self.blobs = blobs
        self.damages = Damages()
        self.attempts = Attempts(reading, self.damages)
        self.tasks = Tasks(
            reading, self._create, self.attempts, blobs, clock, self.damages, self._set_aside
        )
        self.results = Results(reading, self.damages, blobs)
        self.events = Events(reading, self.damages, self.tasks)
        self.statistics = Statistics(reading, self.damages)
        self._writer = Writer(writing, clock, result_ttl, self.events.announce)
        self._running = asyncio.create_task(self._writer.run(), name="store-writer")

    @classmethod
    async def open(
        cls,
        place: str | Path,
        *,
        clock: Clock | None = None,
        result_ttl_s: float = 7 * 86400.0,
    ) -> Store:
        """Open or make the store, migrate it, and start its writer.

        Args:
            place: the database file as a path, or as an SQLite URL.
            clock: what time it is.
            result_ttl_s: seconds that finished tasks are kept.

        Raises:
            StoreUnusable: it is damaged or newer than this version, or no file can be there.
            StoreError: it is in use or cannot be opened now.
        """
        parsed = _url_of(place)
        path = Path(parsed.database or "")
        clock = SystemClock() if clock is None else clock
        with contextlib.ExitStack() as stack:
            blobs = _take_place(path, stack, clock)
            writing, reading = _engines(parsed)
            try:
                if jump := await in_thread(_bring_up, writing, clock):
                    await blobs.redate(jump)
                    _log.warning("clock.jumped", seconds=round(jump.total_seconds()))
            except (SQLAlchemyError, OSError) as err:
                writing.dispose()
                raise _open_failure(err, parsed) from err
            except BaseException:
                writing.dispose()
                raise
            return cls(
                writing,
                reading,
                blobs,
                clock,
                timedelta(seconds=result_ttl_s),
                stack.pop_all(),
            )

    async def apply(self, changes: Sequence[Change]) -> Written:
        """Write all the changes in one transaction; on disk when this returns what they changed.

        Cancelled: the changes may or may not be written, but never a part of them.

        Raises:
            Conflict: a row is no longer in a state that allows its change; nothing was written.
            NotFound: a task or attempt does not exist; nothing was written.
            StoreError: the database refused; nothing was written.
        """
        return await self._writer.apply([await self._kept(change) for change in changes])

    async def _kept(self, change: Change) -> Change:
        """Put a large result among the blobs; one that is not committed goes with the sweep."""
        if isinstance(change, Reported) and len(change.result.data) > ROW_BYTES:
            return replace(change, blob=await self.blobs.put(change.result.data))
        return change

    async def unpark(self, *, anew: bool = False) -> None:
        """Let hopeless tasks be looked at now; ``anew`` forgets since when they are hopeless.

        Raises:
            StoreError: the database refused.
        """
        await self._writer.unpark(anew=anew)

    async def touch(self) -> None:
        """Write what is written already, to learn whether the database takes changes.

        Raises:
            StoreError: it takes none.
        """
        await self._writer.touch()

    async def sweep(self) -> Swept:
        """Delete results and finished tasks whose time to live ended, and blobs that nobody names.

        Raises:
            StoreError: the database refused.
        """
        tasks, results, kept = await self._writer.sweep()
        return Swept(tasks, results, blobs=await self.blobs.sweep(kept, BLOB_GRACE_S))

    async def close(self) -> None:
        """Write what was asked for, then close.  Safe to call twice."""
        if not self._running.done():
            await self._writer.close()
        try:
            await self._running
        finally:
            self._reading.dispose()
            self._writing.dispose()
            self._locks.close()

    async def __aenter__(self) -> Self:
        """Return the store itself."""
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close."""
        await self.close()

    async def _create(self, tasks: Sequence[Task], key: str | None) -> None:
        await self._writer.apply((), new=tasks, key=key)

    async def _set_aside(self, damaged: Sequence[Damaged]) -> int:
        return await self._writer.set_aside(damaged)


def _bring_up(writing: Engine, clock: Clock) -> timedelta:
    """Migrate a database, and return by what it was dated anew."""
    with writing.begin() as connection:
        migrate(connection)
        return redate(connection, clock)


def _open_failure(error: SQLAlchemyError | OSError, url: URL) -> StoreError:
    original = error.orig if isinstance(error, DBAPIError) else error
    if getattr(original, "sqlite_errorcode", None) in _DAMAGED:
        return StoreUnusable(
            f"the database {url.database} is damaged ({plain(error)}): put a copy of it back, or"
            " move it away to begin anew"
        )
    return StoreError(f"the database could not be opened: {plain(error)}")


def _url_of(place: str | Path) -> URL:
    """A path is handed over as it is: in a URL's text some of its characters would mean more."""
    if isinstance(place, Path):
        return URL.create(DRIVER, database=str(place))
    try:
        parsed = make_url(place)
    except SQLAlchemyError as err:
        raise StoreUnusable("the database URL cannot be read: give sqlite:///path") from err
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        raise StoreUnusable("the store is an SQLite file: give sqlite:///path as database URL")
    return parsed.set(drivername=DRIVER)


def _take_place(path: Path, stack: contextlib.ExitStack, clock: Clock) -> BlobStore:
    """Make the folders of a database and lock it until ``stack`` ends; return its blobs."""
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
        return BlobStore(path.parent / "blobs", clock)
    except OSError as err:
        kind = StoreUnusable if isinstance(err, _NO_PLACE) else StoreError
        raise kind(f"the database {path} cannot be opened: {err.strerror}") from err


def _lock(path: Path) -> int:
    """Hold ``path`` for this process; two writers would not see each other's groups."""
    descriptor = take_lock(path, tries=1)
    if descriptor is None:
        raise StoreError(
            f"the database is in use by another process (lock {path.name}): stop it first"
        )
    return descriptor


def _engines(url: URL) -> tuple[Engine, Engine]:
    """Return the engine that writes (one connection) and the one that reads."""
    writing = create_engine(url, poolclass=QueuePool, pool_size=1, max_overflow=0)
    event.listen(writing, "connect", _prepare_writer)
    event.listen(writing, "begin", _begin_immediate)
    reading = create_engine(
        url.set(
            database="file:" + quote(bytes(Path(url.database or "").absolute())),
            query={"mode": "ro", "uri": "true"},
        ),
        poolclass=QueuePool,
        pool_size=READERS,
        isolation_level="AUTOCOMMIT",
    )
    event.listen(reading, "connect", _prepare_reader)
    return writing, reading


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
