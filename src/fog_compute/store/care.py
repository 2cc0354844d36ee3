"""Looking after a database: is it whole, and what room does it waste?

Nothing here needs the backend, and looking changes nothing, so that it may go on meanwhile.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sqlalchemy import Column, Connection, RowMapping, Table, select, union
from sqlalchemy.exc import SQLAlchemyError

from fog_compute.errors import NotFound, StoreUnusable
from fog_compute.levels import PrivacyLevel
from fog_compute.store import schema
from fog_compute.store.circuits import session_of
from fog_compute.store.damage import Damaged, RowDamaged
from fog_compute.store.dialects import Database, database_at
from fog_compute.store.events import event_of
from fog_compute.store.failures import plain, refusals
from fog_compute.store.folder import BlobFault, look_at_blob
from fog_compute.store.keys import key_of
from fog_compute.store.messages import delivery_row, message_row, peer_row
from fog_compute.store.migrate import HEAD, known, revision
from fog_compute.store.reader import fetch
from fog_compute.store.rows import BROKEN, attempt_of, task_of
from fog_compute.store.tasks import STRANDED
from fog_compute.tasks.result import parse_head
from fog_compute.text import one_line

__all__ = ["Checked", "Fault", "Vacuumed", "check", "reach", "vacuum"]

PAGE: Final = 500
"""Rows that are read at once."""

MOST_FAULTS: Final = 1000
"""Faults that are named; the others are counted."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is wrong.

    Attributes:
        kind: ``database``, ``schema``, ``row`` or ``blob``.
        name: what it is wrong with.
        reason: what is wrong, in one line.
    """

    kind: str
    name: str
    reason: str


@dataclass(slots=True)
class Checked:
    """What a check found.

    Attributes:
        database: which, without a password.
        schema: its newest migration; None if it has none.
        rows: rows that were read, by table.
        blobs: blobs that rows name and that were read.
        blob_bytes: bytes that they have.
        faults: what is wrong, up to 1000 of it.
        more: how much more is.
    """

    database: str
    schema: str | None = None
    rows: dict[str, int] = field(default_factory=dict)
    blobs: int = 0
    blob_bytes: int = 0
    faults: list[Fault] = field(default_factory=list)
    more: int = 0

    def note(self, kind: str, name: str, reason: object) -> None:
        """Keep a fault."""
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(Fault(kind, one_line(name, 80), one_line(str(reason))))
        else:
            self.more += 1


@dataclass(frozen=True, slots=True)
class Vacuumed:
    """What a database took of the disk, in bytes, before and after."""

    database: str
    before: int
    after: int


def check(place: str | Path, blobs: Path | None = None) -> Checked:
    """Read all of a database, and every blob that its rows name.

    Args:
        place: the file, or the URL.
        blobs: the folder of its blobs; by default where its backend has them.

    Raises:
        NotFound: there is no database.
        StoreError: it cannot be read now.
    """
    database = database_at(place)
    must_be_there(database)
    found = Checked(database.name)
    engines = database.engines()
    try:
        with refusals(f"the database {database.name} cannot be read"):
            _check_all(found, database, engines.reading.connect(), blobs or database.blobs_folder)
    finally:
        engines.dispose()
    return found


def reach(place: str | Path) -> str:
    """Connect to a database and read no more than its schema; return what to call it.

    Raises:
        NotFound: there is no database.
        StoreUnusable: its schema is of a newer version.
        StoreError: it cannot be read now.
    """
    database = database_at(place)
    must_be_there(database)
    engines = database.engines()
    try:
        with (
            refusals(f"the database {database.name} cannot be read"),
            engines.reading.connect() as connection,
        ):
            present = revision(connection)
    finally:
        engines.dispose()
    if present not in (None, HEAD) and present not in known():
        raise StoreUnusable(
            f"the database {database.name} has the schema {present}, and this version knows"
            f" {HEAD}: update fog-compute"
        )
    return database.name


def vacuum(place: str | Path) -> Vacuumed:
    """Give room that deleted rows left back to the disk.

    Raises:
        NotFound: there is no database.
        StoreError: a backend uses it, which could not write meanwhile; or it cannot be written.
    """
    database = database_at(place)
    must_be_there(database)
    engines = database.engines()
    with contextlib.ExitStack() as stack:
        stack.callback(engines.dispose)
        database.take(stack)
        stack.enter_context(refusals(f"the database {database.name} could not be tidied up"))
        connection = stack.enter_context(engines.writing.connect())
        before = database.size(connection)
        connection.rollback()
        database.vacuum(connection)
        return Vacuumed(database.name, before, database.size(connection))


def must_be_there(database: Database) -> None:
    """Raise `NotFound` unless there is a database; one on a server is asked when it is read."""
    if database.path is not None and not database.path.is_file():
        raise NotFound(f"there is no database {database.path}: `fog up` makes it")


def named_blobs(connection: Connection) -> Iterator[str]:
    """Every blob that a row names, once, in order."""
    named = union(
        select(schema.task_blobs.c.sha256),
        select(schema.results.c.blob).where(schema.results.c.blob.is_not(None)),
    ).order_by("sha256")
    for (sha256,) in connection.execute(named):
        yield str(sha256)


def _check_all(
    found: Checked, database: Database, connection: Connection, blobs: Path | None
) -> None:
    with connection:
        try:
            database.in_one_view(connection)
            for name, reason in database.own_faults(connection):
                found.note("database", name, reason)
            if not _check_schema(found, connection):
                return
            for kind in _KINDS:
                _check_rows(found, connection, kind)
            for row in fetch(connection, STRANDED):
                found.note("row", f"tasks {row['id']}", "its attempt is not there")
            _check_blobs(found, connection, blobs)
        except SQLAlchemyError as err:
            # All that was found before counts: this is worst where the file itself is damaged.
            found.note("database", found.database, plain(err))
        finally:
            with contextlib.suppress(SQLAlchemyError):
                connection.exec_driver_sql("ROLLBACK")


def _check_schema(found: Checked, connection: Connection) -> bool:
    """Whether the rows can be read by this version."""
    found.schema = revision(connection)
    if found.schema == HEAD:
        return True
    has = f"it has the schema {found.schema or 'of none'}, and this version knows {HEAD}"
    todo = "the next `fog up` brings it up" if found.schema in known() else "update fog-compute"
    found.note("schema", found.database, f"{has}: {todo}")
    return False


@dataclass(frozen=True, slots=True)
class _Kind:
    """Rows of one table: by which columns they are told apart, and how one is read."""

    table: Table
    key: str
    read: Callable[[RowMapping], object]


def _check_rows(found: Checked, connection: Connection, kind: _Kind) -> None:
    key: Column[object] = kind.table.c[kind.key]
    last: object = None
    seen = 0
    while True:
        query = select(kind.table).order_by(key).limit(PAGE)
        rows = fetch(connection, query if last is None else query.where(key > last))
        for row in rows:
            try:
                kind.read(row)
            except RowDamaged as error:
                found.note("row", f"{error.row.table} {error.row.key}", error.row.reason)
        seen += len(rows)
        if len(rows) < PAGE:
            break
        last = rows[-1][kind.key]
    found.rows[kind.table.name] = seen


def _check_blobs(found: Checked, connection: Connection, folder: Path | None) -> None:
    for sha256 in list(named_blobs(connection)):
        try:
            if folder is None:
                found.blob_bytes += _look_at_rows(connection, sha256)
            else:
                found.blob_bytes += look_at_blob(folder, sha256)
        except BlobFault as fault:
            found.note("blob", sha256, fault)
        found.blobs += 1


def _look_at_rows(connection: Connection, sha256: str) -> int:
    """Read all of a blob that is in the database itself; return its size in bytes.

    Raises:
        BlobFault: it is not there, or is damaged.
    """
    blobs, pieces = schema.blobs, schema.blob_pieces
    blob = connection.execute(select(blobs.c.id).where(blobs.c.sha256 == sha256)).scalar()
    if blob is None:
        raise BlobFault("it is not there")
    hashed, size, number = hashlib.sha256(), 0, 0
    while True:
        query = select(pieces.c.data).where(pieces.c.blob == blob, pieces.c.number == number)
        piece = connection.execute(query).scalar()
        if piece is None:
            break
        hashed.update(piece)
        size, number = size + len(piece), number + 1
    if hashed.hexdigest() != sha256:
        raise BlobFault("its bytes are not what its name says")
    return size


def _result_of(row: RowMapping) -> object:
    try:
        return parse_head(row["data"])
    except BROKEN as err:
        raise RowDamaged(Damaged.of("results", row["handle"], err)) from err


def _statistics_of(row: RowMapping) -> object:
    try:
        return PrivacyLevel(row["level"])
    except BROKEN as err:
        raise RowDamaged(Damaged.of("level_statistics", row["level"], err)) from err


_KINDS: Final = (
    _Kind(schema.tasks, "id", task_of),
    _Kind(schema.attempts, "handle", attempt_of),
    _Kind(schema.results, "handle", _result_of),
    _Kind(schema.events, "seq", event_of),
    _Kind(schema.level_statistics, "level", _statistics_of),
    _Kind(schema.sessions, "id", session_of),
    _Kind(schema.api_keys, "id", key_of),
    _Kind(schema.chat_messages, "number", message_row),
    _Kind(schema.chat_deliveries, "number", delivery_row),
    _Kind(schema.chat_peers, "number", peer_row),
)
