"""What a worker must not forget with a restart: results that nobody has acknowledged yet.

An attempt that was queued or running when the worker died is not here, and is answered as unknown:
the coordinator then tries again at once.  An attempt that is over leaves its handle behind, so a
late copy of its submission does not run it again.  The file survives the death of the process; if
the machine itself dies, the last results may be missing, and they too are answered as unknown.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fog_compute.errors import FogError
from fog_compute.tasks.wire import result_id

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS attempts (
    handle BLOB PRIMARY KEY,
    result_id BLOB,             -- NULL once the attempt is over
    body BLOB,
    release_at REAL NOT NULL,   -- Unix time of the edge at which the result may be shown
    expires_at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS attempts_by_expiry ON attempts (expires_at);
"""


class JournalUnusable(FogError):
    """The file cannot be opened or written."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A finished attempt."""

    result_id: bytes
    total: int
    release_at: float
    piece: bytes  # of the body, from the offset that was asked for


class Journal:
    """Finished attempts in a small SQLite file.  Its calls are short and block."""

    def __init__(self, path: Path) -> None:
        """Open or make the file; one that is damaged is begun anew."""
        try:
            self._db = _open(path)
        except sqlite3.DatabaseError:
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            try:
                self._db = _open(path)
            except sqlite3.Error as err:
                raise JournalUnusable(f"the worker's journal {path.name}: {err}") from err
        self._bytes = int(self._one("SELECT coalesce(sum(length(body)), 0) FROM attempts")[0])

    @property
    def kept_bytes(self) -> int:
        """Bytes of all results that wait for acknowledgement."""
        return self._bytes

    def finish(self, handle: bytes, body: bytes, release_at: float, expires_at: float) -> None:
        """Keep a result; it is safe from the death of this process when this returns."""
        with self._write() as db:
            inserted = db.execute(
                "INSERT OR IGNORE INTO attempts VALUES (?, ?, ?, ?, ?)",
                (handle, result_id(body), body, release_at, expires_at),
            ).rowcount
        self._bytes += len(body) * inserted

    def forget(self, handle: bytes, until: float) -> None:
        """Drop a result, and remember until then that its attempt is over."""
        freed = self._length(handle)
        with self._write() as db:
            db.execute(
                "INSERT INTO attempts VALUES (?, NULL, NULL, 0, ?) ON CONFLICT (handle) DO UPDATE"
                " SET result_id = NULL, body = NULL, expires_at = excluded.expires_at",
                (handle, until),
            )
        self._bytes -= freed

    def over(self, handle: bytes) -> bool:
        """Say whether the attempt was acknowledged or cancelled before."""
        row = self._db.execute(
            "SELECT 1 FROM attempts WHERE handle = ? AND body IS NULL", (handle,)
        ).fetchone()
        return row is not None

    def get(self, handle: bytes, offset: int, length: int) -> Kept | None:
        """Return a finished attempt with up to ``length`` bytes of its result, or None."""
        row = self._db.execute(
            "SELECT result_id, length(body), release_at, substr(body, ?, ?) FROM attempts"
            " WHERE handle = ? AND body IS NOT NULL",
            (min(offset, 2**62) + 1, length, handle),
        ).fetchone()
        return None if row is None else Kept(*row)

    def expire(self, now: float) -> int:
        """Delete what nobody asked for in time; return how many."""
        with self._write() as db:
            deleted = db.execute("DELETE FROM attempts WHERE expires_at <= ?", (now,)).rowcount
        self._bytes = int(self._one("SELECT coalesce(sum(length(body)), 0) FROM attempts")[0])
        return deleted

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _length(self, handle: bytes) -> int:
        return int(
            self._one(
                "SELECT coalesce(sum(length(body)), 0) FROM attempts WHERE handle = ?", handle
            )[0]
        )

    def _one(self, query: str, *parameters: bytes) -> tuple[int, ...]:
        row: tuple[int, ...] = self._db.execute(query, parameters).fetchone()
        return row

    @contextlib.contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._db:
                yield self._db
        except sqlite3.Error as err:
            raise JournalUnusable(f"the worker's journal could not be written: {err}") from err


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    db = sqlite3.connect(path)
    try:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        db.executescript(_SCHEMA)
        if db.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("damaged")
    except BaseException:
        db.close()
        raise
    return db
