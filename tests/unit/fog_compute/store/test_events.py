"""Events in one sequence, and batches of tasks that are made together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import event

from fog_compute.errors import NotFound
from fog_compute.store import Cancelled, Conflict, Leased, Reported, Settled, Store
from fog_compute.tasks import Task, TaskResult, TaskSpec, TaskState, new_handle
from fog_compute.testing import ManualClock
from tests.unit.fog_compute.store.test_store import back_to

pytestmark = pytest.mark.asyncio

RESULT = TaskResult(0, b"out", b"", 7, 11, 65536)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest_asyncio.fixture
async def store(database_url: str, clock: ManualClock) -> AsyncIterator[Store]:
    async with await Store.open(database_url, clock=clock, result_ttl_s=100) as opened:
        yield opened


async def specs(store: Store, count: int) -> list[TaskSpec]:
    module = await store.blobs.put(b"module")
    return [TaskSpec(module=module, argv=(str(number),)) for number in range(count)]


async def accept(store: Store, task: Task) -> None:
    handle = new_handle()
    leased = Leased(task.id, handle, "w", "a", task.created_at)
    await store.apply([leased, Reported(handle, RESULT), Settled(handle)])


async def states(store: Store, since: int, batch: str | None = None) -> list[tuple[str, str]]:
    found = await store.events.after(since, 1000, batch=batch)
    return [(one.task_id, one.state.value) for one in found]


async def test_events_of_all_tasks_stand_in_one_growing_sequence(store: Store) -> None:
    """INV-TASK-64."""
    first, second = [await store.tasks.create(spec) for spec in await specs(store, 2)]
    await accept(store, second)
    await store.apply([Cancelled(first.id)])

    found = await store.events.after(0, 1000)
    numbers = [one.seq for one in found]
    assert numbers == sorted(set(numbers))
    assert [(one.task_id, one.version) for one in found] == [
        (first.id, 1),
        (second.id, 1),
        *((second.id, version) for version in (2, 3, 4)),
        (first.id, 2),
    ]
    assert await store.events.after(numbers[2], 2) == found[3:5]
    assert await store.events.after(numbers[-1], 2) == []


async def test_number_of_an_event_never_comes_twice(store: Store, clock: ManualClock) -> None:
    """INV-TASK-64."""
    (spec,) = await specs(store, 1)
    task = await store.tasks.create(spec)
    await store.apply([Cancelled(task.id)])
    last = (await store.events.after(0, 10))[-1].seq
    await clock.advance(101)
    await store.sweep()
    assert await store.events.after(0, 10) == []

    await store.tasks.create(spec)
    assert (await store.events.after(0, 10))[0].seq > last


async def test_batch_is_made_whole_and_followed_apart_from_others(store: Store) -> None:
    """INV-TASK-65."""
    wanted = await specs(store, 7)
    before = await store.tasks.create(wanted[0])
    made = await store.tasks.create_batch(wanted)
    await store.tasks.create(wanted[1])

    assert [task.spec for task in made] == wanted
    assert {task.batch for task in made} == {made[0].id}
    assert [await store.tasks.get(task.id) for task in made] == made
    assert before.batch is None
    await accept(store, made[3])
    await accept(store, before)
    assert await states(store, 0, made[0].id) == [
        *((task.id, "queued") for task in made),
        *((made[3].id, state) for state in ("leased", "reported", "accepted")),
    ]


async def test_batch_of_which_one_cannot_be_made_is_not_made(store: Store) -> None:
    """INV-TASK-65."""
    good = await specs(store, 2)
    with pytest.raises(NotFound):
        await store.tasks.create_batch([*good, TaskSpec(module="f" * 64)])

    assert await store.tasks.list() == []


async def test_one_key_makes_one_batch(store: Store) -> None:
    """INV-TASK-24, INV-TASK-65."""
    wanted = await specs(store, 3)
    assert await store.tasks.batch_of_key("k", wanted) == []
    made = await store.tasks.create_batch(wanted, "k")

    assert await store.tasks.batch_of_key("k", wanted) == made
    with pytest.raises(Conflict):
        await store.tasks.create_batch(wanted, "k")
    with pytest.raises(Conflict, match="something else"):
        await store.tasks.batch_of_key("k", wanted[::-1])
    assert len(await store.tasks.list()) == 3


async def test_who_waits_for_nothing_asks_the_database_once(store: Store) -> None:
    made = await store.tasks.create_batch(await specs(store, 2))
    last = (await store.events.after(0, 10))[-1].seq
    asked = 0

    def count(*_: object) -> None:
        nonlocal asked
        asked += 1

    event.listen(store._engines.reading, "before_cursor_execute", count)
    for spec in await specs(store, 5):
        waiting = asyncio.create_task(store.events.wait_after(last, 10, 0.05, batch=made[0].id))
        await store.tasks._create([*await store.tasks._new([spec])], None)
        assert await waiting == []
    event.remove(store._engines.reading, "before_cursor_execute", count)

    assert 5 <= asked <= 5 + 1  # and once for the newest id


async def test_who_waits_for_a_batch_is_woken_by_its_tasks(store: Store) -> None:
    made = await store.tasks.create_batch(await specs(store, 2))
    last = (await store.events.after(0, 10))[-1].seq
    waits = [
        asyncio.create_task(store.events.wait_after(last, 10, 30, batch=batch))
        for batch in (made[0].id, None)
    ]
    await asyncio.sleep(0)
    await store.apply([Cancelled(made[1].id)])

    for found in await asyncio.gather(*waits):
        assert [(one.task_id, one.state) for one in found] == [(made[1].id, TaskState.CANCELLED)]
    assert not store.events.waited_for


async def test_history_of_an_older_database_is_numbered(tmp_path: Path, clock: ManualClock) -> None:
    place = tmp_path / "old.db"
    async with await Store.open(place, clock=clock) as store:
        (spec,) = await specs(store, 1)
        task = await store.tasks.create(spec)
        await accept(store, task)
        before = await states(store, 0)
    back_to(place, "0005")
    async with await Store.open(place, clock=clock) as again:
        assert await states(again, 0) == before
        assert [one.version for one in await again.events.history(task.id)] == [1, 2, 3, 4]
