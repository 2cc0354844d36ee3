"""What a worker must not forget with a restart: results that nobody has acknowledged yet.

An attempt that was queued or running when the worker died is not here, and is answered as unknown:
the coordinator then tries again at once. One that a worker could not finish before it was stopped
in order is here as given back.  An attempt that is over leaves its handle behind, so a
late copy of its submission does not run it again.  The file survives the death of the process; if
the machine itself dies, the last results may be missing, and they too are answered as unknown.

Dates in the file are on a clock of its own, which goes on where it stood and counts what passes:
exactly within one boot of the machine, and else what the wall clock says, but never backwards and
at most an hour.  So a wall clock that jumps neither hides a result nor deletes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from fog_compute.clock import Clock, SystemClock
from fog_compute.errors import FogError
from fog_compute.observability import get_logger
from fog_compute.tasks.result import result_id
from fog_compute.units import KIB
from fog_compute.worker.shares import Owner
from fog_compute.worker.threads import beside

PIECE_BYTES: Final = 64 * KIB
ROW_BYTES: Final = 4 * KIB  # what the change of one row counts beside the bytes of results
EARLY_REMEMBERED: Final = 1 << 16
AWAY_S: Final = 3600.0
"""What a wall clock is believed about the time between two boots."""
_DAMAGED: Final = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)

# Results lie in pieces, because SQLite finds the middle of a large value only by reading up to it.
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS results (
    handle BLOB PRIMARY KEY,
    result_id BLOB NOT NULL,
    total INTEGER NOT NULL,
    grp TEXT NOT NULL,          -- to whose share it counts: group and session
    session BLOB NOT NULL,
    receipt BLOB NOT NULL,
    release_at REAL NOT NULL,   -- when the edge comes at which the result may be shown
    expires_at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS results_by_expiry ON results (expires_at);
CREATE TABLE IF NOT EXISTS pieces (
    handle BLOB NOT NULL REFERENCES results (handle) ON DELETE CASCADE,
    start INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (handle, start)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ended (
    handle BLOB PRIMARY KEY,
    expires_at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS ended_by_expiry ON ended (expires_at);
CREATE TABLE IF NOT EXISTS returned (  -- given back if the process ends before they do
    handle BLOB PRIMARY KEY,
    expires_at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS early (  -- cancelled before they came
    number INTEGER PRIMARY KEY,
    handle BLOB NOT NULL UNIQUE,
    expires_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS time (  -- the journal's own, and what other clocks showed then
    only INTEGER PRIMARY KEY CHECK (only = 1),
    stands REAL NOT NULL,
    boot TEXT NOT NULL,
    monotonic REAL NOT NULL,
    wall REAL NOT NULL
);
"""

_SUMS: Final = "SELECT grp, session, sum(total) FROM results GROUP BY grp, session"
_EXPIRE: Final = (
    "DELETE FROM results WHERE expires_at <= ?",
    "DELETE FROM ended WHERE expires_at <= ?",
    "DELETE FROM returned WHERE expires_at <= ?",
    "DELETE FROM early WHERE expires_at <= ?",
)

_log = get_logger("fog_compute.worker")

P = ParamSpec("P")
T = TypeVar("T")


class JournalUnusable(FogError):
    """The file cannot be opened, read or written now."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A finished attempt."""

    result_id: bytes
    total: int
    release_at: float  # on the journal's clock
    piece: bytes  # of the body, from the offset that was asked for
    receipt: bytes


