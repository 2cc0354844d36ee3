"""The queue as the store holds it: what is taken from it, in which order, and at what cost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import Connection, event

from fog_compute.levels import PrivacyLevel
from fog_compute.store import (
    Cancelled,
    Declined,
    Leased,
    Need,
    Parked,
    Retried,
    Room,
    Started,
    Store,
)
from fog_compute.tasks import Limits, Task, TaskSpec, new_handle
from fog_compute.testing import ManualClock
from fog_compute.units import MIB
from tests.unit.fog_compute.store.test_store import back_to

pytestmark = pytest.mark.asyncio

ROOM = {("", "wasm"): 300 * MIB}
SECOND = timedelta(seconds=1)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest_asyncio.fixture
async def store(database_url: str, clock: ManualClock) -> AsyncIterator[Store]:
    async with await Store.open(database_url, clock=clock) as opened:
        yield opened


async def queued(store: Store, *, memory: int = 256 * MIB, **spec: object) -> Task:
    module = await store.blobs.put(b"module")
    limits = Limits(memory_bytes=memory)
    return await store.tasks.create(TaskSpec(module=module, limits=limits, **spec))  # type: ignore[arg-type]


async def lease(store: Store, task: Task) -> str:
    handle = new_handle()
    await store.apply([Leased(task.id, handle, "w", "a", task.created_at)])
    return handle


async def claimed(
    store: Store,
    clock: ManualClock,
    *,
    level: PrivacyLevel = PrivacyLevel.PRIVATE,
    room: Room = ROOM,
    limit: int = 100,
) -> list[str]:
    waiting = await store.tasks.claim(level, room, clock.now(), limit)
    return [task.id for task, _ in waiting]


async def test_oldest_tasks_come_first_whether_queued_or_tried_before(
    store: Store, clock: ManualClock
) -> None:
    tasks = [await queued(store) for _ in range(7)]
    retried, given_back, running, over = tasks[2], tasks[3], tasks[4], tasks[5]
    await store.apply([Retried(await lease(store, retried), "lost")])
    await store.apply([Declined(await lease(store, given_back), "busy")])
    await store.apply([Started(await lease(store, running), clock.now())])
    await store.apply([Cancelled(over.id)])

    waiting = [tasks[i].id for i in (0, 1, 2, 3, 6)]
    assert await claimed(store, clock) == waiting
    assert await claimed(store, clock, limit=3) == waiting[:3]


async def test_only_what_fits_the_room_and_the_level_is_taken(
    store: Store, clock: ManualClock
) -> None:
    large = await queued(store, memory=301 * MIB)
    small = await queued(store, memory=300 * MIB)
    secret = await queued(store, privacy=PrivacyLevel.SECRET)

    assert await claimed(store, clock) == [small.id]
    assert await claimed(store, clock, level=PrivacyLevel.SECRET) == [secret.id]
    assert await claimed(store, clock, level=PrivacyLevel.PUBLIC) == []
    assert await claimed(store, clock, room={("", "wasm"): 301 * MIB}) == [large.id, small.id]
    assert (
        await claimed(store, clock, room={("", "other"): 999 * MIB, ("other", "wasm"): 999 * MIB})
        == []
    )
    assert await claimed(store, clock, room={}) == []
    assert set(await store.tasks.needs()) == {
        Need(PrivacyLevel.PRIVATE, "", "wasm", 301 * MIB),
        Need(PrivacyLevel.PRIVATE, "", "wasm", 300 * MIB),
        Need(PrivacyLevel.SECRET, "", "wasm", 256 * MIB),
    }


async def test_parked_task_is_left_alone_until_it_is_due(store: Store, clock: ManualClock) -> None:
    parked, other = await queued(store), await queued(store)
    due = clock.now() + 17 * SECOND
    await store.apply([Parked(parked.id, due)])

    assert await claimed(store, clock) == [other.id]
    assert await store.tasks.next_due(clock.now()) == {PrivacyLevel.PRIVATE: due}
    await clock.advance(17)
    assert await claimed(store, clock) == [parked.id, other.id]
    assert await store.tasks.next_due(clock.now()) == {}
    assert (await store.tasks.get(parked.id)).version == parked.version


async def test_hopeless_tasks_are_looked_at_when_the_workers_change(
    store: Store, clock: ManualClock
) -> None:
    hopeless, delayed = await queued(store), await queued(store)
    since, due = clock.now() - 5 * SECOND, clock.now() + 17 * SECOND
    await store.apply([Parked(hopeless.id, due, since), Parked(delayed.id, due)])

    await store.unpark()
    assert await claimed(store, clock) == [hopeless.id]
    assert (await store.tasks.get(hopeless.id)).hopeless_since == since
    await clock.advance(50)
    await store.unpark(timedelta(seconds=17))
    assert (await store.tasks.get(hopeless.id)).hopeless_since == since + 17 * SECOND
    await store.unpark(timedelta(seconds=900))
    assert (await store.tasks.get(hopeless.id)).hopeless_since == clock.now()


@pytest.mark.parametrize("away_s", [0, 13, 900])
async def test_time_in_which_nobody_looked_at_a_hopeless_task_is_left_out(
    store: Store, clock: ManualClock, away_s: int
) -> None:
    """INV-STORE-48."""
    hopeless, other = await queued(store), await queued(store)
    since, due = clock.now() - 3 * SECOND, clock.now() + 14 * SECOND
    await store.apply([Parked(hopeless.id, due, since), Parked(other.id, due)])
    await clock.advance(away_s)

    away = await store.resume_parked()

    now = clock.now()
    task = await store.tasks.get(hopeless.id)
    assert task.hopeless_since is not None
    assert now - task.hopeless_since == min(away_s + 3, 17) * SECOND
    assert away == max(away_s - 14, 0) * SECOND
    assert task.not_before is None
    assert (await store.tasks.get(other.id)).not_before == due
    assert await store.tasks.hopeless() == {
        Need(PrivacyLevel.PRIVATE, "", "wasm", 256 * MIB): task.hopeless_since
    }


async def test_task_that_runs_is_hopeless_no_more(store: Store, clock: ManualClock) -> None:
    task = await queued(store)
    await store.apply([Parked(task.id, clock.now(), clock.now())])
    handle = await lease(store, task)
    assert (await store.tasks.get(task.id)).hopeless_since == clock.now()
    await store.apply([Started(handle, clock.now())])

    assert (await store.tasks.get(task.id)).hopeless_since is None


async def test_attempts_of_before_come_along(store: Store, clock: ManualClock) -> None:
    fresh, tried = await queued(store), await queued(store)
    await store.apply([Declined(await lease(store, tried), "no", refused=True)])
    await store.apply([Retried(await lease(store, tried), "lost")])

    waiting = await store.tasks.claim(PrivacyLevel.PRIVATE, ROOM, clock.now(), 5)

    assert [task.id for task, _ in waiting] == [fresh.id, tried.id]
    assert waiting[0][1] == ()
    assert [one.refused for one in waiting[1][1]] == [True, False]


async def plan_of(store: Store, asked: Awaitable[object]) -> list[str]:
    """What the database does to answer the first thing that is asked of it."""
    statements: list[tuple[str, object]] = []

    def note(
        connection: Connection, cursor: object, statement: str, values: object, *_: object
    ) -> None:
        statements.append((statement, values))

    event.listen(store._engines.reading, "before_cursor_execute", note)
    await asked
    event.remove(store._engines.reading, "before_cursor_execute", note)
    statement, values = statements[0]
    with store._engines.reading.connect() as connection:
        explain = "EXPLAIN QUERY PLAN"
        if connection.dialect.name == "postgresql":
            # Of a handful of rows it would read all, index or not.
            connection.exec_driver_sql("SET enable_seqscan = off")
            explain = "EXPLAIN"
        plan = connection.exec_driver_sql(f"{explain} {statement}", values)  # type: ignore[arg-type]
        return [row[-1] for row in plan]


async def test_queue_is_read_by_its_indexes_and_never_as_a_whole(
    store: Store, clock: ManualClock
) -> None:
    """INV-TASK-63."""
    await queued(store)

    claim = await plan_of(store, claimed(store, clock))
    due = await plan_of(store, store.tasks.next_due(clock.now()))
    open_ones = await plan_of(store, store.tasks.with_open_attempts())

    if store._engines.reading.dialect.name == "postgresql":
        assert any("using tasks_waiting on tasks" in step for step in claim), claim
        assert any("on tasks_due" in step or "using tasks_" in step for step in due)
        assert any("attempts_by_state" in step for step in open_ones)
        assert not any("Seq Scan" in step for step in [*claim, *due, *open_ones])
        return
    assert "SEARCH tasks USING COVERING INDEX tasks_waiting (privacy=?)" in claim
    assert any("USING COVERING INDEX tasks_due" in step for step in due)
    assert any(
        step.startswith("SEARCH attempts USING INDEX attempts_by_state") for step in open_ones
    )
    assert not any(step.startswith("SCAN") for step in open_ones)


async def test_tasks_of_an_older_database_are_found_in_the_queue(
    tmp_path: Path, clock: ManualClock
) -> None:
    place = tmp_path / "fog.db"
    async with await Store.open(place, clock=clock) as store:
        task = await queued(store, memory=301 * MIB)
    back_to(place, "0004")
    async with await Store.open(place, clock=clock) as again:
        assert await claimed(again, clock, room={("local", "wasm"): 300 * MIB}) == []
        assert await claimed(again, clock, room={("local", "wasm"): 301 * MIB}) == [task.id]
