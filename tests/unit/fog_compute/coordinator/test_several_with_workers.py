"""Two backends, real workers and a Postgres that dies: each task is leased and accepted once."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Final
from unittest.mock import patch

import pytest

from fog_compute.coordinator.sessions import Tempo
from fog_compute.tasks import AttemptState, TaskSpec, TaskState
from fog_compute.testing import ManualClock, MemoryNetwork
from tests.postgres import PrivatePostgres
from tests.unit.fog_compute.coordinator.scripted import Fog, open_fog
from tests.unit.fog_compute.coordinator.test_with_workers import (
    LEVEL,
    MODULE,
    Runner,
    World,
    offer,
)

pytestmark = pytest.mark.asyncio

TASKS: Final = 100
TEMPO: Final = Tempo(lease_s=20, request_timeout_s=2.0, owner_lease_s=5.0)


async def opened(url: str, home: str, clock: ManualClock, network: MemoryNetwork) -> Fog:
    fog = await open_fog(Path(), tempo=TEMPO, clock=clock, network=network, database=url, home=home)
    fog.directory.offers.extend(offer(name) for name in ("w0", "w1"))
    fog.start()
    return fog


async def died(fog: Fog) -> None:
    await fog.stop()
    await fog.store.close()


async def accepted(fog: Fog) -> int:
    return (await fog.store.tasks.count_by_state())[TaskState.ACCEPTED]


async def submit(fog: Fog, first: int) -> dict[str, bytes]:
    blobs = fog.store.blobs
    module = await blobs.put(MODULE)
    texts = [b"input %d" % number for number in range(first, first + TASKS // 2)]
    tasks = await fog.coordinator.submit_batch(
        [
            TaskSpec(module=module, stdin=await blobs.put(text), privacy=LEVEL, max_attempts=100)
            for text in texts
        ]
    )
    return {task.id: text for task, text in zip(tasks, texts, strict=True)}


async def test_each_task_is_leased_and_accepted_once_whoever_dies(
    postgres: PrivatePostgres, postgres_url: str, tmp_path: Path
) -> None:
    """INV-STORE-22, INV-STORE-23, INV-STORE-24, INV-STORE-30."""
    rng, clock = Random(5), ManualClock()
    network = MemoryNetwork(Random(5), loss=0.02, duplication=0.1, clock=clock)

    def runner(folder: Path, *_: object) -> Runner:
        return Runner(folder, clock, rng)

    with patch("fog_compute.worker.slots.RunnerSlot", runner):
        one = await opened(postgres_url, "one", clock, network)
        other = await opened(postgres_url, "other", clock, network)
        world = World(tmp_path, clock, network, rng, one)
        for name in ("w0", "w1"):
            world.start_worker(name)
        try:
            wanted = await submit(one, 0) | await submit(other, TASKS // 2)

            async def came_to(count: int) -> bool:
                return await accepted(other) >= count

            await other.until(lambda: came_to(TASKS // 8))
            await died(one)
            await other.until(lambda: came_to(TASKS // 4))  # it took over, or goes on with its own
            one = await opened(postgres_url, "one", clock, network)
            await other.until(lambda: came_to(TASKS // 2))
            postgres.kill()
            await other.passes(2 * TEMPO.owner_lease_s)
            postgres.start()
            await other.until(lambda: came_to(TASKS))

            by: set[str | None] = set()
            for task_id, text in wanted.items():
                attempts = await one.store.attempts.of_task(task_id)
                states = [attempt.state for attempt in attempts]
                assert states.count(AttemptState.SETTLED) == 1
                assert all(a.updated_at <= b.created_at for a, b in pairwise(attempts))
                assert await (await one.store.results.get(task_id)).stdout() == text
                by |= {attempt.owner for attempt in attempts}
            history = await one.store.events.after(0, 100 * TASKS)
            ends = [event.task_id for event in history if event.state is TaskState.ACCEPTED]
            assert sorted(ends) == sorted(wanted)
            assert len(by) >= 3  # both, and the one that came back
            await other.until(world.idle)
        finally:
            for serving in world.serving.values():
                serving.cancel()
            await asyncio.gather(*world.serving.values(), return_exceptions=True)
            await died(one)
            await died(other)
