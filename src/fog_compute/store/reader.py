"""Reading the store, on read-only connections, so that readers never wait for the writer."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import CompoundSelect, RowMapping, Select
from sqlalchemy.ext.asyncio import AsyncEngine

from fog_compute.store.failures import refusals


class Reader:
    """Runs one query at a time on a pooled read-only connection."""

    __slots__ = ("_engine",)

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def rows(
        self, query: Select[*tuple[object, ...]] | CompoundSelect[*tuple[object, ...]]
    ) -> Sequence[RowMapping]:
        """Return the rows of a query.

        Raises:
            StoreError: the database cannot be read now.
        """
        with refusals("the database could not be read"):
            async with self._engine.connect() as connection:
                return (await connection.execute(query)).mappings().all()
