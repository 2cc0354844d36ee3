"""What keeps transactions of several processes out of each other's way.

SQLite needs none of it: a transaction of its one writer is alone. ``with_for_update`` of a query
says nothing to it, either.
"""

from __future__ import annotations

import enum
from typing import TypedDict

from sqlalchemy import ColumnElement, Connection, TextClause, text

__all__ = ["PartialIndex", "Turn", "need_not_last", "notify", "partial_index", "take_turn"]


class Turn(enum.IntEnum):
    """What only one transaction does at a time; the numbers are those of Postgres's locks."""

    SCHEMA = 0x666F6701
    """To look at the schema and to migrate it."""
    OWNERS = 0x666F6703
    """To say whose the attempts of a backend are that is no more."""
    EVENTS = 0x666F6702
    """From the first new event to the commit, so that events become visible in their order."""


def take_turn(connection: Connection, turn: Turn) -> None:
    """Wait until no other transaction has this turn, and have it until the present one ends."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:turn)"), {"turn": int(turn)})


def need_not_last(connection: Connection) -> None:
    """Let the present transaction return before it is on disk: what it says may be forgotten."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL synchronous_commit = off"))


def notify(connection: Connection, channel: str, sender: str) -> None:
    """Let others hear, once the transaction is committed, that ``sender`` did something."""
    if connection.dialect.name == "postgresql":
        said = text("SELECT pg_notify(:channel, :sender)")
        connection.execute(said, {"channel": channel, "sender": sender})


class PartialIndex(TypedDict):
    """The condition of an index, as each database takes it."""

    sqlite_where: ColumnElement[bool] | TextClause
    postgresql_where: ColumnElement[bool] | TextClause


def partial_index(where: ColumnElement[bool] | TextClause) -> PartialIndex:
    """Return the arguments of an index that has only the rows ``where`` holds for."""
    return {"sqlite_where": where, "postgresql_where": where}
