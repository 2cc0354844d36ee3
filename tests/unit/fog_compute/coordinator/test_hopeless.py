"""The hour after which a task is given up that no worker can take, over restarts and outages."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from fog_compute.coordinator.planner import HOPELESS
from fog_compute.levels import PrivacyLevel
from fog_compute.store import Need
from fog_compute.tasks import Limits, Task, TaskSpec, TaskState
from fog_compute.tasks.messages import Rejected, Reply, Request, Submit
from tests.unit.fog_compute.coordinator.scripted import Fog, ScriptedWorker, open_fog
from tests.unit.fog_compute.coordinator.test_dispatcher import MODULE, running

pytestmark = pytest.mark.asyncio


def refuse(worker: ScriptedWorker, request: Request) -> Reply | None:
    return Rejected("it lends no more than 60 s") if isinstance(request, Submit) else None


async def asked_for(fog: Fog, limits: Limits) -> Task:
    module = await fog.store.blobs.put(MODULE)
    return await fog.coordinator.submit(TaskSpec(module=module, limits=limits))


async def state_of(fog: Fog, task: Task) -> TaskState:
    return (await fog.store.tasks.get(task.id)).state


@pytest.mark.parametrize("refuses", [False, True])
async def test_hour_of_a_hopeless_task_goes_on_after_a_restart(
    tmp_path: Path, refuses: bool
) -> None:
    """INV-STORE-48."""
    limits = Limits() if refuses else Limits(memory_bytes=2**31)
    async with running(tmp_path) as fog:
        fog.add_worker("a", answer=refuse if refuses else None)
        task = await asked_for(fog, limits)
        await fog.until(lambda: fog.clock.monotonic() > 2000, step=1.0)
        later = await asked_for(fog, limits)
        await fog.until(lambda: fog.clock.monotonic() > 2200, step=1.0)
    await fog.clock.advance(9000)
    began = fog.clock.monotonic()
    again = await open_fog(tmp_path, clock=fog.clock)
    try:
        again.restart(fog)
        again.start()
        await again.until(lambda: again.clock.monotonic() > began + 1250, step=1.0)
        assert await state_of(again, task) is TaskState.QUEUED
        await again.until(lambda: again.clock.monotonic() > began + 1520, step=1.0)
        assert await state_of(again, task) is TaskState.FAILED
        assert await state_of(again, later) is TaskState.QUEUED
    finally:
        await again.stop()
        await again.store.close()


async def test_time_in_which_nobody_could_be_asked_is_no_part_of_the_hour(tmp_path: Path) -> None:
    """INV-STORE-48."""
    fog = await open_fog(tmp_path)
    try:
        queue, clock = fog.coordinator._work.queue, fog.clock
        need = Need(PrivacyLevel.SECRET, "", "wasm", 7)
        queue._hopeless[need] = since = clock.now()
        await clock.advance(900)
        for away_s in (200, 200, 50):  # all of them tell of the same time
            queue.leave_out(clock.now() - timedelta(seconds=away_s))
        assert queue._hopeless[need] - since == timedelta(seconds=200)
        await clock.advance(700)
        queue.leave_out(clock.now() - timedelta(seconds=77))

        assert queue._hopeless[need] - since == timedelta(seconds=277)
        assert queue._an_hour_ago(clock.now()) == clock.now() - HOPELESS - timedelta(seconds=277)
        await clock.advance(HOPELESS.total_seconds() - 30)
        assert queue._an_hour_ago(clock.now()) == clock.now() - HOPELESS - timedelta(seconds=77)
    finally:
        await fog.store.close()