class Journal:
    """Finished attempts in a small SQLite file.

    What asks is short and blocks; what writes much does so in a thread.  Writers come one after
    the other, each in one transaction, and to the end even if nobody waits for them any more.
    Every call may raise `JournalUnusable`.
    """

    def __init__(self, path: Path, clock: Clock | None = None) -> None:
        """Open or make the file; one that is damaged is begun anew."""
        self._clock: Clock = SystemClock() if clock is None else clock
        self._writing, self._reading = _open(path)
        self._lock = asyncio.Lock()
        self._ending: set[bytes] = set()  # noted in a moment
        with _telling():
            self._kept = _sums(self._reading)
        self._boot = self._clock.boot
        self._opened = self._clock.monotonic()
        self._stood = self._resumed()

    def now(self) -> float:
        """Return the time on the journal's clock; nothing but to compare with its dates."""
        return self._stood + self._clock.monotonic() - self._opened

    @property
    def kept_bytes(self) -> int:
        """Bytes of all results that wait for acknowledgement."""
        return sum(self._kept.values())

    @property
    def kept_by(self) -> Mapping[Owner, int]:
        """Bytes of these results, by whose they are."""
        return self._kept

    async def finish(
        self,
        handle: bytes,
        owner: Owner,
        body: bytes,
        release_at: float,
        expires_at: float,
        receipt: bytes = b"",
    ) -> None:
        """Keep a result; it is safe from the death of this process when this returns."""
        row = (body, receipt, release_at, expires_at)
        await self._write(len(body), self._finish, handle, owner, *row)

    async def drop_oldest(self, owner: Owner, size: int) -> None:
        """Drop the oldest results of ``owner``, of ``size`` bytes at least: others need the room.

        Who asks for one afterwards hears that it is unknown.
        """
        await self._write(size, self._drop_oldest, owner, size)

    async def give_back(self, handles: Sequence[bytes], until: float) -> None:
        """Remember until then that attempts were given back, unless they still finish."""
        if handles:
            await self._write(ROW_BYTES * len(handles), self._give_back, handles, until)

    async def forget(
        self, handles: Sequence[bytes], until: float, early: Sequence[bytes] = ()
    ) -> None:
        """Drop results, and remember until then that their attempts are over.

        ``early`` are attempts that were over before they came; only the last so many are kept.
        """
        early = early[-EARLY_REMEMBERED:]
        noted = {*handles, *early}
        self._ending |= noted
        try:
            with _telling():
                charges = (_charge(self._reading, handle) for handle in handles)
                size = sum(charge[1] for charge in charges if charge is not None)
            if noted:
                size += ROW_BYTES * len(noted)
                await self._write(size, self._forget, handles, until, early)
        finally:
            self._ending -= noted

    async def expire(self) -> int:
        """Delete what nobody asked for in time; return how many."""
        now = self.now()
        expired = self._one("SELECT count(*) FROM results WHERE expires_at <= ?", now)
        return await self._write(PIECE_BYTES * expired, self._expire, now)

    def over(self, handle: bytes) -> bool:
        """Say whether the attempt was acknowledged or cancelled before."""
        return handle in self._ending or bool(
            self._one(
                "SELECT EXISTS (SELECT 1 FROM ended WHERE handle = ?1)"
                " OR EXISTS (SELECT 1 FROM early WHERE handle = ?1)",
                handle,
            )
        )

    def knows(self, handle: bytes) -> bool:
        """Say whether the attempt's result is here."""
        return bool(self._one("SELECT EXISTS (SELECT 1 FROM results WHERE handle = ?)", handle))

    def returned(self, handle: bytes) -> bool:
        """Say whether the attempt was given back, as far as nothing runs it now."""
        return bool(self._one("SELECT EXISTS (SELECT 1 FROM returned WHERE handle = ?)", handle))

    def get(self, handle: bytes, offset: int, length: int) -> Kept | None:
        """Return a finished attempt with up to ``length`` bytes of its result, or None."""
        with _telling():
            row = self._reading.execute(
                "SELECT result_id, total, release_at, receipt FROM results WHERE handle = ?",
                (handle,),
            ).fetchone()
            if row is None:
                return None
            known_as, total, release_at, receipt = row
            first = min(offset, total)
            end = min(first + length, total)
            begin = first - first % PIECE_BYTES
            pieces = self._reading.execute(
                "SELECT data FROM pieces WHERE handle = ? AND start >= ? AND start < ?"
                " ORDER BY start",
                (handle, begin, end),
            )
            found = b"".join(data for (data,) in pieces)
        piece = found[first - begin : end - begin]
        return Kept(known_as, total, release_at, piece, receipt)

    def close(self) -> None:
        """Close the file."""
        self._reading.close()
        self._writing.close()

    async def _write(self, size: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        async with self._lock:
            try:
                return await beside(size, work, *args, **kwargs)
            except OSError as err:
                raise JournalUnusable(f"the worker's journal cannot be written: {err}") from err

    def _finish(
        self,
        handle: bytes,
        owner: Owner,
        body: bytes,
        receipt: bytes,
        release_at: float,
        expires_at: float,
    ) -> None:
        charged = (owner.group, owner.session)
        with self._transaction() as db:
            inserted = db.execute(
                "INSERT OR IGNORE INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (handle, result_id(body), len(body), *charged, receipt, release_at, expires_at),
            ).rowcount
            db.execute("DELETE FROM returned WHERE handle = ?", (handle,))
            if inserted:
                db.executemany(
                    "INSERT INTO pieces VALUES (?, ?, ?)",
                    (
                        (handle, start, body[start : start + PIECE_BYTES])
                        for start in range(0, len(body), PIECE_BYTES)
                    ),
                )
        self._count(owner, len(body) * inserted)

    def _drop_oldest(self, owner: Owner, size: int) -> None:
        with self._transaction() as db:
            oldest = db.execute(
                "SELECT handle, total FROM results WHERE grp = ? AND session = ?"
                " ORDER BY release_at",
                (owner.group, owner.session),
            )
            doomed, freed = [], 0
            for handle, total in oldest:
                if freed >= size:
                    break
                doomed.append((handle,))
                freed += total
            db.executemany("DELETE FROM results WHERE handle = ?", doomed)
        self._count(owner, -freed)

    def _count(self, owner: Owner, grown: int) -> None:
        self._kept[owner] = self._kept.get(owner, 0) + grown
        if self._kept[owner] <= 0:
            del self._kept[owner]

    def _give_back(self, handles: Sequence[bytes], until: float) -> None:
        with self._transaction() as db:
            db.executemany(
                "INSERT OR REPLACE INTO returned VALUES (?, ?)", ((h, until) for h in handles)
            )

    def _forget(self, handles: Sequence[bytes], until: float, early: Sequence[bytes]) -> None:
        with self._transaction() as db:
            freed = [found for handle in handles if (found := _charge(db, handle)) is not None]
            db.executemany("DELETE FROM results WHERE handle = ?", ((h,) for h in handles))
            db.executemany("DELETE FROM returned WHERE handle = ?", ((h,) for h in handles))
            db.executemany(
                "INSERT OR REPLACE INTO ended VALUES (?, ?)", ((h, until) for h in handles)
            )
            db.executemany(
                "INSERT OR IGNORE INTO early (handle, expires_at) VALUES (?, ?)",
                ((h, until) for h in early),
            )
            db.execute(
                "DELETE FROM early WHERE number <= (SELECT max(number) FROM early) - ?",
                (EARLY_REMEMBERED,),
            )
        for owner, size in freed:
            self._count(owner, -size)

    def _expire(self, now: float) -> int:
        with self._transaction() as db:
            deleted = sum(db.execute(query, (now,)).rowcount for query in _EXPIRE)
            self._kept = _sums(db)
        return deleted

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        clock = self._clock
        with _telling(), self._writing:
            yield self._writing
            self._writing.execute(
                "INSERT OR REPLACE INTO time VALUES (1, ?, ?, ?, ?)",
                (self.now(), self._boot, clock.monotonic(), clock.now().timestamp()),
            )

    def _resumed(self) -> float:
        """Return where the journal's clock stands after the time in which nobody had it open."""
        wall = self._clock.now().timestamp()
        with _telling():
            row = self._reading.execute("SELECT stands, boot, monotonic, wall FROM time").fetchone()
        if row is None:
            return wall
        stood, boot, monotonic, wall_then = row
        if boot and boot == self._boot:
            return float(stood + max(0.0, self._opened - monotonic))
        return float(stood + min(max(0.0, wall - wall_then), AWAY_S))

    def _one(self, query: str, *parameters: bytes | float) -> int:
        with _telling():
            return int(self._reading.execute(query, parameters).fetchone()[0])


def _charge(db: sqlite3.Connection, handle: bytes) -> tuple[Owner, int] | None:
    query = "SELECT grp, session, total FROM results WHERE handle = ?"
    row = db.execute(query, (handle,)).fetchone()
    return None if row is None else (Owner(row[0], row[1]), row[2])


def _sums(db: sqlite3.Connection) -> dict[Owner, int]:
    return {Owner(group, session): size for group, session, size in db.execute(_SUMS)}


@contextlib.contextmanager
def _telling() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as err:
        raise JournalUnusable(f"the worker's journal cannot be used: {err}") from err


class _Damaged(Exception):
    """What is in the file can never be read again."""


def _open(path: Path) -> tuple[sqlite3.Connection, sqlite3.Connection]:
    """Open the connection that writes and the one that reads.

    A full disk, a lock or a failing device may pass, and is no reason to throw results away.
    """
    with _telling():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            return _connect(path)
        except _Damaged as err:
            _log.warning("journal.begun_anew", reason=str(err))
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            return _connect(path)


def _connect(path: Path) -> tuple[sqlite3.Connection, sqlite3.Connection]:
    with contextlib.ExitStack() as stack:
        # Its writes take turns, some of them in threads.
        writing = stack.enter_context(
            contextlib.closing(sqlite3.connect(path, check_same_thread=False))
        )
        try:
            for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
                writing.execute(f"PRAGMA {pragma}")
            writing.executescript(_SCHEMA)
            if (found := writing.execute("PRAGMA quick_check(1)").fetchone()) != ("ok",):
                raise _Damaged(str(found))
        except sqlite3.Error as err:
            if err.sqlite_errorcode & 0xFF in _DAMAGED:
                raise _Damaged(str(err)) from err
            raise
        reading = sqlite3.connect(path)
        reading.execute("PRAGMA query_only=ON")
        stack.pop_all()
    return writing, reading
