"""Commits whose outcome nobody knows, and a store that is away: memory follows what was written."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from fog_compute.coordinator.sessions import Tempo
from fog_compute.errors import StoreError
from fog_compute.store.changes import Leased
from fog_compute.tasks import AttemptState, TaskState
from tests.unit.fog_compute.coordinator.scripted import Fog
from tests.unit.fog_compute.coordinator.test_dispatcher import (
    OK,
    attempt_states,
    create,
    reaches,
    running,
    why_waiting,
)

pytestmark = pytest.mark.asyncio

Commit = Callable[[], Awaitable[Any]]
Wrapped = Callable[[Commit, tuple[Any, ...]], Awaitable[Any]]


async def around_commits(fog: Fog, wrapped: Wrapped) -> None:
    """Have each commit from now on done by ``wrapped``, which is given what is committed."""
    await fog.until(lambda: bool(fog.fog.workers()))  # what an earlier run left is taken over
    writer = fog.store._writer
    commit = writer.apply

    async def apply(*args: Any, **more: Any) -> Any:
        return await wrapped(lambda: commit(*args, **more), (*args, *more.values()))

    writer.apply = apply  # type: ignore[method-assign]


def leases(what: tuple[Any, ...]) -> bool:
    return any(isinstance(one, Leased) for one in what[0])


async def test_lease_that_was_committed_before_the_error_is_carried_out(tmp_path: Path) -> None:
    """INV-TASK-60."""
    failed = 0

    async def after(commit: Commit, what: tuple[Any, ...]) -> Any:
        nonlocal failed
        done = await commit()
        if leases(what) and not failed:
            failed += 1
            raise StoreError("the disk went away after the commit")
        return done

    async with running(tmp_path) as fog:
        worker = fog.add_worker("a")
        await around_commits(fog, after)
        task = await create(fog)
        await reaches(fog, task, TaskState.RUNNING)
        worker.finish(OK)
        await reaches(fog, task, TaskState.ACCEPTED)

        assert failed == 1
        assert await attempt_states(fog, task) == [AttemptState.SETTLED]
        assert fog.coordinator.trouble == ""


async def test_task_that_was_committed_before_the_error_is_carried_out(tmp_path: Path) -> None:
    """INV-TASK-60."""
    failed = 0

    async def after(commit: Commit, what: tuple[Any, ...]) -> Any:
        nonlocal failed
        done = await commit()
        if not failed:
            failed += 1
            raise StoreError("the disk went away after the commit")
        return done

    async with running(tmp_path) as fog:
        worker = fog.add_worker("a")
        await around_commits(fog, after)
        with pytest.raises(StoreError, match="after the commit"):
            await create(fog)
        (task,) = await fog.store.tasks.list()
        await reaches(fog, task, TaskState.RUNNING)
        worker.finish(OK)
        await reaches(fog, task, TaskState.ACCEPTED)


async def test_whoever_stops_waiting_for_a_change_leaves_it_whole(tmp_path: Path) -> None:
    """INV-TASK-60."""
    committed, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(commit: Commit, what: tuple[Any, ...]) -> Any:
        done = await commit()
        committed.set()
        await go_on.wait()
        return done

    async with running(tmp_path) as fog:
        worker = fog.add_worker("a")
        task = await create(fog)
        await reaches(fog, task, TaskState.RUNNING)
        await around_commits(fog, slowly)
        asked = asyncio.create_task(fog.coordinator.cancel(task.id))
        await committed.wait()
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        go_on.set()
        await fog.until(lambda: bool(worker.forgotten))

        assert (await fog.store.tasks.get(task.id)).state is TaskState.CANCELLED


@pytest.mark.parametrize("seed", range(6))
async def test_errors_around_any_commit_lose_no_task_and_accept_each_once(
    tmp_path: Path, seed: int
) -> None:
    """INV-TASK-60."""
    draw = Random(seed)
    failures = 0

    async def sometimes(commit: Commit, what: tuple[Any, ...]) -> Any:
        nonlocal failures
        where = draw.random()
        if where < 0.15:
            failures += 1
            raise StoreError("before the commit")
        done = await commit()
        if where < 0.3:
            failures += 1
            raise StoreError("after the commit")
        return done

    async with running(tmp_path) as fog:
        workers = [fog.add_worker(name, slots=3) for name in "ab"]
        await around_commits(fog, sometimes)
        for _ in range(7):
            try:
                await create(fog, max_attempts=1)
            except StoreError:
                continue

        async def all_over() -> bool:
            for worker in workers:
                for handle in worker.attempts:
                    if handle not in worker.results:
                        worker.finish(OK, handle)
            return all(task.state.final for task in await fog.store.tasks.list(limit=1000))

        await fog.until(all_over)

        assert failures >= 3
        tasks = await fog.store.tasks.list()
        assert tasks
        for task in tasks:
            assert task.state is TaskState.ACCEPTED
            assert task.tries == 0
            assert (await attempt_states(fog, task)).count(AttemptState.SETTLED) == 1
        handles = [order.handle for w in workers for order in w.orders]
        assert len(handles) >= len(tasks)


@pytest.mark.parametrize("away_s", [17.0, 45.0, 333.0])
@pytest.mark.parametrize("how", ["refuses", "hangs"])
async def test_store_that_was_away_makes_no_worker_fall_silent(
    tmp_path: Path, away_s: float, how: str
) -> None:
    """INV-TASK-61."""
    away, back = False, asyncio.Event()

    async def apply(commit: Commit, what: tuple[Any, ...]) -> Any:
        if away and how == "refuses":
            raise StoreError("the disk is away")
        if away:
            await back.wait()
        return await commit()

    tempo = Tempo(lease_s=13, request_timeout_s=0.7, poll_max_s=3)
    async with running(tmp_path, tempo=tempo) as fog:
        worker = fog.add_worker("a", slots=4)
        tasks = [await create(fog, max_attempts=1, wall_s=9000) for _ in range(3)]
        for task in tasks:
            await reaches(fog, task, TaskState.RUNNING)
        await around_commits(fog, apply)
        fog.store.touch = lambda: apply(lambda: asyncio.sleep(0), ())  # type: ignore[method-assign]

        away = True
        worker.finish(OK)  # which is to be written
        await fog.passes(away_s)
        assert ("disk is away" if how == "refuses" else "database") in fog.coordinator.trouble
        away = False
        back.set()
        await fog.passes(60)
        for handle in worker.attempts.keys() - worker.results.keys():
            worker.finish(OK, handle)
        for task in tasks:
            await reaches(fog, task, TaskState.ACCEPTED)

        for task in tasks:
            assert await attempt_states(fog, task) == [AttemptState.SETTLED]
        assert fog.coordinator.trouble == ""


@pytest.mark.parametrize(("takes_s", "renewed"), [(2.5, False), (6.4, False), (6.6, True)])
async def test_write_that_was_only_slow_makes_no_lease_longer(
    tmp_path: Path, takes_s: float, *, renewed: bool
) -> None:
    """INV-TASK-123: else nobody would ever fall silent where each write takes a while."""
    async with running(tmp_path, tempo=Tempo(lease_s=13)) as fog:
        fog.add_worker("a")
        task = await create(fog)
        await reaches(fog, task, TaskState.RUNNING)
        work = fog.coordinator._work
        record = work.ledger.of_task(task.id)
        assert record is not None
        until = record.lease_until = record.lease_until - timedelta(seconds=1)

        work.store_found(timedelta(seconds=takes_s))

        assert (record.lease_until > until) == renewed


@pytest.mark.parametrize(
    "error", [StoreError("the blobs cannot be used"), PermissionError("no"), ValueError("odd")]
)
async def test_sweep_that_fails_is_shown_and_tried_again(tmp_path: Path, error: Exception) -> None:
    """INV-TASK-62."""
    tries = 0

    async def sweep() -> None:
        nonlocal tries
        tries += 1
        if tries < 4:
            # A new one each time: one that is raised again keeps the frames of all times before,
            # also of other tests, and its traceback is printed with what they hold.
            raise type(error)(*error.args)

    async with running(tmp_path) as fog:
        fog.store.sweep = sweep  # type: ignore[method-assign,assignment]
        worker = fog.add_worker("a")
        task = await create(fog, wall_s=9000)
        await fog.until(lambda: tries > 1)
        assert "cannot be tidied up" in fog.coordinator.trouble
        await reaches(fog, task, TaskState.RUNNING)
        assert (await why_waiting(fog, task)) == ""
        await fog.until(lambda: fog.coordinator.trouble == "")

        worker.finish(OK)
        await reaches(fog, task, TaskState.ACCEPTED)


async def test_unexpected_error_of_a_plan_is_shown_and_ends_nothing(tmp_path: Path) -> None:
    """INV-TASK-62."""
    async with running(tmp_path) as fog:
        worker = fog.add_worker("a")
        await fog.until(lambda: bool(fog.fog.workers()))
        place, fog.fog.select_node = fog.fog.select_node, None  # type: ignore[method-assign,assignment]
        task = await create(fog)
        await fog.until(lambda: "TypeError" in fog.coordinator.trouble)
        fog.fog.select_node = place  # type: ignore[method-assign]
        await reaches(fog, task, TaskState.RUNNING)
        worker.finish(OK)
        await reaches(fog, task, TaskState.ACCEPTED)

        assert fog.coordinator.trouble == ""
