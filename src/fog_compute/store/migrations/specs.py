"""What migrations do with the JSON of tasks, in the same way on every database."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import sqlalchemy as sa

__all__ = ["set_from_spec"]

TASKS_AT_ONCE: Final = 5000


def set_from_spec(
    connection: sa.Connection, names: tuple[str, ...], made: Callable[[Any], Mapping[str, object]]
) -> None:
    """Set the columns ``names`` of each task to what ``made`` makes of its parsed JSON.

    A task whose JSON cannot be read is left as it is.
    """
    tasks = sa.table("tasks", sa.column("id"), *(sa.column(name) for name in {"spec", *names}))
    change = (
        sa.update(tasks)
        .where(tasks.c.id == sa.bindparam("of_task"))
        .values({name: sa.bindparam("new_" + name) for name in names})
    )
    last = ""
    while True:
        page = sa.select(tasks.c.id, tasks.c.spec).where(tasks.c.id > last).order_by(tasks.c.id)
        rows = connection.execute(page.limit(TASKS_AT_ONCE)).all()
        if not rows:
            return
        values = []
        for task_id, spec in rows:
            try:
                found = made(json.loads(spec))
            except (ValueError, LookupError, TypeError, AttributeError):
                continue
            values.append({"of_task": task_id, **{"new_" + n: found[n] for n in names}})
        if values:
            connection.execute(change, values)
        last = rows[-1][0]
