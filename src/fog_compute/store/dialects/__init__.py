"""The databases that can be under the store, and the one place that knows which it is.

SQLite, a file of one process, is the default; Postgres, by URL, may be shared by several. The
tables and queries are the same: what differs is how connections are made, how a transaction keeps
others out, and what an error means.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from fog_compute.errors import StoreUnusable
from fog_compute.store.dialects.base import NO_PLACE, Database, Engines, Listening
from fog_compute.store.dialects.locks import Turn, need_not_last, notify, partial_index, take_turn
from fog_compute.store.dialects.postgres import PostgresDatabase
from fog_compute.store.dialects.sqlite import SqliteDatabase
from fog_compute.store.dialects.transactions import transact
from fog_compute.store.dialects.updates import add_new, compare_and_set, put
from fog_compute.store.dialects.verdicts import ChangedMeanwhile, Verdict, judge, words

__all__ = [
    "NO_PLACE",
    "ChangedMeanwhile",
    "Database",
    "Engines",
    "Listening",
    "Turn",
    "Verdict",
    "add_new",
    "compare_and_set",
    "database_at",
    "judge",
    "need_not_last",
    "notify",
    "partial_index",
    "put",
    "take_turn",
    "transact",
    "words",
]

_GIVE = "give sqlite:///path or postgresql://user:password@host/name"


def database_at(place: str | Path) -> Database:
    """Return the database of a file's path or of a URL; nothing is opened yet.

    Raises:
        StoreUnusable: the URL cannot be read, or names no database that can be used.
    """
    if isinstance(place, Path):
        # As it is: in a URL's text some of its characters would mean more.
        return SqliteDatabase(place)
    try:
        place.encode()
        url = make_url(place)
    except (SQLAlchemyError, ValueError):  # the latter for a port, an address or a byte
        # Its text may hold a password, and so may the error.
        raise StoreUnusable(f"the database URL cannot be read: {_GIVE}") from None
    match url.get_backend_name():
        case "sqlite" if url.database not in (None, "", ":memory:"):
            return SqliteDatabase(Path(url.database or ""))
        case "postgresql" | "postgres":
            return PostgresDatabase.of_url(url)
        case _:
            raise StoreUnusable(f"the database URL names no database that can be used: {_GIVE}")
