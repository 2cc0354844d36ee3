"""Rows that cannot be read: each is named and left out, and the others are read on.

A row is damaged where a disk, a hand or another version left what this one cannot read: an unknown
state, a description of unknown shape, bytes that are no result. A task that waits is taken out of
the queue too, or the same row would be met at every look: see `Writer.set_aside`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeVar

from sqlalchemy import RowMapping

from fog_compute.errors import StoreError
from fog_compute.observability import get_logger
from fog_compute.text import one_line

__all__ = ["MOST_NAMED", "SET_ASIDE", "Damaged", "Damages", "RowDamaged"]

_log = get_logger("fog_compute.store")

SET_ASIDE: Final = "damaged"
"""Stands for the state of a task that was taken out of the queue; its reason has the former."""

MOST_NAMED: Final = 1000
"""Damaged rows that are kept by name; of more, only how many there are."""

REASON_LENGTH: Final = 200

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Damaged:
    """A row that cannot be read.

    Attributes:
        table: where it is.
        key: its primary key.
        reason: what is wrong with it, in one line.
    """

    table: str
    key: str
    reason: str

    @classmethod
    def of(cls, table: str, key: object, reason: object) -> Damaged:
        """Name a row in the words of whoever could not read it."""
        return cls(table, str(key), one_line(str(reason), REASON_LENGTH))

    @property
    def named(self) -> bool:
        """Whether its key is text, by which it can be asked for."""
        return not any("\ud800" <= letter <= "\udfff" for letter in self.key)


class RowDamaged(StoreError):
    """What was asked for is there, and cannot be read."""

    def __init__(self, row: Damaged) -> None:
        super().__init__(
            f"the row {one_line(row.key, 64)} of {row.table} is damaged ({row.reason}):"
            " see `fog db check`"
        )
        self.row: Final = row


class Damages:
    """The damaged rows that were met since the start."""

    __slots__ = ("_found", "_more")

    def __init__(self) -> None:
        """Begin with none."""
        self._found: Final[dict[tuple[str, str], Damaged]] = {}
        self._more = 0

    def note(self, row: Damaged) -> None:
        """Keep the name of a row; said once."""
        if (row.table, row.key) in self._found:
            return
        if len(self._found) >= MOST_NAMED:
            self._more += 1
            return
        self._found[row.table, row.key] = row
        _log.error("row.damaged", table=row.table, reason=row.reason)

    def found(self) -> tuple[Damaged, ...]:
        """All that are named, as they were met."""
        return tuple(self._found.values())

    def whole(self, rows: Iterable[RowMapping], read: Callable[[RowMapping], T]) -> list[T]:
        """What can be read of some rows, in their order; the others are noted."""
        found: list[T] = []
        for row in rows:
            try:
                found.append(read(row))
            except RowDamaged as error:
                self.note(error.row)
        return found
