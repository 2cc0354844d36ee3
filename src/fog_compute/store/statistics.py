"""Reading what is counted."""

from __future__ import annotations

from typing import Final

from sqlalchemy import select

from fog_compute.levels import PrivacyLevel
from fog_compute.store import schema
from fog_compute.store.changes import LevelDelta
from fog_compute.store.reader import Reader

_LEVELS: Final = frozenset(PrivacyLevel)


class Statistics(Reader):
    """Totals per privacy level; nothing finer exists."""

    __slots__ = ()

    async def by_level(self) -> dict[PrivacyLevel, LevelDelta]:
        """Return the totals since the store was made."""
        rows = await self.rows(select(schema.level_statistics))
        return {
            PrivacyLevel(row["level"]): LevelDelta(
                **{name: value for name, value in row.items() if name != "level"}
            )
            for row in rows
            if row["level"] in _LEVELS
        }
