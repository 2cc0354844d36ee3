"""What tasks and workers come to is counted when it happens, once, under its own name."""

from __future__ import annotations

from pathlib import Path

import pytest

from fog_compute.coordinator.sessions import Tempo
from fog_compute.observability.metrics import BackendMetrics
from fog_compute.tasks import Fault, TaskResult, TaskState
from fog_compute.tasks.messages import (
    LOST,
    RETURNED,
    AttemptStatus,
    Poll,
    Reply,
    Request,
    Status,
)
from tests.unit.fog_compute.coordinator.scripted import ScriptedWorker
from tests.unit.fog_compute.coordinator.test_dispatcher import OK, create, reaches, running

pytestmark = pytest.mark.asyncio

KILLS = {
    Fault.TIMEOUT: "timeout",
    Fault.OUT_OF_MEMORY: "out_of_memory",
    Fault.OUTPUT_LIMIT: "output_limit",
    Fault.SCRATCH_LIMIT: "scratch_limit",
}


class Counted:
    """The series of one metric, by the value of a label."""

    def __init__(self, metrics: BackendMetrics, name: str, label: str, **others: str) -> None:
        self._registry = metrics.registry
        self._name = name
        self._others = others
        self._label = label
        family = next(
            one
            for one in metrics.registry.families()
            if one.name in (name, name.removesuffix("_count"))
        )
        self._values = family.labels[label]

    def now(self) -> dict[str, float]:
        """What is not zero."""
        found = {
            each: self._registry.value(self._name, **{self._label: each}, **self._others) or 0
            for each in self._values
        }
        return {each: value for each, value in found.items() if value}


async def test_each_end_of_an_attempt_and_of_a_task_is_counted_by_its_name(tmp_path: Path) -> None:
    """fog_attempts_total, fog_task_duration_seconds, fog_worker_losses_total."""
    metrics = BackendMetrics()
    attempts = Counted(metrics, "fog_attempts_total", "outcome")
    tasks = Counted(metrics, "fog_task_duration_seconds_count", "state", privacy="private")
    says: str | None = None

    def losses(level: str) -> float | None:
        return metrics.registry.value("fog_worker_losses_total", privacy=level)

    def script(_: ScriptedWorker, request: Request) -> Reply | None:
        if says is None or not isinstance(request, Poll):
            return None
        return Status(tuple(AttemptStatus(item.handle, says) for item in request.items))

    tempo = Tempo(lease_s=5, request_timeout_s=0.05)
    async with running(tmp_path, metrics=metrics, tempo=tempo) as fog:
        worker = fog.add_worker("a", answer=script)
        task = await create(fog)
        await reaches(fog, task, TaskState.RUNNING)
        worker.finish(OK)
        await reaches(fog, task, TaskState.ACCEPTED)
        assert (attempts.now(), tasks.now()) == ({"accepted": 1}, {"accepted": 1})

        task = await create(fog, max_attempts=1)
        await reaches(fog, task, TaskState.RUNNING)
        says = LOST
        await reaches(fog, task, TaskState.FAILED)
        assert attempts.now() == {"accepted": 1, "lost": 1}
        assert tasks.now() == {"accepted": 1, "failed": 1}

        says = None
        task = await create(fog)
        await reaches(fog, task, TaskState.RUNNING)
        await fog.coordinator.cancel(task.id)
        assert attempts.now() == {"accepted": 1, "lost": 1, "cancelled": 1}
        assert tasks.now() == {"accepted": 1, "failed": 1, "cancelled": 1}

        task = await create(fog)
        await reaches(fog, task, TaskState.RUNNING)
        says = RETURNED
        await fog.until(lambda: "declined" in attempts.now())
        says = None
        await reaches(fog, task, TaskState.RUNNING)
        assert losses("private") == 0
        worker.silent = True
        await fog.until(lambda: "expired" in attempts.now())
        assert losses("private") == 1
        assert attempts.now() == {
            "accepted": 1, "lost": 1, "cancelled": 1, "declined": 1, "expired": 1,
        }  # fmt: skip
        known = len(worker.attempts)
        worker.silent = False
        await fog.until(lambda: len(worker.attempts) > known)  # it is heard again
        worker.silent = True
        await fog.until(lambda: losses("private") == 2)
        assert losses("public") == 0  # nobody asked it there


async def test_each_limit_that_ends_a_runner_is_counted_by_its_name(tmp_path: Path) -> None:
    """fog_runner_kills_total, and fog_attempts_total for what fails."""
    metrics = BackendMetrics()
    kills = Counted(metrics, "fog_runner_kills_total", "reason")
    seen: dict[str, float] = {}
    async with running(tmp_path, metrics=metrics) as fog:
        worker = fog.add_worker("a")
        for fault in (Fault.TRAP, *KILLS):
            task = await create(fog)
            for _ in range(2):
                await fog.until(lambda: len(worker.attempts) > len(worker.results))
                worker.finish(TaskResult(1, b"", b"", 1, 1, 1, fault=fault, detail="so"))
            await reaches(fog, task, TaskState.FAILED)
            if fault in KILLS:
                seen[KILLS[fault]] = 2  # two attempts said so
            assert kills.now() == seen, fault
    assert metrics.registry.value("fog_attempts_total", outcome="failed") == 2 + 2 * len(KILLS)
    assert seen.keys() == set(KILLS.values())
