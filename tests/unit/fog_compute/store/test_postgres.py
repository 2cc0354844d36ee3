"""The store on Postgres: what several processes may do at once, and what its errors mean."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio
from sqlalchemy import text

from fog_compute.errors import StoreUnusable
from fog_compute.store import Change, Conflict, Leased, Reported, Settled, Started, Store
from fog_compute.tasks import Task, TaskResult, TaskSpec, TaskState, new_handle

RESULT = TaskResult(0, b"out", b"", 1, 2, 3)


@pytest_asyncio.fixture
async def store(postgres_url: str) -> AsyncIterator[Store]:
    async with await Store.open(postgres_url) as opened:
        yield opened


@pytest_asyncio.fixture
async def other(postgres_url: str, store: Store) -> AsyncIterator[Store]:
    """The same database, as another process has it."""
    async with await Store.open(postgres_url) as opened:
        yield opened


async def queued(store: Store, count: int) -> list[Task]:
    module = await store.blobs.put(b"module")
    return await store.tasks.create_batch([TaskSpec(module=module)] * count)


@pytest.mark.asyncio
async def test_of_two_stores_one_leases_a_task(store: Store, other: Store) -> None:
    """INV-STORE-04."""
    tasks = await queued(store, 30)

    async def lease_all(by: Store) -> set[str]:
        async def lease(task: Task) -> str | None:
            until = task.created_at + timedelta(seconds=60)
            try:
                await by.apply([Leased(task.id, new_handle(), "w", "fog1a", until)])
            except Conflict:
                return None
            return task.id

        return set(filter(None, await asyncio.gather(*map(lease, tasks))))

    first, second = await asyncio.gather(lease_all(store), lease_all(other))

    assert first.isdisjoint(second)
    assert first | second == {task.id for task in tasks}
    for task in tasks:
        assert len(await store.attempts.of_task(task.id)) == 1
    events = await other.events.after(0, 100)
    assert [event.state for event in events].count(TaskState.LEASED) == len(tasks)


@pytest.mark.asyncio
async def test_of_two_stores_one_accepts_a_result(store: Store, other: Store) -> None:
    """INV-STORE-04."""
    [task] = await queued(store, 1)
    handle = new_handle()
    await store.apply([Leased(task.id, handle, "w", "fog1a", task.created_at)])
    await other.apply([Started(handle, task.created_at)])

    both: list[Change] = [Reported(handle, RESULT), Settled(handle)]
    outcomes = await asyncio.gather(store.apply(both), other.apply(both), return_exceptions=True)

    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 1
    assert (await store.tasks.get(task.id)).state is TaskState.ACCEPTED


@pytest.mark.asyncio
async def test_of_two_stores_one_makes_the_task_of_a_key(store: Store, other: Store) -> None:
    """INV-STORE-04."""
    spec = TaskSpec(module=await store.blobs.put(b"module"))
    keys = [f"key {number}" for number in range(20)]

    made = await asyncio.gather(
        *(store.tasks.create(spec, key) for key in keys),
        *(other.tasks.create(spec, key) for key in reversed(keys)),
        return_exceptions=True,
    )

    assert sum(isinstance(one, Task) for one in made) == len(keys)
    assert sum(isinstance(one, Conflict) for one in made) == len(keys)
    assert len(await store.tasks.list()) == len(keys)


@pytest.mark.asyncio
async def test_commits_are_on_disk_also_where_the_server_says_they_need_not_be(
    postgres_url: str,
) -> None:
    """INV-STORE-02."""
    lax = postgres_url + "&options=-c%20synchronous_commit%3Doff"
    async with await Store.open(lax) as store:
        with store._engines.writing.connect() as connection:
            shown = connection.execute(text("SHOW synchronous_commit")).scalar_one()
    assert shown == "on"


@pytest.mark.asyncio
async def test_readers_cannot_write(store: Store) -> None:
    with (
        store._engines.reading.connect() as connection,
        pytest.raises(Exception, match="read-only"),
    ):
        connection.execute(text("DELETE FROM tasks"))


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://fog@host/fog?sslmode=maybe", "sslmode"),
        ("postgresql://fog@host/fog?port=x", "port"),
        ("postgresql://fog:hunter2@host/fog?color=red", "color"),
        ("postgresql://fog:hunter2@host/fog?host=a&host=b", "host"),
        ("postgresql://fog@host/fog?sslmode=verify-full&sslrootcert=/nowhere", "certificate"),
    ],
)
async def test_a_url_that_cannot_be_followed_is_refused_by_what_it_says(
    url: str, said: str
) -> None:
    """INV-STORE-03."""
    with pytest.raises(StoreUnusable, match=said) as caught:
        await Store.open(url)
    assert "hunter2" not in str(caught.value)
