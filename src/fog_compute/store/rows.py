"""Records to database rows and back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final, TypeAlias

import msgspec
from sqlalchemy import RowMapping

from fog_compute.errors import FogError
from fog_compute.store.damage import SET_ASIDE, Damaged, RowDamaged
from fog_compute.tasks.model import Attempt, AttemptState, Task, TaskSpec, TaskState

Values: TypeAlias = dict[str, object]
Types: TypeAlias = Mapping[str, tuple[type, ...]]
"""What each column of a row may be."""

_encoder: Final = msgspec.json.Encoder(order="sorted")
_spec_decoder: Final[msgspec.json.Decoder[TaskSpec]] = msgspec.json.Decoder(TaskSpec)

_Row: TypeAlias = RowMapping

BROKEN: Final = (msgspec.MsgspecError, FogError, ValueError, TypeError, RecursionError)
"""What reading a row raises where it is damaged."""

_TASK_TYPES: Final[Types] = {
    **dict.fromkeys(("id", "spec", "reason"), (str,)),
    **dict.fromkeys(("version", "leases", "tries"), (int,)),
    **dict.fromkeys(("created_at", "updated_at"), (datetime,)),
    **dict.fromkeys(("not_before", "finished_at", "hopeless_since"), (datetime, type(None))),
    **dict.fromkeys(("attempt", "batch"), (str, type(None))),
}
_ATTEMPT_TYPES: Final[Types] = {
    **dict.fromkeys(("handle", "task_id", "worker", "address", "reason"), (str,)),
    "number": (int,),
    **dict.fromkeys(("lease_until", "created_at", "updated_at"), (datetime,)),
}


def task_values(task: Task) -> Values:
    """Return a task as columns."""
    return {
        "id": task.id,
        "privacy": task.spec.privacy.value,
        "spec": _encoder.encode(task.spec).decode(),
        "group_name": task.spec.group,
        "kind": task.spec.kind.value,
        "memory_bytes": task.spec.limits.memory_bytes,
        "created_at": task.created_at,
        "batch": task.batch,
        **task_changes(task),
    }


def task_changes(task: Task) -> Values:
    """Return the columns of a task that can change."""
    return {
        "state": task.state.value,
        "version": task.version,
        "attempt": task.attempt,
        "leases": task.leases,
        "tries": task.tries,
        "not_before": task.not_before,
        "reason": task.reason,
        "updated_at": task.updated_at,
        "finished_at": task.finished_at,
        "hopeless_since": task.hopeless_since,
        "claimed_by": None,  # whoever claimed it, this is what became of that
    }


def task_of(row: _Row) -> Task:
    """Return the task of a row.

    Raises:
        RowDamaged: it cannot be read, or was set aside because it could not be.
    """
    try:
        if row["state"] == SET_ASIDE:
            raise ValueError(row["reason"])
        check_types(row, _TASK_TYPES)
        return _task(row)
    except BROKEN as err:
        raise RowDamaged(Damaged.of("tasks", row["id"], err)) from err


def _task(row: _Row) -> Task:
    return Task(
        id=row["id"],
        spec=_spec_decoder.decode(row["spec"]),
        state=TaskState(row["state"]),
        version=row["version"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        attempt=row["attempt"],
        leases=row["leases"],
        tries=row["tries"],
        not_before=row["not_before"],
        reason=row["reason"],
        finished_at=row["finished_at"],
        hopeless_since=row["hopeless_since"],
        batch=row["batch"],
    )


def attempt_values(attempt: Attempt) -> Values:
    """Return an attempt as columns."""
    return {
        "handle": attempt.handle,
        "task_id": attempt.task_id,
        "number": attempt.number,
        "worker": attempt.worker,
        "address": attempt.address,
        "created_at": attempt.created_at,
        "owner": attempt.owner,
        **attempt_changes(attempt),
    }


def attempt_changes(attempt: Attempt) -> Values:
    """Return the columns of an attempt that can change."""
    return {
        "state": attempt.state.value,
        "lease_until": attempt.lease_until,
        "updated_at": attempt.updated_at,
        "reason": attempt.reason,
        "refused": attempt.refused,
    }


def attempt_of(row: _Row) -> Attempt:
    """Return the attempt of a row.

    Raises:
        RowDamaged: it cannot be read.
    """
    try:
        check_types(row, _ATTEMPT_TYPES)
        return _attempt(row)
    except BROKEN as err:
        raise RowDamaged(Damaged.of("attempts", row["handle"], err)) from err


def _attempt(row: _Row) -> Attempt:
    return Attempt(
        handle=row["handle"],
        task_id=row["task_id"],
        number=row["number"],
        worker=row["worker"],
        address=row["address"],
        state=AttemptState(row["state"]),
        lease_until=row["lease_until"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        reason=row["reason"],
        refused=row["refused"],
        owner=row["owner"],
    )


def check_types(row: _Row, types: Types) -> None:
    """Refuse what no version of this program wrote: a database may keep anything in any column.

    What cannot be read at all has types of its own, `Unreadable` and `NoText`.
    """
    found = tuple(type(row[name]) for name in types)
    if (id(types), found) in _GOOD:
        return
    for (name, allowed), kind in zip(types.items(), found, strict=True):
        if kind not in allowed:
            raise TypeError(f"its {name} cannot be read")
    _GOOD.add((id(types), found))


_GOOD: Final[set[tuple[int, tuple[type, ...]]]] = set()
"""The types of rows that are allowed, as they were met: a few dozen, of tables that stay."""


def renamed(values: Mapping[str, object], prefix: str) -> Values:
    """Return the values under names that do not collide with column names."""
    return {prefix + name: value for name, value in values.items()}
