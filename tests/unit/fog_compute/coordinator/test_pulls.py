"""Large results come in many pieces at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from fog_compute.tasks import TaskResult, TaskState
from fog_compute.tasks.messages import FINISHED, AttemptStatus, Poll, Reply, Request, Status
from tests.unit.fog_compute.coordinator.scripted import ScriptedWorker
from tests.unit.fog_compute.coordinator.test_dispatcher import create, reaches, running

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize("loss", [0.0, 0.3])
async def test_a_large_result_comes_in_pieces_side_by_side(tmp_path: Path, loss: float) -> None:
    """INV-TASK-76."""
    large = TaskResult(0, bytes(range(256)) * 12_345, b"", 1, 1, 1)
    async with running(tmp_path) as fog:
        worker = fog.add_worker("a")
        task = await create(fog)
        await reaches(fog, task, TaskState.RUNNING)
        fog.network.loss = loss
        worker.finish(large)
        began = len(worker.heard)
        await reaches(fog, task, TaskState.ACCEPTED)

        stored = await fog.store.results.get(task.id)
        assert await stored.stdout() == large.stdout
        asked = [r.items[0].offset for r in worker.heard[began:] if isinstance(r, Poll) and r.items]
        if not loss:
            # 25 pieces; each once, but for those that the polls between them bring.
            assert len(asked) < 35
            assert len(set(asked)) == len(asked)


async def test_a_worker_that_brings_no_piece_that_it_promised_loses_the_task(
    tmp_path: Path,
) -> None:
    """INV-TASK-22."""

    def promise(worker: ScriptedWorker, request: Request) -> Reply | None:
        if isinstance(request, Poll) and request.items:
            return Status(
                tuple(
                    AttemptStatus(
                        i.handle, FINISHED, result_id=b"12345678", result_total=10**6, offset=10**6
                    )
                    for i in request.items
                )
            )
        return None

    async with running(tmp_path) as fog:
        fog.add_worker("a", answer=promise)
        task = await create(fog, max_attempts=1)
        failed = await reaches(fog, task, TaskState.FAILED)
        assert "fell silent" in failed.reason
