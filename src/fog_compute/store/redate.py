"""Dates that a clock wrote which stood otherwise than it stands now.

Within one process the clock does not jump, but between two runs somebody may put it right, or
wrong. Then what an earlier run dated lies in the future, or is suddenly old: nothing would expire,
or everything at once. So all dates are moved by the jump when the store is opened, where it can be
told: within one boot of the machine always, because the kernel counts the seconds since; over a
boot if the clock went back behind what is dated already.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Final

from sqlalchemy import BigInteger, Connection, delete, func, insert, select, type_coerce, update

from fog_compute.clock import Clock
from fog_compute.store import schema

__all__ = ["redate"]

TOLERANCE: Final = timedelta(minutes=1)
"""Difference that is no jump: clocks are put right by less all the time."""

_DATED: Final = (
    (schema.tasks, ("not_before", "created_at", "updated_at", "finished_at", "hopeless_since")),
    (schema.attempts, ("lease_until", "created_at", "updated_at")),
    (schema.results, ("stored_at", "expires_at")),
    (schema.events, ("at",)),
    (schema.blobs, ("put_at",)),
    (schema.api_keys, ("created_at", "expires_at", "used_at", "revoked_at")),
    (schema.logins, ("created_at", "expires_at")),
    (schema.sessions, ("opened_at", "used_at")),
    (schema.chat_messages, ("at",)),
    (schema.chat_deliveries, ("updated_at",)),
    (schema.chat_received_streams, ("until",)),
    (schema.chat_seen, ("until",)),
    (schema.chat_groups, ("updated_at",)),
)
_WRITTEN: Final = (
    schema.tasks.c.updated_at,
    schema.attempts.c.updated_at,
    schema.results.c.stored_at,
)
_MICROSECOND: Final = timedelta(microseconds=1)


def redate(connection: Connection, clock: Clock, alone: Callable[[], bool]) -> timedelta:
    """Move all dates by what the clock jumped since the last run; return that.

    None moves where this process is not ``alone``: another dates by a clock that did not jump.
    """
    now = clock.now()
    booted_at = now - timedelta(seconds=clock.monotonic())
    jump = timedelta()
    last = connection.execute(select(schema.last_run)).mappings().first()
    if last is not None and clock.boot and last["boot"] == clock.boot:
        jump = booted_at - last["booted_at"]
    written = [connection.execute(select(func.max(column))).scalar() for column in _WRITTEN]
    newest = max((at for at in written if at is not None), default=now)
    jump = min(jump, now - newest)
    if abs(jump) < TOLERANCE or not alone():
        jump = timedelta()
    if jump:
        for table, names in _DATED:
            columns = [table.c[name] for name in names]
            connection.execute(
                update(table).values(
                    {c: type_coerce(c, BigInteger) + jump // _MICROSECOND for c in columns}
                )
            )
    if last is None or last["boot"] != clock.boot or abs(booted_at - last["booted_at"]) > TOLERANCE:
        # Only then, so that a store on a full disk can be opened.
        connection.execute(delete(schema.last_run))
        connection.execute(insert(schema.last_run).values(boot=clock.boot, booted_at=booted_at))
    return jump
