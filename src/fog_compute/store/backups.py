"""A copy of an SQLite database with its blobs, made while the backend works, and put back.

A backup is a folder: `fog.db`, `blobs/` as the backend has them, and `backup.json`, which says what
it is. It has its name once it is whole.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final
from urllib.parse import quote

from fog_compute.errors import NotFound, StoreError, StoreUnusable
from fog_compute.locking import try_lock
from fog_compute.store.care import Checked, Fault, check, must_be_there
from fog_compute.store.dialects import Database, database_at
from fog_compute.store.folder import BlobFault, copy_blob
from fog_compute.writing import sync, write_private

__all__ = ["BackedUp", "Restored", "back_up", "restore"]

DATABASE: Final = "fog.db"
BLOBS: Final = "blobs"
ABOUT: Final = "backup.json"

_NAMED: Final = (
    "SELECT sha256 FROM task_blobs UNION SELECT blob FROM results WHERE blob IS NOT NULL ORDER BY 1"
)


@dataclass(slots=True)
class BackedUp:
    """A backup that was made.

    Attributes:
        path: its folder.
        tasks: how many tasks are in it.
        blobs: how many blobs.
        bytes: what database and blobs have together.
        faults: blobs that could not be copied, because they are not there or damaged.
    """

    path: Path
    tasks: int = 0
    blobs: int = 0
    bytes: int = 0
    faults: list[Fault] = field(default_factory=list)


@dataclass(slots=True)
class Restored:
    """A backup that was put back.

    Attributes:
        database: the file that holds it now.
        replaced: where the database is that was there before; None if there was none.
        tasks: how many tasks are in it.
        blobs: how many blobs that its rows name are here now.
        faults: what was wrong with the backup.
    """

    database: Path
    replaced: Path | None
    tasks: int
    blobs: int = 0
    faults: list[Fault] = field(default_factory=list)


def back_up(place: str | Path, target: Path, now: datetime, blobs: Path | None = None) -> BackedUp:
    """Copy a database as it is at one moment, and the blobs that its rows name then.

    Raises:
        NotFound: there is no database.
        StoreUnusable: it is one of Postgres, or the target is there already.
        StoreError: it cannot be read, or the target cannot be written.
    """
    database = database_at(place)
    source = _file_of(database, "pg_dump --format=custom --file=FILE", "back it up")
    must_be_there(database)
    folder = _blobs_of(database, blobs)
    _refuse_what_is_there(target)
    aside = target.with_name(f".{target.name}.{os.getpid()}.new")
    made = BackedUp(target)
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, aside, ignore_errors=True)
        try:
            _forget_what_was_killed(target)
            aside.mkdir(mode=0o700, parents=True)
            stack.callback(os.close, _held(aside))
            copy = aside / DATABASE
            _copy_database(source, copy)
            made.bytes = copy.stat().st_size
            made.tasks = _count_tasks(copy)
            for sha256 in _named_in(copy):
                try:
                    made.bytes += copy_blob(folder, aside / BLOBS, sha256)
                    made.blobs += 1
                except BlobFault as fault:
                    made.faults.append(Fault("blob", sha256, str(fault)))
            about = {"made_at": now.isoformat(), "tasks": made.tasks, "blobs": made.blobs}
            write_private(aside / ABOUT, json.dumps(about).encode() + b"\n")
            sync(aside)
            aside.rename(target)
            sync(target.parent)
        except OSError as error:
            raise StoreError(f"the backup {target} cannot be written: {error.strerror}") from error
        except sqlite3.Error as error:
            raise StoreError(f"the database {database.name} cannot be copied: {error}") from error
    return made


def _held(folder: Path) -> int:
    """Lock a folder until what is returned is closed, which the kernel does for who is killed."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    with contextlib.suppress(OSError):  # this folder knows no locks
        try_lock(descriptor)
    return descriptor


def _forget_what_was_killed(target: Path) -> None:
    """Delete what others left that were to make the same backup, and are no more."""
    own = re.compile(rf"\.{re.escape(target.name)}\.[0-9]+\.new")
    for left in target.parent.glob(".*.new"):
        if own.fullmatch(left.name) is None:
            continue
        with contextlib.suppress(OSError):
            descriptor = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if try_lock(descriptor):
                    shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(descriptor)


