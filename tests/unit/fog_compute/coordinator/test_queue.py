"""The queue stays in the store: what is in memory, and in which order workers get tasks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import update

from fog_compute.errors import NotFound
from fog_compute.levels import PrivacyLevel
from fog_compute.store import Conflict, Leased, Store, schema
from fog_compute.tasks import Limits, Task, TaskSpec, TaskState, new_handle
from fog_compute.tasks.messages import Rejected, Reply, Request, Submit
from fog_compute.units import MIB
from tests.unit.fog_compute.coordinator.scripted import Fog, ScriptedWorker, open_fog
from tests.unit.fog_compute.coordinator.test_dispatcher import (
    MODULE,
    OK,
    create,
    reaches,
    running,
    why_waiting,
)

pytestmark = pytest.mark.asyncio


async def needing(fog: Fog, memory: int) -> Task:
    module = await fog.store.blobs.put(MODULE)
    return await fog.coordinator.submit(
        TaskSpec(module=module, limits=Limits(memory_bytes=memory, wall_s=9000))
    )


def in_memory(fog: Fog) -> int:
    return len(fog.coordinator._work.ledger.records)


def finish_all(fog: Fog) -> None:
    for worker in fog.workers:
        for handle in worker.attempts:
            if handle not in worker.results:
                worker.finish(OK, handle)


def lends(worker: ScriptedWorker, memory: int, fog: Fog) -> None:
    """Let a worker offer so much memory."""
    (mine,) = (offer for offer in fog.directory.offers if offer.name == worker.name)
    fog.directory.offers.remove(mine)
    fog.directory.offers.append(replace(mine, memory_bytes=memory))


async def test_memory_holds_the_tasks_that_workers_have_and_no_others(tmp_path: Path) -> None:
    """INV-TASK-63."""
    async with running(tmp_path) as fog:
        fog.add_worker("a", slots=3)
        tasks = [await create(fog, wall_s=9000) for _ in range(57)]
        most = 0

        async def all_over() -> bool:
            nonlocal most
            most = max(most, in_memory(fog))
            finish_all(fog)
            return (await fog.store.tasks.count_by_state())[TaskState.ACCEPTED] == len(tasks)

        await fog.until(all_over)

        assert 0 < most < len(tasks) / 2
        assert in_memory(fog) == 0
        leases = [(await fog.store.attempts.of_task(task.id))[0].created_at for task in tasks]
        assert leases == sorted(leases)


async def test_new_run_reads_what_workers_have_and_not_the_queue(tmp_path: Path) -> None:
    """INV-TASK-63."""
    async with running(tmp_path) as fog:
        fog.add_worker("a", slots=2)
        tasks = [await create(fog, wall_s=9000) for _ in range(23)]
        await reaches(fog, tasks[3], TaskState.RUNNING)
    again = await open_fog(tmp_path, clock=fog.clock)
    try:
        again.restart(fog)
        again.start()
        await again.until(lambda: in_memory(again) > 0)
        assert in_memory(again) == 4

        async def all_over() -> bool:
            finish_all(again)
            return (await again.store.tasks.count_by_state())[TaskState.ACCEPTED] == len(tasks)

        await again.until(all_over)
        for task in tasks:
            assert len(await again.store.attempts.of_task(task.id)) == 1
    finally:
        await again.stop()
        await again.store.close()


async def test_task_that_waits_in_the_store_can_be_cancelled(tmp_path: Path) -> None:
    async with running(tmp_path) as fog:
        task = await create(fog)

        cancelled = await fog.coordinator.cancel(task.id)

        assert cancelled.state is TaskState.CANCELLED
        fog.add_worker("a")
        await fog.passes(30)
        assert in_memory(fog) == 0
        with pytest.raises(NotFound):
            await fog.coordinator.circuit_of("0" * 26)


async def test_circuit_of_a_task_that_another_backend_runs_is_not_waited_for(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as fog:
        task = await create(fog)
        await fog.passes(3)
        await fog.store.apply([Leased(task.id, new_handle(), "w", "fog1a", fog.clock.now())])
        with fog.store._engines.writing.begin() as connection:
            connection.execute(update(schema.attempts).values(owner="another"))

        with pytest.raises(Conflict, match="is run by another backend: ask that one"):
            await fog.coordinator.circuit_of(task.id)


async def test_tasks_that_fit_nowhere_hold_up_nobody(tmp_path: Path) -> None:
    async with running(tmp_path) as fog:
        large = [await needing(fog, 2000 * MIB) for _ in range(40)]
        small = await needing(fog, 100 * MIB)
        fog.add_worker("a", slots=1)
        await reaches(fog, small, TaskState.RUNNING)

        assert (await why_waiting(fog, large[0])).startswith("no worker can take it: 1 with less")


async def test_task_that_its_worker_refused_holds_up_nobody_and_goes_to_the_next_at_once(
    tmp_path: Path,
) -> None:
    def refuse(worker: ScriptedWorker, request: Request) -> Reply | None:
        first = isinstance(request, Submit) and request.orders[0].argv == ("odd",)
        return Rejected("too odd") if first else None

    async with running(tmp_path) as fog:
        fog.add_worker("a", slots=1, answer=refuse)
        module = await fog.store.blobs.put(MODULE)
        odd = await fog.coordinator.submit(TaskSpec(module=module, argv=("odd",)))
        await fog.until(lambda: len(fog.workers[0].heard) > 0)
        plain = await create(fog)
        await reaches(fog, plain, TaskState.RUNNING)
        await fog.passes(200)  # by now it is looked at seldom
        begun = fog.clock.monotonic()
        fog.add_worker("b")
        await reaches(fog, odd, TaskState.RUNNING)

        assert fog.clock.monotonic() - begun < 2 * fog.tempo.worker_refresh_s


async def test_large_tasks_get_the_large_worker_as_soon_as_it_is_free(tmp_path: Path) -> None:
    async with running(tmp_path) as fog:
        large, small = fog.add_worker("large", slots=1), fog.add_worker("small", slots=3)
        lends(large, 3000 * MIB, fog)
        lends(small, 300 * MIB, fog)
        tasks = [await needing(fog, 2000 * MIB) for _ in range(9)]

        async def all_over() -> bool:
            finish_all(fog)
            return (await fog.store.tasks.count_by_state())[TaskState.ACCEPTED] == len(tasks)

        begun = fog.clock.monotonic()
        await fog.until(all_over)

        assert fog.clock.monotonic() - begun < 10
        assert not small.attempts


async def test_levels_have_queues_of_their_own(tmp_path: Path) -> None:
    async with running(tmp_path) as fog:
        fog.add_worker("a", slots=1)
        for _ in range(11):
            await create(fog, wall_s=9000)
        task = await create(fog, privacy=PrivacyLevel.PUBLIC)

        await reaches(fog, task, TaskState.RUNNING)


async def test_tasks_of_a_batch_are_leased_in_one_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits: list[int] = []
    apply = Store.apply

    async def counted(store: Store, changes: list[object]) -> object:
        commits.append(len(changes))
        return await apply(store, changes)  # type: ignore[arg-type]

    async with running(tmp_path) as fog:
        tasks = [await create(fog) for _ in range(5)]
        monkeypatch.setattr(Store, "apply", counted)
        fog.add_worker("a", slots=7)
        await reaches(fog, tasks[-1], TaskState.RUNNING)

    assert 4 <= max(commits) <= 5


async def test_idle_workers_of_strangers_hold_up_no_task(tmp_path: Path) -> None:
    """INV-TASK-106."""
    async with running(tmp_path) as fog:
        fog.add_worker("ours", slots=1)
        strangers = [fog.add_worker(f"stranger-{number}", slots=9) for number in range(5)]
        ours, *theirs = fog.directory.offers
        fog.directory.offers[:] = [ours, *(replace(one, groups=("ff" * 16,)) for one in theirs)]
        tasks = [await create(fog) for _ in range(30)]

        async def all_over() -> bool:
            finish_all(fog)
            return (await fog.store.tasks.count_by_state())[TaskState.ACCEPTED] == len(tasks)

        begun = fog.clock.monotonic()
        await fog.until(all_over)

        assert fog.clock.monotonic() - begun < 12
        assert not any(stranger.attempts for stranger in strangers)
