"""Opening, writing and closing the store."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final, Self

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from fog_compute.clock import Clock, SystemClock
from fog_compute.errors import NO_REDIS, StoreError, StoreUnusable
from fog_compute.observability import get_logger
from fog_compute.observability.metrics import Registry, StoreMetrics
from fog_compute.store.attempts import Attempts
from fog_compute.store.backends import Backends
from fog_compute.store.bells import Bell, PostgresBell
from fog_compute.store.blob_files import FolderBlobs
from fog_compute.store.blob_rows import RowBlobs
from fog_compute.store.blobs import BlobStore
from fog_compute.store.changes import Change, Reported, Written
from fog_compute.store.circuits import CircuitTotals, Sessions
from fog_compute.store.damage import Damaged, Damages
from fog_compute.store.dialects import (
    NO_PLACE,
    Database,
    Engines,
    Listening,
    Turn,
    Verdict,
    database_at,
    judge,
    take_turn,
)
from fog_compute.store.echo import Echo
from fog_compute.store.events import Events
from fog_compute.store.failures import plain
from fog_compute.store.keys import Keys
from fog_compute.store.messages import Messages
from fog_compute.store.migrate import migrate
from fog_compute.store.parked import resume_parked, unpark
from fog_compute.store.quota import BoundedBlobs
from fog_compute.store.redate import redate
from fog_compute.store.results import Results
from fog_compute.store.statistics import Statistics
from fog_compute.store.tasks import Tasks
from fog_compute.store.writer import Writer
from fog_compute.tasks.model import Task
from fog_compute.threads import in_thread
from fog_compute.units import KIB

_log = get_logger("fog_compute.store")

BLOB_GRACE_S: Final = 86400.0
ROW_BYTES: Final = 64 * KIB
"""Results of up to this many bytes lie in the database; larger ones are blobs."""


@dataclass(frozen=True, slots=True)
class Swept:
    """What `Store.sweep` deleted."""

    tasks: int
    results: int
    blobs: int


class Store:
    """Everything that must survive a restart, in one database and the blobs that go with it.

    Attributes:
        blobs: modules, inputs: put and get by SHA-256.
        folders: where the `database` and the `blobs` are, as far as they are files of ours.
        tasks: make and find tasks.
        attempts: find attempts.
        results: find results.
        events: a task's history; wait for its next change.
        statistics: totals per privacy level.
        sessions: sessions of circuits, for the next run.
        circuit_totals: what the circuits of each level did in all runs.
        keys: API keys, and the logins that came of them.
        messages: the messages and contacts of whoever has this home.
        damages: the rows that could not be read so far.
        backends: this process among the others that have the database open; None if there are none.
        echo: what those others write, as it is heard here; None likewise.
    """

    def __init__(
        self,
        engines: Engines,
        blobs: BlobStore,
        clock: Clock,
        result_ttl: timedelta,
        locks: contextlib.ExitStack,
        home: str | None,
        listen: Callable[[str], Listening],
        vacuum: Callable[[Connection], None] | None,
        redis_url: str | None,
        folders: Mapping[str, Path],
        metrics: StoreMetrics,
    ) -> None:
        """Use `Store.open`."""
        self._engines = engines
        reading = engines.reading
        self._locks = locks
        self._clock = clock
        self.blobs = blobs
        self.folders = folders
        self.damages = Damages()
        self.attempts = Attempts(reading, self.damages)
        self._writer = Writer(
            engines.writing,
            clock,
            result_ttl,
            self._announce,
            lambda: self.owner,
            metrics,
        )
        self.backends = None if home is None else Backends(self._writer.do, home)
        self.tasks = Tasks(
            reading,
            self._create,
            self.attempts,
            blobs,
            clock,
            self.damages,
            self._set_aside,
            self.backends,
        )
        self.results = Results(reading, self.damages, blobs)
        self.events = Events(reading, self.damages, self.tasks)
        self.statistics = Statistics(reading, self.damages)
        self.keys = Keys(reading, self.damages, self._writer)
        self.sessions = Sessions(reading, self.damages, self._writer, home or "")
        self.circuit_totals = CircuitTotals(reading, self.damages, self._writer)
        self.messages = Messages(reading, self.damages, self._writer, home or "", vacuum)
        self.echo: Echo | None = None
        if self.backends is not None:
            bells: list[Bell] = [PostgresBell(listen, lambda: self.owner or "", clock)]
            if redis_url is not None:
                bells.append(_redis_bell(redis_url, lambda: self.owner or "", clock))
            self.echo = Echo(self.tasks, self.events, bells, clock)
        self._running = asyncio.create_task(self._writer.run(), name="store-writer")

    @classmethod
    async def open(
        cls,
        place: str | Path,
        *,
        blobs: Path | None = None,
        clock: Clock | None = None,
        blob_bytes: int | None = None,
        result_ttl_s: float = 7 * 86400.0,
        home: str | None = None,
        redis_url: str | None = None,
        metrics: StoreMetrics | None = None,
    ) -> Store:
        """Open or make the store, migrate it, and start its writer.

        Args:
            place: the database file as a path, or the URL of an SQLite file or of a Postgres
                database, which several stores may have open.
            blobs: the folder of the blobs; by default one beside the SQLite file, and none where
                Postgres has them in rows.
            clock: what time it is.
            blob_bytes: how much all blobs may have before uploads are refused; None for any.
            result_ttl_s: seconds that finished tasks are kept.
            home: names what one process at a time has, where the database is shared: whoever opens
                it so is one of its backends.
            redis_url: where those have a Redis that tells of each other's commits, too.
            metrics: times what is written.

        Raises:
            StoreUnusable: it is damaged or newer than this version, or no file can be there.
            StoreError: it is in use or cannot be opened now.
        """
        database = database_at(place)
        clock = SystemClock() if clock is None else clock
        with contextlib.ExitStack() as stack:
            database.take(stack)
            engines = database.engines()
            try:
                kept = _blobs_of(database, engines, blobs, clock)
                if blob_bytes is not None:
                    kept = BoundedBlobs(kept, blob_bytes, clock)
                if jump := await in_thread(_bring_up, database, engines.writing, clock):
                    await kept.redate(jump)
                    _log.warning("clock.jumped", seconds=round(jump.total_seconds()))
            except (SQLAlchemyError, OSError) as err:
                engines.dispose()
                raise _open_failure(err, database) from err
            except BaseException:
                engines.dispose()
                raise
            return cls(
                engines,
                kept,
                clock,
                timedelta(seconds=result_ttl_s),
                stack.pop_all(),
                home if database.shared else None,
                database.listen,
                None if database.shared else database.vacuum,
                redis_url,
                _folders_of(database, blobs),
                StoreMetrics(Registry()) if metrics is None else metrics,
            )

    @property
    def waiting(self) -> int:
        """Changes that nobody has begun to write."""
        return self._writer.waiting

    @property
    def owner(self) -> str | None:
        """Whose attempts are changed here; None where all are, empty while none are."""
        return None if self.backends is None else self.backends.me

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

    async def unpark(self, absent: timedelta = timedelta()) -> None:
        """Let hopeless tasks be looked at now; while ``absent`` they were not hopeless.

        Raises:
            StoreError: the database refused.
        """
        now = self._clock.now()
        await self._writer.do(lambda connection: unpark(connection, now, absent))

    async def resume_parked(self) -> timedelta:
        """As `unpark`, after a time in which nobody looked; return how long that was.

        Raises:
            StoreError: the database refused.
        """
        now = self._clock.now()
        return await self._writer.do(lambda connection: resume_parked(connection, now))

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
            self._engines.dispose()
            self._locks.close()

    async def __aenter__(self) -> Self:
        """Return the store itself."""
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close."""
        await self.close()

    def _announce(self, history: Sequence[Task]) -> None:
        self.events.announce(history)
        if self.echo is not None:
            self.echo.wrote(history)

    async def _create(self, tasks: Sequence[Task], key: str | None) -> None:
        await self._writer.apply((), new=tasks, key=key)

    async def _set_aside(self, damaged: Sequence[Damaged]) -> int:
        return await self._writer.set_aside(damaged)