def restore(
    place: str | Path, backup: Path, *, force: bool = False, blobs: Path | None = None
) -> Restored:
    """Put a backup in the place of a database that nobody uses.

    A database that is there already is replaced only by ``force``, and kept beside the new one.

    Raises:
        NotFound: there is no backup.
        StoreUnusable: it is damaged or of a newer version; or the database is one of Postgres.
        StoreError: the database is in use, or there is one and no ``force``; or the disk refused.
    """
    database = database_at(place)
    target = _file_of(database, "pg_restore --clean --if-exists --dbname=URL FILE", "restore it")
    source = backup / DATABASE
    if not source.is_file():
        raise NotFound(f"there is no backup {backup}: give a folder that `fog db backup` made")
    faults = _usable(check(source, backup / BLOBS), backup)
    with contextlib.ExitStack() as stack:
        try:
            database.take(stack)
            if target.exists() and not force:
                raise StoreError(
                    f"there is a database {target}: --force replaces it, and keeps it beside"
                )
            folder = _blobs_of(database, blobs)
            done = Restored(target, None, _count_tasks(source), faults=faults)
            for sha256 in _named_in(source):
                with contextlib.suppress(BlobFault):  # the check named it
                    copy_blob(backup / BLOBS, folder, sha256)
                    done.blobs += 1
            aside = target.with_name(f"{target.name}.restoring")
            aside.unlink(missing_ok=True)
            _copy_database(source, aside)
            _begin_streams_anew(aside)
            if target.exists():
                done.replaced = _keep(target)
            aside.replace(target)
            sync(target.parent)
        except OSError as error:
            raise StoreError(
                f"the database {target} cannot be restored: {error.strerror}"
            ) from error
        except sqlite3.Error as error:
            raise StoreError(f"the backup {backup} cannot be copied: {error}") from error
    return done


def _begin_streams_anew(path: Path) -> None:
    """Let no message get an id that one had which was sent after the backup was made.

    Its recipient has seen that id, and would show nothing.
    """
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        there = "SELECT 1 FROM sqlite_master WHERE name = 'chat_sent_streams'"
        if connection.execute(there).fetchone():
            connection.execute("DELETE FROM chat_sent_streams")


def _file_of(database: Database, command: str, what: str) -> Path:
    if database.path is None:
        raise StoreUnusable(
            f"the database {database.name} is one of Postgres: {what} with its own `{command}`"
        )
    return database.path


def _blobs_of(database: Database, blobs: Path | None) -> Path:
    folder = blobs or database.blobs_folder
    if folder is None:
        raise StoreUnusable(f"the database {database.name} has no folder of blobs")
    return folder


def _refuse_what_is_there(target: Path) -> None:
    try:
        taken = target.is_symlink() or (
            target.exists() and (not target.is_dir() or any(target.iterdir()))
        )
    except OSError as error:
        raise StoreError(f"the backup {target} cannot be written: {error.strerror}") from error
    if taken or not target.name:
        raise StoreUnusable(f"there is something at {target} already: name a new folder")


def _usable(found: Checked, backup: Path) -> list[Fault]:
    """The faults of a backup, if it can be used in spite of them."""
    for fault in found.faults:
        if fault.kind == "database" or (fault.kind == "schema" and "update" in fault.reason):
            raise StoreUnusable(f"the backup {backup} cannot be used: {fault.reason}")
    return found.faults


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    uri = "file:" + quote(bytes(path.absolute())) + "?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
        yield connection


def _copy_database(source: Path, target: Path) -> None:
    """Copy a database as it is at one moment, into one file that is on disk."""
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with _reading(source) as reading, contextlib.closing(sqlite3.connect(target)) as writing:
        reading.backup(writing)  # in one go: a reader keeps no writer waiting
        writing.execute("PRAGMA journal_mode=DELETE")
    sync(target)


def _named_in(path: Path) -> Iterator[str]:
    with _reading(path) as connection:
        for (sha256,) in connection.execute(_NAMED):
            yield str(sha256)


def _count_tasks(path: Path) -> int:
    with _reading(path) as connection:
        return int(connection.execute("SELECT count(*) FROM tasks").fetchone()[0])


def _keep(database: Path) -> Path:
    """Give a database a second name, with all that was written to it; return that.

    What its journal holds is written to the file first, or the next one would get it.
    """
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(database)) as old:
        old.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    number = 1
    while True:
        kept = database.with_name(f"{database.name}.replaced-{number}")
        try:
            os.link(database, kept)
            break
        except FileExistsError:
            number += 1
    for ending in ("-wal", "-shm"):
        left = database.with_name(database.name + ending)
        if left.exists():  # only of one that is damaged
            left.rename(kept.with_name(kept.name + ending))
    return kept
