"""Several backends on one Postgres, on a virtual clock: who acts, who takes over, who is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Final

import pytest

from fog_compute.coordinator.sessions import Tempo
from fog_compute.levels import PrivacyLevel
from fog_compute.tasks import Task, TaskSpec, TaskState
from fog_compute.testing import ManualClock, MemoryNetwork
from fog_compute.units import GIB
from tests.unit.fog_compute.coordinator.scripted import Fog, ScriptedWorker, open_fog
from tests.unit.fog_compute.coordinator.test_dispatcher import MODULE, OK, create, reaches

pytestmark = pytest.mark.asyncio

OWNER_LEASE_S: Final = 5.0
TEMPO: Final = Tempo(lease_s=20, request_timeout_s=1.0, owner_lease_s=OWNER_LEASE_S)


class Several:
    """Backends with the same workers, clock and network, each with a home of its own."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder
        self.clock = ManualClock()
        self.network = MemoryNetwork(Random(1), clock=self.clock)
        self.fogs: list[Fog] = []
        self.workers: list[ScriptedWorker] = []
        self.jobs: list[asyncio.Task[None]] = []

    def add_worker(self, name: str, slots: int = 2) -> ScriptedWorker:
        """One whom the backends that are opened from now on know."""
        worker = ScriptedWorker(name, self.network.channel(f"worker-{name}"), slots)
        self.workers.append(worker)
        self.jobs.append(asyncio.create_task(worker.run()))
        return worker

    async def open(self, home: str) -> Fog:
        fog = await open_fog(
            self.folder,
            tempo=TEMPO,
            clock=self.clock,
            network=self.network,
            database=self.url,
            home=home,
        )
        fog.directory.offers.extend(worker.offer for worker in self.workers)
        self.fogs.append(fog)
        return fog

    async def die(self, fog: Fog) -> None:
        """End one as a kill does: nothing is written any more."""
        self.fogs.remove(fog)
        await fog.stop()
        await fog.store.close()

    async def close(self) -> None:
        for fog in list(self.fogs):
            await self.die(fog)
        for job in self.jobs:
            job.cancel()
        await asyncio.gather(*self.jobs, return_exceptions=True)


@asynccontextmanager
async def several(url: str, folder: Path) -> AsyncIterator[Several]:
    made = Several(url, folder)
    try:
        yield made
    finally:
        await made.close()


async def acts(fog: Fog) -> None:
    ownership = fog.coordinator._dispatcher.ownership
    assert ownership is not None
    await fog.until(lambda: ownership.acts and bool(fog.fog.workers()))


async def begun(fog: Fog) -> Task:
    return await reaches(fog, await create(fog), TaskState.RUNNING)


async def owner_of(fog: Fog, task: Task) -> str | None:
    (attempt,) = await fog.store.attempts.of_task(task.id)
    return attempt.owner


async def test_a_task_is_cancelled_through_a_backend_that_does_not_own_it(
    postgres_url: str, tmp_path: Path
) -> None:
    """INV-STORE-25, INV-STORE-27."""
    async with several(postgres_url, tmp_path) as made:
        worker = made.add_worker("a")
        one, other = await made.open("one"), await made.open("other")
        one.start()
        await acts(one)
        task = await begun(one)
        other.start()
        await acts(other)
        follows = asyncio.create_task(other.coordinator.follow(task.id, task.version, 1e6))

        await other.coordinator.cancel(task.id)

        (handle,) = worker.attempts
        await one.until(lambda: handle in worker.forgotten)
        assert (await follows).state is TaskState.CANCELLED
        assert not one.coordinator._work.ledger.records
        # And the next is taken by whoever has room for it, whoever was asked.
        created = await create(other)
        await reaches(one, created, TaskState.RUNNING)


async def test_what_a_dead_backend_had_another_brings_to_its_end(
    postgres_url: str, tmp_path: Path
) -> None:
    """INV-STORE-22, INV-STORE-26."""
    async with several(postgres_url, tmp_path) as made:
        worker = made.add_worker("a", slots=3)
        one, other = await made.open("one"), await made.open("other")
        one.start()
        await acts(one)
        finished, running = await begun(one), await begun(one)
        dead = await owner_of(one, running)
        await made.die(one)
        other.start()
        worker.finish(OK, bytes.fromhex(finished.attempt or ""))
        await acts(other)
        await other.passes(0.8 * OWNER_LEASE_S)
        assert await owner_of(other, running) == dead
        await reaches(other, finished, TaskState.ACCEPTED)
        worker.finish(OK, bytes.fromhex(running.attempt or ""))
        await reaches(other, running, TaskState.ACCEPTED)
        for task in (finished, running):
            assert await owner_of(other, task) == other.store.owner


async def test_what_a_backend_claimed_and_left_another_gives_to_a_worker(
    postgres_url: str, tmp_path: Path
) -> None:
    """INV-STORE-23: nothing is told of it, and no other task comes."""
    async with several(postgres_url, tmp_path) as made:
        made.add_worker("a")
        one, other = await made.open("one"), await made.open("other")
        assert one.store.backends is not None
        await one.store.backends.join(["lab"])
        other.start()
        await acts(other)
        module = await one.store.blobs.put(MODULE)
        spec = TaskSpec(module=module, privacy=PrivacyLevel.PRIVATE, group="lab")
        waiting = other.coordinator._work.queue._served
        await other.until(lambda: PrivacyLevel.PRIVATE in waiting)
        task = await one.store.tasks.create(spec)
        room = {("lab", "wasm"): GIB}
        assert await one.store.tasks.claim(PrivacyLevel.PRIVATE, room, task.created_at, 9)
        await other.passes(0.5 * OWNER_LEASE_S)
        assert (await other.store.tasks.get(task.id)).state is TaskState.QUEUED
        await reaches(other, task, TaskState.RUNNING)  # after it was taken for dead
