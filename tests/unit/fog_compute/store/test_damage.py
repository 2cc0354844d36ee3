"""Rows that cannot be read are named and left out, wherever rows are read."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import select, update

from fog_compute.levels import PrivacyLevel
from fog_compute.store import Cancelled, Reported, RowDamaged, Store, schema
from fog_compute.store.damage import SET_ASIDE, Damaged, Damages
from fog_compute.tasks import Task, TaskSpec, TaskState
from fog_compute.testing import ManualClock
from tests.unit.fog_compute.store.test_store import RESULT, lease

pytestmark = pytest.mark.asyncio

ROOM = {("", "wasm"): 2**40}
SPEC_DAMAGES = [
    "spec = '{'",
    "spec = '[[[['",
    """spec = '{"module": 7}'""",
    """spec = '{"module": "x"}'""",  # the shape is right, the value is not
    "spec = CAST(x'7bff7d' AS TEXT)",  # no text at all
    "version = 'one'",
    "created_at = 'yesterday'",
    "updated_at = 9000000000000000000",
    "reason = CAST(x'ff' AS TEXT)",
]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "fog.db"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest_asyncio.fixture
async def store(place: Path, clock: ManualClock) -> AsyncIterator[Store]:
    async with await Store.open(place, clock=clock) as opened:
        yield opened


def damage(place: Path, change: str, key: str, table: str = "tasks", column: str = "id") -> None:
    with closing(sqlite3.connect(place)) as database, database:
        done = database.execute(f"UPDATE {table} SET {change} WHERE {column} = ?", [key])
        assert done.rowcount == 1


async def three(store: Store) -> list[Task]:
    module = await store.blobs.put(b"module")
    return [await store.tasks.create(TaskSpec(module=module)) for _ in range(3)]


@pytest.mark.parametrize("change", SPEC_DAMAGES)
async def test_damaged_task_is_named_and_hides_no_other(
    store: Store, place: Path, clock: ManualClock, change: str
) -> None:
    """INV-STORE-40, INV-STORE-41."""
    first, second, third = await three(store)
    damage(place, change, first.id)

    assert await store.tasks.list(limit=2) == [third, second]
    assert await store.tasks.of_ids([task.id for task in (first, second)]) == [second]
    with pytest.raises(RowDamaged, match=f"{first.id} of tasks is damaged .*fog db check"):
        await store.tasks.get(first.id)
    claimed = await store.tasks.claim(PrivacyLevel.PRIVATE, ROOM, clock.now(), 1)

    assert [task for task, _ in claimed] == [second]
    assert [(row.table, row.key) for row in store.damages.found()] == [("tasks", first.id)]
    assert (await store.tasks.count_by_state())[TaskState.QUEUED] == 2


async def test_listing_makes_up_for_damaged_tasks(store: Store, place: Path) -> None:
    """INV-STORE-40."""
    first, second, third = await three(store)
    damage(place, "spec = ''", second.id)
    damage(place, "state = 'paused'", third.id)

    assert await store.tasks.list(limit=1) == [first]


async def test_task_that_was_set_aside_is_named_by_the_next_run(
    store: Store, place: Path, clock: ManualClock
) -> None:
    """INV-STORE-41."""
    first, *_ = await three(store)
    damage(place, "spec = '!'", first.id)
    await store.tasks.claim(PrivacyLevel.PRIVATE, ROOM, clock.now(), 1)
    await store.close()
    async with await Store.open(place, clock=clock) as again:
        await again.tasks.count_by_state()
        (row,) = again.damages.found()

    assert row.key == first.id
    assert row.reason == "JSON is malformed: invalid character (byte 0); it was queued:"


async def test_damaged_tasks_are_set_aside_on_either_database(
    database_url: str, clock: ManualClock
) -> None:
    """INV-STORE-41."""
    async with await Store.open(database_url, clock=clock, result_ttl_s=50.0) as store:
        module = await store.blobs.put(b"module")
        tasks = await store.tasks.create_batch([TaskSpec(module=module) for _ in range(9)])
        with store._engines.writing.begin() as connection:
            connection.execute(
                update(schema.tasks)
                .where(schema.tasks.c.id < tasks[7].id)
                .values(spec='{"module": []}', reason="ü")
            )
        claimed = await store.tasks.claim(PrivacyLevel.PRIVATE, ROOM, clock.now(), 3)

        assert [task.id for task, _ in claimed] == [tasks[7].id, tasks[8].id]
        assert len(store.damages.found()) == 7
        rows = await store.tasks.rows(select(schema.tasks).where(schema.tasks.c.state == SET_ASIDE))
        assert len(rows) == 7
        assert all(row["reason"].endswith("; it was queued: ü") for row in rows)
        await clock.advance(51)
        assert (await store.sweep()).tasks == 7


async def test_change_of_a_damaged_task_fails_alone(store: Store, place: Path) -> None:
    """INV-STORE-40."""
    first, second, _ = await three(store)
    damage(place, "spec = '!'", first.id)
    writer = store._writer
    async with writer._turn:  # both are written together
        both = [asyncio.create_task(store.apply([Cancelled(task.id)])) for task in (first, second)]
        for _ in range(3):
            await asyncio.sleep(0)
    refused, done = await asyncio.gather(*both, return_exceptions=True)

    assert isinstance(refused, RowDamaged)
    assert not isinstance(done, BaseException)
    assert (await store.tasks.get(second.id)).state is TaskState.CANCELLED


@pytest.mark.parametrize("change", ["data = x'00'", "data = 'text'", "data = x''"])
async def test_damaged_result_is_named(store: Store, place: Path, change: str) -> None:
    """INV-STORE-40."""
    task, *_ = await three(store)
    await store.apply([lease(task, "ab" * 16), Reported("ab" * 16, RESULT)])
    damage(place, change, task.id, "results", "task_id")

    with pytest.raises(RowDamaged, match="of results is damaged"):
        await store.results.get(task.id)
    assert [row.table for row in store.damages.found()] == ["results"]


async def test_damaged_events_are_passed_over(store: Store, place: Path) -> None:
    """INV-STORE-40."""
    first, second, third = await three(store)
    for task in (first, second):
        damage(place, "state = 'paused'", task.id, "events", "task_id")

    assert [event.task_id for event in await store.events.after(0, 1)] == [third.id]
    assert await store.events.history(first.id) == []


async def test_damaged_attempt_hides_no_other(store: Store, place: Path) -> None:
    """INV-STORE-40."""
    first, second, _ = await three(store)
    await store.apply([lease(first, "aa" * 16), lease(second, "bb" * 16)])
    damage(place, "lease_until = 'soon'", "aa" * 16, "attempts", "handle")

    assert [one.handle for one in await store.attempts.open_attempts()] == ["bb" * 16]
    assert await store.attempts.of_task(first.id) == []
    damage(place, "state = 'paused'", "aa" * 16, "attempts", "handle")
    assert [task.id for task in await store.tasks.stranded()] == [first.id]


async def test_so_many_damaged_rows_are_named_and_no_more() -> None:
    damages = Damages()
    for number in range(1234):
        damages.note(Damaged.of("tasks", number, "no JSON\n at all"))
        damages.note(Damaged.of("tasks", number, "again"))

    assert len(damages.found()) == 1000
    assert damages.found()[7] == Damaged("tasks", "7", "no JSON at all")
