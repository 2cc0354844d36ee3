"""What outlives a run of sessions and circuits: tokens' hashes, times and accounts, and counts."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, Engine, RowMapping, delete, insert, select, update

from fog_compute.levels import PrivacyLevel
from fog_compute.store import schema
from fog_compute.store.damage import Damaged, Damages, RowDamaged
from fog_compute.store.reader import Reader, in_parts
from fog_compute.store.rows import BROKEN, Types, check_types
from fog_compute.store.writer import Writer
from fog_compute.vpn.pools import PoolTotals
from fog_compute.vpn.session_records import SessionRecord

__all__ = ["CircuitTotals", "Sessions", "session_of"]

_COUNTS: Final = tuple(part.name for part in dataclasses.fields(PoolTotals))


class Sessions(Reader):
    """The sessions of one home, for its next run: a `SessionBook`."""

    __slots__ = ("_home", "_writer")

    def __init__(self, engine: Engine, damages: Damages, writer: Writer, home: str) -> None:
        """Read from ``engine``; keep what belongs to ``home``, where several share a database."""
        super().__init__(engine, damages)
        self._writer = writer
        self._home = home

    async def load(self) -> Sequence[SessionRecord]:
        """See `SessionBook`."""
        query = select(schema.sessions).where(schema.sessions.c.home == self._home)
        return self._damages.whole(await self.rows(query), session_of)

    async def keep(self, records: Sequence[SessionRecord]) -> None:
        """See `SessionBook`."""
        rows = [self._row(record) for record in records]
        names = [record.id for record in records]

        def work(connection: Connection) -> None:
            self._delete(connection, names)
            connection.execute(insert(schema.sessions), rows)

        await self._writer.do(work)

    async def forget(self, ids: Collection[str]) -> None:
        """See `SessionBook`."""
        await self._writer.do(lambda connection: self._delete(connection, ids))

    def _delete(self, connection: Connection, ids: Collection[str]) -> None:
        columns = schema.sessions.c
        for some in in_parts(ids):
            gone = delete(schema.sessions).where(columns.id.in_(some))
            connection.execute(gone.where(columns.home == self._home))

    def _row(self, record: SessionRecord) -> dict[str, object]:
        values = {part.name: getattr(record, part.name) for part in dataclasses.fields(record)}
        return {**values, "level": record.level.value, "home": self._home}


class CircuitTotals(Reader):
    """What the circuits of each level did, in all runs of all homes: a `TotalsBook`."""

    __slots__ = ("_writer",)

    def __init__(self, engine: Engine, damages: Damages, writer: Writer) -> None:
        """Read from ``engine``."""
        super().__init__(engine, damages)
        self._writer = writer

    async def load(self) -> Mapping[PrivacyLevel, PoolTotals]:
        """See `TotalsBook`."""
        found: dict[PrivacyLevel, PoolTotals] = {}
        for row in await self.rows(select(schema.circuit_statistics)):
            if row["level"] in frozenset(PrivacyLevel):
                counts = PoolTotals(**{name: row[name] for name in _COUNTS})
                found[PrivacyLevel(row["level"])] = counts
        return found

    async def add(self, more: Mapping[PrivacyLevel, PoolTotals]) -> None:
        """See `TotalsBook`."""
        columns = schema.circuit_statistics.c

        def work(connection: Connection) -> None:
            for level, counts in sorted(more.items()):
                changed = connection.execute(
                    update(schema.circuit_statistics)
                    .where(columns.level == level.value)
                    .values({c: columns[c] + getattr(counts, c) for c in _COUNTS})
                )
                if not changed.rowcount:
                    row = {"level": level.value, **dataclasses.asdict(counts)}
                    connection.execute(insert(schema.circuit_statistics), [row])

        await self._writer.do(work)


def session_of(row: RowMapping) -> SessionRecord:
    """Return the session of a row.

    Raises:
        RowDamaged: it cannot be read.
    """
    try:
        check_types(row, _TYPES)
        return SessionRecord(
            id=row["id"],
            digest=row["digest"],
            level=PrivacyLevel(row["level"]),
            apart=row["apart"],
            opened_at=row["opened_at"],
            used_at=row["used_at"],
            quota_bytes=row["quota_bytes"],
            bytes_sent=row["bytes_sent"],
            bytes_received=row["bytes_received"],
        )
    except BROKEN as err:
        raise RowDamaged(Damaged.of("sessions", row["id"], err)) from err


_TYPES: Final[Types] = {
    "id": (str,),
    "digest": (bytes,),
    **dict.fromkeys(("opened_at", "used_at"), (datetime,)),
    **dict.fromkeys(("bytes_sent", "bytes_received"), (int,)),
    "quota_bytes": (int, type(None)),
}
