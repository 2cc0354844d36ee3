"""Commits of one backend wake who waits in another, and none is passed over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio
from sqlalchemy import insert, text

from fog_compute.store import Cancelled, Store, schema
from fog_compute.store.bells import PostgresBell
from fog_compute.store.dialects import Turn, database_at, take_turn
from fog_compute.store.echo import Echo, Heard
from fog_compute.testing import ManualClock
from tests.unit.fog_compute.store.test_backends import Several, lease, make

pytestmark = pytest.mark.asyncio

LONG_S: Final = 60.0
LISTENERS: Final = "FROM pg_stat_activity WHERE query = 'SELECT 1' OR query LIKE 'LISTEN%'"


class AtOnce(ManualClock):
    """No pause takes any time."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


@pytest_asyncio.fixture
async def several(postgres_url: str, tmp_path: Path) -> AsyncIterator[Several]:
    async with AsyncExitStack() as stack:
        yield Several(postgres_url, tmp_path / "blobs", stack)


def echo_of(store: Store) -> Echo:
    assert store.echo is not None
    return store.echo


def bell_of(store: Store) -> PostgresBell:
    (bell,) = echo_of(store)._bells
    assert isinstance(bell, PostgresBell)
    return bell


async def until(met: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONG_S):
        while not met():
            await asyncio.sleep(0.001)


@asynccontextmanager
async def hearing(store: Store) -> AsyncIterator[list[Heard]]:
    """What a backend hears of others; it looks after a bell alone: no time passes."""
    heard: list[Heard] = []
    echo, rings = echo_of(store), 0
    echo._clock = ManualClock()  # type: ignore[misc]
    bell_of(store)._clock = AtOnce()  # type: ignore[misc]
    ring = echo._rung.set

    def count() -> None:
        nonlocal rings
        rings += 1
        ring()

    echo._rung.set = count  # type: ignore[method-assign]
    job = asyncio.create_task(echo.run(heard.extend))
    try:
        await until(lambda: rings > 0 and echo._seen is not None)
        yield heard
    finally:
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)


async def test_a_commit_of_one_backend_wakes_who_waits_in_another(several: Several) -> None:
    """INV-STORE-27."""
    one, other = await several.open("one"), await several.open("other")
    async with hearing(other) as heard:
        (_, task) = await make(one, 2)
        await until(lambda: len(heard) == 2)
        assert {(each.task_id, each.state, each.version) for each in heard} >= {
            (task.id, "queued", 1)
        }
        newest = await other.events.newest()
        events = other.events
        by_id = asyncio.create_task(events.wait(task.id, 1, LONG_S))
        by_any = asyncio.create_task(events.wait_after(newest, 9, LONG_S))
        by_batch = asyncio.create_task(events.wait_after(newest, 9, LONG_S, batch=task.batch))
        await until(lambda: len(events._waiters) == 3)
        await one.apply([Cancelled(task.id)])
        async with asyncio.timeout(LONG_S / 2):
            assert (await by_id).version == 2
            assert [each.task_id for each in await by_any] == [task.id]
            assert await by_batch == await by_any


async def test_what_a_backend_wrote_itself_it_does_not_hear_again(several: Several) -> None:
    """INV-STORE-27."""
    one, other = await several.open("one"), await several.open("other")
    async with hearing(one) as heard:
        (own,) = await make(one)
        (foreign,) = await make(other)
        await lease(one, own)
        await until(lambda: bool(heard))
        assert {each.task_id for each in heard} == {foreign.id}
        for _ in range(3):  # nothing is kept for ever of what was read before it was noted
            await echo_of(one)._look(heard.extend)
        assert not echo_of(one)._own


async def test_after_a_lost_connection_everybody_looks_again(
    several: Several, postgres_url: str
) -> None:
    """INV-STORE-28."""
    one, other = await several.open("one"), await several.open("other")
    engines = database_at(postgres_url).engines()
    async with hearing(other) as heard:
        for _ in range(3):
            before = len(heard)
            with engines.writing.begin() as connection:
                ended = connection.execute(
                    text(f"SELECT pg_terminate_backend(pid) {LISTENERS}")
                ).scalars()
                assert any(ended)
            await make(one)  # who hears the bell of it?
            await until(lambda before=before: len(heard) > before)  # type: ignore[misc]
        await until(lambda: not bell_of(other).trouble)
    engines.dispose()


async def test_no_event_becomes_visible_before_one_with_a_smaller_number(
    several: Several, postgres_url: str
) -> None:
    """INV-STORE-29: the one that takes its number first commits last, if it could."""
    one, other = await several.open("one"), await several.open("other")
    (task,) = await make(one)
    seen = await one.events.newest()
    engines = database_at(postgres_url).engines()
    waiting = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    with engines.writing.begin() as slow:
        take_turn(slow, Turn.EVENTS)
        slow.execute(
            insert(schema.events).values(
                task_id=task.id, version=7, state="queued", reason="", at=task.created_at
            )
        )
        quick = asyncio.create_task(make(other))
        with engines.reading.connect() as watching:
            await until(lambda: watching.execute(waiting).scalar() == 1)
        assert await one.events.after(seen, 9) == []
    await quick
    found = await one.events.after(seen, 9)
    assert [each.version for each in found] == [7, 1]
    assert found[0].seq < found[1].seq
    engines.dispose()
