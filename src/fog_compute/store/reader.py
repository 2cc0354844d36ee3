"""Reading the store, on read-only connections, so that readers never wait for the writer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from sqlalchemy import CompoundSelect, Engine, RowMapping, Select

from fog_compute.store.failures import refusals
from fog_compute.threads import in_thread

Query: TypeAlias = Select[*tuple[object, ...]] | CompoundSelect[*tuple[object, ...]]


class Reader:
    """Runs one query at a time on a pooled read-only connection.

    A query is one visit to a thread, whatever it takes there: a visit costs more than most queries.
    """

    __slots__ = ("_engine",)

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def rows(self, query: Query) -> Sequence[RowMapping]:
        """Return the rows of a query.

        Raises:
            StoreError: the database cannot be read now.
        """
        with refusals("the database could not be read"):
            return await in_thread(self._read, query)

    def _read(self, query: Query) -> Sequence[RowMapping]:
        with self._engine.connect() as connection:
            return connection.execute(query).mappings().all()
