"""A module at fault, and what a running task writes, over a dispatcher with scripted workers."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from fog_compute.tasks import AttemptState, Fault, TaskResult, TaskState
from fog_compute.tasks.messages import RUNNING, AttemptStatus, Poll, Reply, Request, Status
from fog_compute.tasks.receipt import Signer
from tests.unit.fog_compute.coordinator.scripted import ScriptedWorker
from tests.unit.fog_compute.coordinator.test_dispatcher import (
    OK,
    attempt_states,
    create,
    reaches,
    running,
)

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize("fault", Fault)
async def test_module_at_fault_fails_the_task_once_two_attempts_said_so(
    tmp_path: Path, fault: Fault
) -> None:
    """INV-TASK-75: by two workers where there are two, else by the one."""
    broken = TaskResult(1, b"", b"", 1, 1, 1, fault=fault, detail="line one\nline two")
    for names, says in (("ab", "a second worker says so too"), ("a", "the same worker said so")):
        async with running(tmp_path / names) as fog:
            workers = [fog.add_worker(name) for name in names]
            task = await create(fog)
            for _ in range(2):
                await fog.until(partial(any_unfinished, workers))
                next(w for w in workers if any_unfinished([w])).finish(broken)
            failed = await reaches(fog, task, TaskState.FAILED)

            assert "line one line two" in failed.reason
            assert says in failed.reason
            assert "\n" not in failed.reason
            assert await attempt_states(fog, task) == [AttemptState.FAILED] * 2
            assert {len(w.attempts) for w in workers} == {2 // len(workers)}
            assert (await fog.store.results.get(task.id)).head.fault is fault


def any_unfinished(workers: list[ScriptedWorker]) -> bool:
    return any(len(worker.attempts) > len(worker.results) for worker in workers)


async def test_worker_that_claims_a_fault_does_not_end_a_task_that_another_can_do(
    tmp_path: Path,
) -> None:
    """INV-TASK-75, INV-TASK-120."""
    async with running(tmp_path) as fog:
        liar = fog.add_worker("a")
        task = await create(fog)
        await fog.until(lambda: len(liar.attempts) == 1)
        honest = fog.add_worker("b")
        await fog.until(lambda: len(fog.fog.workers()) == 2)
        liar.finish(TaskResult(-1, b"", b"", 1, 1, 1, fault=Fault.TRAP, detail="so bad"))
        await fog.until(lambda: len(honest.attempts) == 1)
        honest.finish(OK)
        await reaches(fog, task, TaskState.ACCEPTED)

        states = await attempt_states(fog, task)
        assert states == [AttemptState.FAILED, AttemptState.SETTLED]
        await fog.until(lambda: {w.name: w.doubt for w in fog.fog.workers()} == {"a": 1, "b": 0})
        assert (await fog.store.results.get(task.id)).head == OK.head


async def test_what_a_running_task_writes_is_kept_until_it_ends(tmp_path: Path) -> None:
    def writes(worker: ScriptedWorker, request: Request) -> Reply | None:
        if isinstance(request, Poll) and not worker.results:
            tail = b"line %d" % len(worker.heard)
            return Status(tuple(AttemptStatus(i.handle, RUNNING, tail) for i in request.items))
        return None

    async with running(tmp_path) as fog:
        worker = fog.add_worker("a", answer=writes)
        task = await create(fog)
        await reaches(fog, task, TaskState.RUNNING)
        assert fog.coordinator.log_tail(task) == b""  # as it was before it ran

        async def wrote() -> bool:
            now = await fog.store.tasks.get(task.id)
            return fog.coordinator.log_tail(now) == b"line %d" % len(worker.heard)

        await fog.until(wrote)
        await fog.until(wrote)
        worker.finish(OK)
        done = await reaches(fog, task, TaskState.ACCEPTED)
        assert fog.coordinator.log_tail(done) == b""


@pytest.mark.parametrize("forged", [b"", bytes(96), None])
async def test_a_forged_receipt_is_a_loss(tmp_path: Path, forged: bytes | None) -> None:
    """INV-TASK-77: none at all, one that does not verify, and one by a new key."""
    async with running(tmp_path) as fog:
        forger = fog.add_worker("a")
        first = await create(fog)
        await reaches(fog, first, TaskState.RUNNING)
        forger.finish(OK)
        await reaches(fog, first, TaskState.ACCEPTED)
        stored = await fog.store.results.get(first.id)
        assert stored.receipt[:32] == forger.signer.public

        task = await create(fog)
        await fog.until(lambda: len(forger.attempts) == 2)
        other = Signer(b"o" * 32)
        forger.receipt = (  # type: ignore[method-assign]
            lambda handle, body: other.sign(handle, OK) if forged is None else forged
        )
        honest = fog.add_worker("b")
        await fog.until(lambda: len(fog.fog.workers()) == 2)
        forger.finish(OK)
        await fog.until(lambda: len(honest.attempts) == 1)
        honest.finish(OK)
        await reaches(fog, task, TaskState.ACCEPTED)

        assert await attempt_states(fog, task) == [AttemptState.LOST, AttemptState.SETTLED]
        (lost, _) = await fog.store.attempts.of_task(task.id)
        assert "receipt" in lost.reason
        assert (await fog.store.results.get(task.id)).receipt[:32] == honest.signer.public
