"""Reading the store, on read-only connections, so that readers never wait for the writer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeAlias

from sqlalchemy import ColumnElement, CompoundSelect, Connection, Engine, RowMapping, Select
from sqlalchemy.exc import OperationalError

from fog_compute.store.damage import Damages
from fog_compute.store.failures import refusals
from fog_compute.threads import in_thread

Query: TypeAlias = Select[*tuple[object, ...]] | CompoundSelect[*tuple[object, ...]]

VALUES_AT_ONCE: Final = 20_000
"""Values in one statement; Postgres takes 65,535, and some builds of SQLite 32,766."""


class Reader:
    """Runs one query at a time on a pooled read-only connection.

    A query is one visit to a thread, whatever it takes there: a visit costs more than most queries.
    """

    __slots__ = ("_damages", "_engine")

    def __init__(self, engine: Engine, damages: Damages) -> None:
        """Read from ``engine``; what cannot be read is named in ``damages``."""
        self._engine = engine
        self._damages = damages

    async def rows(self, query: Query) -> Sequence[RowMapping]:
        """Return the rows of a query.

        Raises:
            StoreError: the database cannot be read now.
        """
        with refusals("the database could not be read"):
            return await in_thread(self._read, query)

    async def rows_of(
        self, query: Select[*tuple[object, ...]], column: ColumnElement[str], values: Iterable[str]
    ) -> Sequence[RowMapping]:
        """Return the rows of a query whose column has one of some values, however many.

        They come in parts, for a statement takes so many values; in the order of the values, and of
        the query where several have the same.

        Raises:
            StoreError: the database cannot be read now.
        """
        rows: list[RowMapping] = []
        for some in in_parts(values):
            rows += await self.rows(query.where(column.in_(some)))
        return rows

    def _read(self, query: Query) -> Sequence[RowMapping]:
        with self._engine.connect() as connection:
            return fetch(connection, query)


def in_parts(values: Iterable[str]) -> Iterator[list[str]]:
    """Cut values, in their order, into as many as one statement takes."""
    wanted = sorted(values)
    for first in range(0, len(wanted), VALUES_AT_ONCE):
        yield wanted[first : first + VALUES_AT_ONCE]


def fetch(connection: Connection, query: Query) -> Sequence[RowMapping]:
    """Return the rows of a query, also where one of them holds text that is none.

    SQLite keeps such text, and its driver then refuses all rows; half a character stands for what
    cannot be read, which whoever reads the row finds.
    """
    try:
        return connection.execute(query).mappings().all()
    except OperationalError as err:
        if not str(err.orig).startswith(_NO_TEXT):
            raise
    driver = connection.connection.driver_connection
    usual = getattr(driver, "text_factory", str)
    setattr(driver, "text_factory", _half_characters)  # noqa: B010  # of this driver alone
    try:
        return connection.execute(query).mappings().all()
    finally:
        setattr(driver, "text_factory", usual)  # noqa: B010


class NoText(str):
    """Stands for text that is none."""

    __slots__ = ()


def _half_characters(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return NoText(data.decode(errors="surrogateescape"))


_NO_TEXT: Final = "Could not decode to UTF-8"
