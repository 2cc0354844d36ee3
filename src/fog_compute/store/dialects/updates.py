"""Many rows changed in one statement, each to values of its own."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table, bindparam, column, func, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql.dml import Insert, Update

from fog_compute.store.dialects.verdicts import ChangedMeanwhile

__all__ = ["add_new", "compare_and_set", "put"]


def add_new(
    connection: Connection, table: Table, key: Sequence[str], rows: Sequence[Mapping[str, object]]
) -> None:
    """Insert rows; one whose key, of a unique index, is there already changes nothing."""
    if rows:
        connection.execute(_unless_there(connection.dialect.name, table, tuple(key)), rows)


def put(
    connection: Connection, table: Table, key: Sequence[str], rows: Sequence[Mapping[str, object]]
) -> None:
    """Insert rows, or give those whose key is there already the other values; all have the same."""
    if rows:
        dialect, names = connection.dialect.name, tuple(rows[0])
        connection.execute(_in_place(dialect, table, tuple(key), names), rows)


@functools.cache
def _unless_there(dialect: str, table: Table, key: tuple[str, ...]) -> Insert:
    return _insert(dialect, table).on_conflict_do_nothing(index_elements=key)


@functools.cache
def _in_place(dialect: str, table: Table, key: tuple[str, ...], names: tuple[str, ...]) -> Insert:
    insert = _insert(dialect, table)
    values = {name: insert.excluded[name] for name in names if name not in key}
    return insert.on_conflict_do_update(index_elements=key, set_=values)


def _insert(dialect: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An insertion that may say what to do about a conflict."""
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


def compare_and_set(
    connection: Connection, table: Table, guard: str, rows: Sequence[Mapping[str, object]]
) -> None:
    """Update rows that still have the guarding value that was read.

    Args:
        connection: in its transaction.
        table: has a primary key of one column.
        guard: the guarding column.
        rows: of each, under ``key_`` and ``old_`` before their columns' names the key and the value
            that was read, and under ``new_`` before theirs the values to be; the same in all.

    Raises:
        ChangedMeanwhile: not all of them have it.
    """
    if not rows:
        return
    names = tuple(rows[0])
    if connection.dialect.name == "postgresql":
        statement = _from_arrays(table, guard, names)
        lists = {name: [row[name] for row in rows] for name in names}
        changed = connection.execute(statement, lists).rowcount
    else:
        changed = connection.execute(_one_by_one(table, guard, names), rows).rowcount
    if changed != len(rows):
        raise ChangedMeanwhile(
            f"{table.name}: {len(rows) - changed} rows were changed by another writer"
        )


@functools.cache
def _one_by_one(table: Table, guard: str, names: tuple[str, ...]) -> Update:
    """The driver of SQLite repeats it for each row, without a trip to anybody."""
    key = next(iter(table.primary_key.columns))
    return (
        update(table)
        .where(key == bindparam("key_" + key.name))
        .where(table.c[guard] == bindparam("old_" + guard))
        .values({name[4:]: bindparam(name) for name in names if name.startswith("new_")})
    )


@functools.cache
def _from_arrays(table: Table, guard: str, names: tuple[str, ...]) -> Update:
    """One trip to a server for all of them: a list of values for each column."""
    types = {name: table.c[name[4:]].type for name in names}
    lists: list[Any] = [bindparam(name, type_=ARRAY(of)) for name, of in types.items()]
    given = (
        func.unnest(*lists)
        .table_valued(*(column(name, of) for name, of in types.items()), name="given")
        .render_derived()
    )
    key = next(iter(table.primary_key.columns))
    return (
        update(table)
        .where(key == given.c["key_" + key.name])
        .where(table.c[guard] == given.c["old_" + guard])
        .values({name[4:]: given.c[name] for name in names if name.startswith("new_")})
    )