def _redis_bell(url: str, me: Callable[[], str], clock: Clock) -> Bell:
    try:
        # Here, because it is an extra.
        from fog_compute.store.redis_bell import RedisBell
    except ModuleNotFoundError as err:
        raise StoreUnusable(NO_REDIS) from err
    return RedisBell(url, me, clock)


def _folders_of(database: Database, blobs: Path | None) -> Mapping[str, Path]:
    beside = database.blobs_folder
    where = {"database": None if beside is None else beside.parent, "blobs": blobs or beside}
    return {name: folder for name, folder in where.items() if folder is not None}


def _blobs_of(database: Database, engines: Engines, folder: Path | None, clock: Clock) -> BlobStore:
    """Return the blobs of a database, in ``folder`` if that is given."""
    place = database.blobs_folder if folder is None else folder
    if place is None:
        return RowBlobs(engines.visiting, clock)
    try:
        return FolderBlobs(place, clock)
    except OSError as err:
        kind = StoreUnusable if isinstance(err, NO_PLACE) else StoreError
        raise kind(f"the folder {place} of the blobs cannot be used: {err.strerror}") from err


def _bring_up(database: Database, writing: Engine, clock: Clock) -> timedelta:
    """Migrate a database, and return by what it was dated anew."""
    with writing.begin() as connection, database.unhurried(connection):
        take_turn(connection, Turn.SCHEMA)
        migrate(connection)
        return redate(connection, clock, partial(database.alone, connection))


def _open_failure(error: SQLAlchemyError | OSError, database: Database) -> StoreError:
    match judge(error):
        case Verdict.DAMAGED:
            return StoreUnusable(
                f"the database {database.name} is damaged ({plain(error)}): put a copy of it back,"
                " or move it away to begin anew"
            )
        case Verdict.UNUSABLE:
            return StoreUnusable(f"the database {database.name} lets nobody in: {plain(error)}")
        case Verdict.AWAY:
            return StoreError(f"the database {database.name} cannot be reached: {plain(error)}")
        case _:
            return StoreError(f"the database could not be opened: {plain(error)}")
