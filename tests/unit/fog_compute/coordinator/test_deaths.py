"""A coordinator dies before it has said to its workers what they may forget; the next one does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fog_compute.errors import StoreError
from fog_compute.levels import PrivacyLevel
from fog_compute.store.tasks import Tasks
from fog_compute.tasks import Task, TaskState
from tests.unit.fog_compute.coordinator.scripted import Fog, open_fog
from tests.unit.fog_compute.coordinator.test_dispatcher import OK, create, reaches, running

pytestmark = pytest.mark.asyncio

LONG_AGO_S = 1800.0


@asynccontextmanager
async def another_life(dead: Fog, folder: Path) -> AsyncIterator[Fog]:
    """The next run of a coordinator that has died, with the same store and workers."""
    await dead.stop()
    await dead.store.close()
    fog = await open_fog(folder, clock=dead.clock)
    fog.restart(dead)
    fog.start()
    try:
        yield fog
    finally:
        await fog.stop()
        await fog.store.close()


async def begun(fog: Fog, level: PrivacyLevel) -> tuple[Task, bytes]:
    """A task that runs, and the handle that its worker has."""
    known = set(fog.workers[0].attempts)
    task = await create(fog, privacy=level)
    await reaches(fog, task, TaskState.RUNNING)
    (handle,) = set(fog.workers[0].attempts) - known
    return task, handle


@pytest.mark.parametrize("level", [PrivacyLevel.PRIVATE, PrivacyLevel.SECRET])
async def test_a_worker_hears_of_an_end_that_the_run_before_did_not_tell(
    tmp_path: Path, level: PrivacyLevel
) -> None:
    """INV-TASK-137."""
    async with running(tmp_path) as fog:
        worker = fog.add_worker("a", slots=3)
        task, accepted = await begun(fog, level)
        worker.finish(OK, accepted)
        await reaches(fog, task, TaskState.ACCEPTED)
        other, cancelled = await begun(fog, level)
        await fog.until(lambda: accepted in worker.forgotten)
        last, untold = await begun(fog, level)
        worker.finish(OK, untold)
        await reaches(fog, last, TaskState.ACCEPTED)
        await fog.coordinator.cancel(other.id)
        assert {cancelled, untold}.isdisjoint(worker.forgotten)

        async with another_life(fog, tmp_path) as again:
            await again.until(lambda: {cancelled, untold} <= worker.forgotten)
            if level is PrivacyLevel.SECRET:  # where a session is over with its attempt
                pool = again.onion.circuit_pools[level]
                await again.until(lambda: not pool.sessions)


async def test_of_what_ended_long_ago_nothing_is_said_again(tmp_path: Path) -> None:
    """INV-TASK-137."""
    async with running(tmp_path) as fog:
        worker = fog.add_worker("a")
        task, handle = await begun(fog, PrivacyLevel.PRIVATE)
        worker.finish(OK, handle)
        await reaches(fog, task, TaskState.ACCEPTED)
        await fog.until(lambda: handle in worker.forgotten)
        await fog.passes(LONG_AGO_S)
        worker.forgotten.clear()

        async with another_life(fog, tmp_path) as again:
            await again.passes(LONG_AGO_S)
            assert worker.forgotten == set()


async def test_what_a_worker_has_is_counted_once_however_often_the_store_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, refusals = Tasks.ended_since, [StoreError("the disk is away")] * 3

    async def refused_at_first(*args: Any) -> Sequence[Task]:
        if refusals:
            raise refusals.pop()
        return await read(*args)

    async with running(tmp_path) as fog:
        fog.add_worker("a")
        await begun(fog, PrivacyLevel.PRIVATE)
        monkeypatch.setattr(Tasks, "ended_since", refused_at_first)
        async with another_life(fog, tmp_path) as again:
            await again.until(lambda: bool(again.fog.workers()) and not refusals)
            await again.passes(10)
            assert [worker.leased for worker in again.fog.workers()] == [1]
