"""What is known of a task while it is with its worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from fog_compute.coordinator.attempts import Doing, Stage
from fog_compute.tasks import TaskSpec, TaskState
from fog_compute.tasks.messages import Module, Reply, Request, Submit
from fog_compute.tasks.result import TaskResult

from .scripted import ScriptedWorker
from .test_dispatcher import reaches, running

pytestmark = pytest.mark.asyncio


async def test_a_task_is_sent_runs_and_is_received(tmp_path: Path) -> None:
    async with running(tmp_path) as fog:
        worker = fog.add_worker("a")
        seen: list[Stage | None] = []

        def look(_: ScriptedWorker, request: Request) -> Reply | None:
            if isinstance(request, Module):
                (order,) = next(one for one in worker.heard if isinstance(one, Submit)).orders
                seen.append(fog.coordinator._work.stage(order.handle.hex()))
            return None

        worker.answer = look
        module = await fog.store.blobs.put(b"m" * 50_000)
        data = await fog.store.blobs.put(b"d" * 70_000)
        made = await fog.coordinator.submit(TaskSpec(module=module, inputs={"d": data}))
        task = await reaches(fog, made, TaskState.RUNNING)
        assert [stage and (stage.doing, stage.total) for stage in seen] == [
            (Doing.SENDING, 120_000 + 2 * 28)
        ] * 2
        done = [stage.done for stage in seen if stage is not None]
        assert done == sorted(done)
        assert fog.coordinator.stage(task) == Stage(Doing.RUNNING)

        body = TaskResult(0, bytes(300_000), b"", 1, 2, 3)
        worker.finish(body)
        received: list[int] = []

        async def accepted() -> bool:
            task = await fog.store.tasks.get(made.id)
            stage = fog.coordinator.stage(task)
            if stage is not None and stage.doing is Doing.RECEIVING:
                assert stage.total == len(body.data)
                received.append(stage.done)
            return task.state is TaskState.ACCEPTED

        await fog.until(accepted)
        assert received == sorted(received)
        assert fog.coordinator.stage(await fog.store.tasks.get(made.id)) is None
