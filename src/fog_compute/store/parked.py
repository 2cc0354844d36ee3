"""Since when tasks are hopeless: a time that counts only while somebody looks for workers.

A task that no worker can take is parked, and looked at again when that time has come. Where it was
not, nobody was there to look, and the time until now is left out: neither does it count, nor does
counting begin anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    case,
    func,
    literal,
    select,
    type_coerce,
    update,
)

from fog_compute.store.schema import EPOCH, WAITING, tasks

__all__ = ["resume_parked", "unpark"]

_MICROSECOND: Final = timedelta(microseconds=1)
_SINCE: Final = tasks.c.hopeless_since
_SINCE_US: Final = type_coerce(_SINCE, BigInteger)
_DUE_US: Final = type_coerce(tasks.c.not_before, BigInteger)


def unpark(connection: Connection, now: datetime, absent: timedelta) -> None:
    """Let what was parked as hopeless be looked at now; it was not hopeless while ``absent``."""
    if not absent:
        _unpark(connection, {})
        return
    shifted = _SINCE_US + absent // _MICROSECOND
    at = _us(now)
    _unpark(connection, {_SINCE: case((shifted < at, shifted), else_=at)})


def resume_parked(connection: Connection, now: datetime) -> timedelta:
    """As `unpark`, for the time since each of them should have been looked at.

    Returns:
        For how long none of them was; zero if none was parked.
    """
    last = select(func.max(tasks.c.not_before)).where(_SINCE.is_not(None), WAITING)
    due: datetime | None = connection.execute(last).scalar()
    away = _us(now) - _DUE_US
    _unpark(connection, {_SINCE: _SINCE_US + case((away > 0, away), else_=0)})
    return timedelta() if due is None else max(timedelta(), now - due)


def _us(at: datetime) -> ColumnElement[int]:
    """A time as the number that is kept of it."""
    return literal((at - EPOCH) // _MICROSECOND, BigInteger)


def _unpark(
    connection: Connection, changes: Mapping[Column[datetime | None], ColumnElement[int]]
) -> None:
    connection.execute(
        update(tasks)
        .where(_SINCE.is_not(None), WAITING)
        .values({tasks.c.not_before: None, **changes})
    )
