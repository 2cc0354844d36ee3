"""Records to database rows and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

import msgspec
from sqlalchemy import RowMapping

from fog_compute.tasks.model import Attempt, AttemptState, Task, TaskSpec, TaskState

Values: TypeAlias = dict[str, object]

_encoder: Final = msgspec.json.Encoder(order="sorted")
_spec_decoder: Final[msgspec.json.Decoder[TaskSpec]] = msgspec.json.Decoder(TaskSpec)

_Row: TypeAlias = RowMapping


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
    }


def task_of(row: _Row) -> Task:
    """Return the task of a row."""
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
    """Return the attempt of a row."""
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
    )


def renamed(values: Mapping[str, object], prefix: str) -> Values:
    """Return the values under names that do not collide with column names."""
    return {prefix + name: value for name, value in values.items()}
