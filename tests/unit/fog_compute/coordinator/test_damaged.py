"""A coordinator that comes back to a database with damaged rows does the work of the others."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from fog_compute.store.dialects import database_at
from fog_compute.tasks import TaskState
from tests.unit.fog_compute.coordinator import scripted
from tests.unit.fog_compute.coordinator.scripted import open_fog
from tests.unit.fog_compute.coordinator.test_dispatcher import OK, create, reaches, running

pytestmark = pytest.mark.asyncio


async def test_damaged_rows_are_never_the_end_of_a_recovery(tmp_path: Path) -> None:
    """INV-STORE-42."""
    async with running(tmp_path) as fog:
        fog.add_worker("a", slots=5)
        held = [await create(fog, wall_s=9000) for _ in range(4)]
        for task in held:
            await reaches(fog, task, TaskState.RUNNING)
        fog.workers[0].slots = 0
        over = await create(fog)
        await fog.coordinator.cancel(over.id)
        waiting = [await create(fog, wall_s=9000) for _ in range(70)]
    changes = [
        ("tasks", "spec = '?'", "id", held[0].id),
        ("attempts", "state = 'paused'", "task_id", held[1].id),
        ("attempts", f"created_at = {2**62}", "task_id", held[2].id),
        ("tasks", f"updated_at = {2**62}", "id", over.id),
        *(("tasks", "spec = '?'", "id", task.id) for task in waiting[:-1]),
    ]
    engines = database_at(scripted.place_in(tmp_path)).engines()
    with engines.writing.begin() as connection:
        for table, change, column, key in changes:
            connection.execute(
                text(f"UPDATE {table} SET {change} WHERE {column} = :key"), {"key": key}
            )
    engines.dispose()
    again = await open_fog(tmp_path, clock=fog.clock)
    try:
        fog.workers[0].slots = 5
        again.restart(fog)
        again.start()
        (worker,) = again.workers
        await reaches(again, waiting[-1], TaskState.RUNNING)
        for handle in list(worker.attempts):
            worker.finish(OK, handle)
        for task in (held[3], waiting[-1]):
            await reaches(again, task, TaskState.ACCEPTED)
        for task in held[1:3]:
            failed = await again.store.tasks.get(task.id)
            assert failed.state is TaskState.FAILED
            assert failed.reason.startswith("the database has no whole row of its attempt")
        named = {row.key for row in again.store.damages.found()}
        assert named >= {held[0].id, over.id, *(task.id for task in waiting[:-1])}
    finally:
        await again.stop()
        await again.store.close()
