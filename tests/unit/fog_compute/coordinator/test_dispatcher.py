"""The dispatcher against scripted workers: every way in which a task can end, or go wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from fog_compute.coordinator.fog import FogCoordinator
from fog_compute.coordinator.membership import MemberDirectory
from fog_compute.coordinator.placement import WorkerState
from fog_compute.coordinator.registry import WorkerRegistry
from fog_compute.coordinator.routes import FogOnionCoordinator
from fog_compute.coordinator.sessions import Tempo
from fog_compute.errors import NotFound
from fog_compute.levels import PrivacyLevel
from fog_compute.store import Cancelled, Conflict
from fog_compute.tasks import (
    AttemptState,
    Limits,
    Task,
    TaskResult,
    TaskSpec,
    TaskState,
    seed_of,
)
from fog_compute.tasks.messages import (
    FINISHED,
    LOST,
    QUEUED,
    RETURNED,
    RUNNING,
    Accepted,
    Ack,
    AttemptStatus,
    Busy,
    Cancel,
    Module,
    NeedModule,
    Poll,
    Rejected,
    Reply,
    Request,
    Status,
    Submit,
)
from fog_compute.tasks.sealing import OVERHEAD
from fog_compute.vpn.onion import OnionCircuitService
from tests.members import MEMBERS
from tests.unit.fog_compute.coordinator.scripted import Channels, Fog, ScriptedWorker, open_fog

pytestmark = pytest.mark.asyncio

OK = TaskResult(0, b"out", b"err", 10, 5, 65536)
MODULE = b"\0asm" + bytes(100)


@asynccontextmanager
async def running(folder: Path, **more: object) -> AsyncIterator[Fog]:
    fog = await open_fog(folder, **more)  # type: ignore[arg-type]  # keywords of open_fog
    fog.start()
    try:
        yield fog
    finally:
        await fog.stop()
        await fog.store.close()


async def create(
    fog: Fog,
    *,
    module: bytes = MODULE,
    privacy: PrivacyLevel = PrivacyLevel.PRIVATE,
    max_attempts: int = 3,
    wall_s: float = 60.0,
) -> Task:
    sha256 = await fog.store.blobs.put(module)
    limits = Limits(wall_s=wall_s)
    return await fog.coordinator.submit(
        TaskSpec(module=sha256, privacy=privacy, max_attempts=max_attempts, limits=limits)
    )


async def reaches(fog: Fog, task: Task, state: TaskState) -> Task:
    async def met() -> bool:
        return (await fog.store.tasks.get(task.id)).state is state

    await fog.until(met)
    return await fog.store.tasks.get(task.id)


async def why_waiting(fog: Fog, task: Task) -> str:
    attempts = await fog.store.attempts.of_task(task.id)
    return fog.coordinator.waiting_reason(await fog.store.tasks.get(task.id), attempts)


def waits_because(fog: Fog, task: Task, text: str) -> Callable[[], Awaitable[bool]]:
    """Whether a task waits for a reason, as a question to ask again and again."""

    async def met() -> bool:
        return text in await why_waiting(fog, task)

    return met


async def attempt_states(fog: Fog, task: Task) -> list[AttemptState]:
    return [attempt.state for attempt in await fog.store.attempts.of_task(task.id)]


async def test_task_is_accepted_with_its_result(tmp_path: Path) -> None:
    async with running(tmp_path) as fog:
        worker = fog.add_worker("a")
        task = await create(fog)
        await reaches(fog, task, TaskState.RUNNING)

        worker.finish(OK)
        await reaches(fog, task, TaskState.ACCEPTED)

        assert (await fog.store.results.get(task.id)).head == OK.head
        assert await attempt_states(fog, task) == [AttemptState.SETTLED]


async def test_environment_and_seed_reach_the_worker_and_every_attempt_has_the_same(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as fog:
        worker = fog.add_worker("a")
        module = await fog.store.blobs.put(MODULE)
        given = await fog.coordinator.submit(
            TaskSpec(module=module, env={"K": "v"}, seed="5e" * 32)
        )
        by_id = await fog.coordinator.submit(TaskSpec(module=module))
        for task in (given, by_id):
            await reaches(fog, task, TaskState.RUNNING)

        worker.forget_all()
        await fog.until(lambda: len(worker.attempts) == 2)

        sent = {(one.seed, tuple(one.env.items())) for one in worker.orders}
        assert sent == {
            (bytes.fromhex("5e" * 32), (("K", "v"),)),
            (bytes.fromhex(seed_of(by_id.id)), ()),
        }


async def test_history_keeps_why_the_worker_was_chosen(tmp_path: Path) -> None:
    async with running(tmp_path) as fog:
        fog.add_worker("a")
        task = await create(fog)
        await reaches(fog, task, TaskState.RUNNING)

        history = await fog.store.events.history(task.id)

        leased = next(event for event in history if event.state is TaskState.LEASED)
        assert leased.reason.startswith("a by affinity among 1")


async def test_worker_hears_that_it_may_forget(tmp_path: Path) -> None:
    async with running(tmp_path) as fog:
        worker = fog.add_worker("a")
        task = await create(fog)
        await reaches(fog, task, TaskState.RUNNING)
        handle = next(iter(worker.attempts))

        worker.finish(OK)
        await fog.until(lambda: handle in worker.forgotten)

        assert any(isinstance(request, Ack) for request in worker.heard)


async def test_result_larger_than_one_answer_comes_in_pieces(tmp_path: Path) -> None:
    large = TaskResult(0, bytes(range(256)) * 800, b"", 1, 1, 1)
    async with running(tmp_path) as fog:
        worker = fog.add_worker("a")
        task = await create(fog)
        await reaches(fog, task, TaskState.RUNNING)

        worker.finish(large)
        await reaches(fog, task, TaskState.ACCEPTED)

        stored = await fog.store.results.get(task.id)
        assert (stored.head, await stored.stdout()) == (large.head, large.stdout)
        offsets = [r.items[0].offset for r in worker.heard if isinstance(r, Poll) and r.items]
        assert len({offset for offset in offsets if offset}) >= 2


async def test_large_module_is_sent_once_per_session(tmp_path: Path) -> None:
    module = b"\0asm" + bytes(100_000)
    async with running(tmp_path) as fog:
        worker = fog.add_worker("a")
        first = await create(fog, module=module)
        await reaches(fog, first, TaskState.RUNNING)
        second = await create(fog, module=module)
        await reaches(fog, second, TaskState.RUNNING)

        assert sum(isinstance(request, Module) for request in worker.heard) == 1


async def test_levels_share_no_name_of_a_module(tmp_path: Path) -> None:
    async with running(tmp_path) as fog:
        worker = fog.add_worker("a", slots=8)
        for level in PrivacyLevel:
            await reaches(fog, await create(fog, privacy=level), TaskState.RUNNING)

        assert len({order.module for order in worker.attempts.values()}) == len(PrivacyLevel)
        assert len(set(worker.keys.values())) == len(PrivacyLevel)


async def test_secret_tasks_share_nothing_with_each_other(tmp_path: Path) -> None:
    async with running(tmp_path) as fog:
        worker = fog.add_worker("a")
        for _ in range(2):
            task = await create(fog, privacy=PrivacyLevel.SECRET)
            await reaches(fog, task, TaskState.RUNNING)

        one, other = worker.attempts.values()
        assert one.module != other.module
        polls = [request for request in worker.heard if isinstance(request, Poll)]
        assert all(len(poll.items) == 1 for poll in polls)


async def test_one_poll_covers_all_attempts_of_a_session(tmp_path: Path) -> None:
    async with running(tmp_path) as fog:
        worker = fog.add_worker("a")
        tasks = [await create(fog) for _ in range(3)]
        for task in tasks:
            await reaches(fog, task, TaskState.RUNNING)

        await fog.until(
            lambda: any(isinstance(r, Poll) and len(r.items) == 3 for r in worker.heard)
        )


async def test_exit_code_other_than_zero_is_a_result(tmp_path: Path) -> None:
    async with running(tmp_path) as fog:
        worker = fog.add_worker("a")
        task = await create(fog)
        await reaches(fog, task, TaskState.RUNNING)

        worker.finish(TaskResult(3, b"", b"no", 1, 1, 1))
        await reaches(fog, task, TaskState.ACCEPTED)

        assert (await fog.store.results.get(task.id)).head.exit_code == 3


async def test_restarted_worker_gets_another_try_at_once(tmp_path: Path) -> None:
    async with running(tmp_path) as fog:
        worker = fog.add_worker("a")
        task = await create(fog)
        await reaches(fog, task, TaskState.RUNNING)
        first = next(iter(worker.attempts))

        worker.forget_all()
        await fog.until(lambda: bool(worker.attempts) and first not in worker.attempts)
        worker.finish(OK)
        await reaches(fog, task, TaskState.ACCEPTED)

        assert await attempt_states(fog, task) == [AttemptState.LOST, AttemptState.SETTLED]


async def test_lost_runner_is_tried_again_until_tries_run_out(tmp_path: Path) -> None:
    def lose(worker: ScriptedWorker, request: Request) -> Reply | None:
        if isinstance(request, Poll):
            return Status(tuple(AttemptStatus(item.handle, LOST) for item in request.items))
        return None

    async with running(tmp_path) as fog:
        fog.add_worker("a", answer=lose)
        task = await create(fog, max_attempts=2)

        failed = await reaches(fog, task, TaskState.FAILED)

        assert failed.reason == "the runner was lost, and this was try 2 of 2"
        assert await attempt_states(fog, task) == [AttemptState.LOST, AttemptState.LOST]
        assert failed.tries == 2


async def test_attempt_of_a_worker_that_was_stopped_costs_no_try(tmp_path: Path) -> None:
    """INV-TASK-40."""
    seen: set[bytes] = set()

    def stop(worker: ScriptedWorker, request: Request) -> Reply | None:
        if not isinstance(request, Poll):
            return None
        items = []
        for item in request.items:
            # Each is seen to run before it is given back.
            items.append(AttemptStatus(item.handle, RETURNED if item.handle in seen else RUNNING))
            seen.add(item.handle)
        return Status(tuple(items)) if len(seen) <= 2 else None

    async with running(tmp_path) as fog:
        worker = fog.add_worker("a", answer=stop)
        task = await create(fog, max_attempts=1)
        await fog.until(lambda: len(seen) == 3)
        worker.finish(OK, list(worker.attempts)[-1])
        done = await reaches(fog, task, TaskState.ACCEPTED)

        assert done.tries == 0
        assert await attempt_states(fog, task) == [
            AttemptState.DECLINED,
            AttemptState.DECLINED,
            AttemptState.SETTLED,
        ]
        assert fog.fog.workers()[0].failures == 0


async def test_silent_worker_loses_the_task_to_another(tmp_path: Path) -> None:
    tempo = Tempo(lease_s=5, request_timeout_s=0.05)
    async with running(tmp_path, tempo=tempo) as fog:
        silent = fog.add_worker("a")
        task = await create(fog)
        await reaches(fog, task, TaskState.RUNNING)
        silent.silent = True
        good = fog.add_worker("b")

        await fog.until(lambda: bool(good.attempts))
        good.finish(OK)
        await reaches(fog, task, TaskState.ACCEPTED)

        assert await attempt_states(fog, task) == [AttemptState.EXPIRED, AttemptState.SETTLED]


async def test_late_result_of_an_expired_attempt_is_not_accepted(tmp_path: Path) -> None:
    tempo = Tempo(lease_s=5, request_timeout_s=0.05)
    late = TaskResult(0, b"late", b"", 1, 1, 1)
    async with running(tmp_path, tempo=tempo) as fog:
        first = fog.add_worker("a")
        task = await create(fog)
        await reaches(fog, task, TaskState.RUNNING)
        first.silent = True
        good = fog.add_worker("b")
        await fog.until(lambda: bool(good.attempts))

        first.finish(late)
        first.silent = False
        handle = next(iter(first.attempts))
        await fog.until(lambda: handle in first.forgotten)
        good.finish(OK)
        await reaches(fog, task, TaskState.ACCEPTED)

        assert (await fog.store.results.get(task.id)).head == OK.head


async def test_busy_worker_is_no_try_and_is_asked_again(tmp_path: Path) -> None:
    refusals = 3

    def busy(worker: ScriptedWorker, request: Request) -> Reply | None:
        nonlocal refusals
        if isinstance(request, Submit) and refusals:
            refusals -= 1
            return Busy(held=1, capacity=1)
        return None

    async with running(tmp_path) as fog:
        worker = fog.add_worker("a", answer=busy)
        task = await create(fog, max_attempts=1)
        running_task = await reaches(fog, task, TaskState.RUNNING)
        worker.finish(OK)
        await reaches(fog, task, TaskState.ACCEPTED)

        assert running_task.tries == 0
        assert await attempt_states(fog, task) == [
            *[AttemptState.DECLINED] * 3,
            AttemptState.SETTLED,
        ]


async def test_worker_that_has_no_room_for_a_blob_is_busy(tmp_path: Path) -> None:
    uploads = 0

    def full(worker: ScriptedWorker, request: Request) -> Reply | None:
        nonlocal uploads
        if isinstance(request, Module):
            uploads += 1
            return Busy(held=1, capacity=1)
        return (
            NeedModule((request.orders[0].module,))
            if isinstance(request, Submit) and not uploads
            else None
        )

    async with running(tmp_path) as fog:
        fog.add_worker("a", answer=full)
        task = await create(fog, max_attempts=1)
        await reaches(fog, task, TaskState.RUNNING)

        assert (await attempt_states(fog, task))[0] is AttemptState.DECLINED
        assert uploads == 1


async def test_refusal_is_no_try_and_the_worker_is_not_asked_again_at_once(tmp_path: Path) -> None:
    def refuse(worker: ScriptedWorker, request: Request) -> Reply | None:
        return Rejected("wall limit\x1b[31m too long\n") if isinstance(request, Submit) else None

    async with running(tmp_path) as fog:
        refusing = fog.add_worker("a", answer=refuse)
        task = await create(fog, max_attempts=1)
        text = "no worker can take it: 1 refused it; the worker refused it: wall limit [31m too"
        await fog.until(waits_because(fog, task, text))
        asked = len(refusing.heard)

        fog.add_worker("b")
        started = await reaches(fog, task, TaskState.RUNNING)

        assert len(refusing.heard) == asked
        assert started.tries == 0
        assert await attempt_states(fog, task) == [AttemptState.DECLINED, AttemptState.RUNNING]


async def test_worker_is_told_how_much_there_is_before_any_of_it_is_sent(tmp_path: Path) -> None:
    """INV-TASK-29."""
    module, text = b"\0asm" + bytes(3_000_000), bytes(2_000_000)

    def refuse(worker: ScriptedWorker, request: Request) -> Reply | None:
        return Rejected("too much") if isinstance(request, Submit) else None

    async with running(tmp_path) as fog:
        worker = fog.add_worker("a", answer=refuse)
        names = [await fog.store.blobs.put(blob) for blob in (module, text)]
        inputs = {"a": names[1], "b": names[1]}  # the same bytes, which are sent once
        task = await fog.coordinator.submit(TaskSpec(module=names[0], inputs=inputs))
        await fog.until(waits_because(fog, task, "too much"))

    (submit,) = (request for request in worker.heard if isinstance(request, Submit))
    assert submit.orders[0].blob_bytes == len(module) + len(text) + 2 * OVERHEAD
    assert submit.attached == {}
    assert not any(isinstance(request, Module) for request in worker.heard)


async def test_worker_that_refused_is_asked_again_later(tmp_path: Path) -> None:
    refusals = 2

    def refuse(worker: ScriptedWorker, request: Request) -> Reply | None:
        nonlocal refusals
        if isinstance(request, Submit) and refusals:
            refusals -= 1
            return Rejected("no")
        return None

    async with running(tmp_path) as fog:
        fog.add_worker("a", answer=refuse)
        task = await create(fog, max_attempts=1)
        await reaches(fog, task, TaskState.RUNNING)

        assert 30 <= fog.clock.monotonic() < 40


@pytest.mark.parametrize("refuses", [True, False])
async def test_task_that_no_worker_ever_takes_ends_and_says_why(
    tmp_path: Path, refuses: bool
) -> None:
    """INV-TASK-42."""

    def refuse(worker: ScriptedWorker, request: Request) -> Reply | None:
        return Rejected("it lends no more than 60 s") if isinstance(request, Submit) else None

    async with running(tmp_path) as fog:
        fog.add_worker("a", answer=refuse if refuses else None)
        limits = Limits() if refuses else Limits(memory_bytes=2**31)
        module = await fog.store.blobs.put(MODULE)
        task = await fog.coordinator.submit(TaskSpec(module=module, limits=limits))

        await fog.until(lambda: fog.clock.monotonic() > 3400, step=1.0)
        assert (await fog.store.tasks.get(task.id)).state is TaskState.QUEUED
        failed = await reaches(fog, task, TaskState.FAILED)

        assert failed.tries == 0
        assert failed.reason.startswith("no worker can take it: 1 ")
        assert failed.reason.endswith("it waited for another worker for an hour")
        assert ("it lends no more than 60 s" in failed.reason) is refuses


async def test_who_waits_for_the_upload_of_another_is_not_silent(tmp_path: Path) -> None:
    """INV-TASK-23."""
    module = b"\0asm" + bytes(4_000_000)
    async with running(tmp_path) as fog:
        fog.add_worker("a", blob_s=150, clock=fog.clock)
        tasks = [await create(fog, module=module) for _ in range(2)]
        for task in tasks:
            await reaches(fog, task, TaskState.RUNNING)

        assert fog.clock.monotonic() >= 150
        for task in tasks:
            assert await attempt_states(fog, task) == [AttemptState.RUNNING]


async def test_time_in_which_nobody_listened_counts_against_no_worker(tmp_path: Path) -> None:
    """INV-TASK-23."""
    async with running(tmp_path) as fog:
        worker = fog.add_worker("a")
        task = await create(fog)
        await reaches(fog, task, TaskState.RUNNING)

        for _ in range(3):
            fog.clock.suspend(600)
            polls = len(worker.heard)
            await fog.until(lambda polls=polls: len(worker.heard) > polls)
        worker.finish(OK)
        await reaches(fog, task, TaskState.ACCEPTED)

        assert await attempt_states(fog, task) == [AttemptState.SETTLED]


async def test_worker_that_never_ends_loses_the_task(tmp_path: Path) -> None:
    """INV-TASK-22."""
    async with running(tmp_path) as fog:
        fog.add_worker("a")  # says `running` for ever
        task = await create(fog, max_attempts=1)

        failed = await reaches(fog, task, TaskState.FAILED)

        assert failed.reason.startswith("the worker let it run for longer than its limit")
        assert await attempt_states(fog, task) == [AttemptState.EXPIRED]
        # 60 s to run, the grid, the lease, and the last poll.
        assert 60 * 2**0.5 + 60 < fog.clock.monotonic() < 60 * 2**0.5 + 60 + 60


async def test_worker_that_asks_for_blobs_for_ever_loses_the_task(tmp_path: Path) -> None:
    """INV-TASK-22."""

    def ask(worker: ScriptedWorker, request: Request) -> Reply | None:
        return NeedModule((request.orders[0].module,)) if isinstance(request, Submit) else None

    async with running(tmp_path) as fog:
        fog.add_worker("a", answer=ask)
        task = await create(fog, max_attempts=1)

        failed = await reaches(fog, task, TaskState.FAILED)

        assert failed.reason.startswith("a worker asks for the same blobs again and again")
        assert await attempt_states(fog, task) == [AttemptState.EXPIRED]


async def test_sign_of_life_is_no_news(tmp_path: Path) -> None:
    """INV-TASK-15."""
    async with running(tmp_path) as fog:
        worker = fog.add_worker("a")
        module = await fog.store.blobs.put(MODULE)
        await fog.coordinator.submit(TaskSpec(module=module, limits=Limits(wall_s=9999)))
        await fog.until(lambda: fog.clock.monotonic() > 100)
        polls = len(worker.heard)
        await fog.until(lambda: fog.clock.monotonic() > 400)

        assert 300 / 15 - 2 < len(worker.heard) - polls < 300 / 15 + 2


async def test_poll_that_is_lost_costs_no_attempt(tmp_path: Path) -> None:
    """INV-TASK-15."""
    tempo = Tempo(lease_s=60, request_timeout_s=10)
    async with running(tmp_path, tempo=tempo) as fog:
        worker = fog.add_worker("a")
        module = await fog.store.blobs.put(MODULE)
        task = await fog.coordinator.submit(TaskSpec(module=module, limits=Limits(wall_s=9999)))
        for moment in range(200, 2000, 200):
            await fog.until(lambda moment=moment: fog.clock.monotonic() > moment)
            worker.silent = True
            await fog.until(lambda: fog.fog.at(PrivacyLevel.PRIVATE)[0].state is WorkerState.LOST)
            worker.silent = False

        assert await attempt_states(fog, task) == [AttemptState.RUNNING]


async def test_result_that_never_comes_loses_the_task(tmp_path: Path) -> None:
    """INV-TASK-22."""

    def promise(worker: ScriptedWorker, request: Request) -> Reply | None:
        if not isinstance(request, Poll):
            return None
        return Status(
            tuple(
                AttemptStatus(item.handle, FINISHED, result_id=b"12345678", result_total=1000)
                for item in request.items
            )
        )

    async with running(tmp_path) as fog:
        fog.add_worker("a", answer=promise)
        task = await create(fog, max_attempts=1)
        await reaches(fog, task, TaskState.FAILED)

        assert await attempt_states(fog, task) == [AttemptState.EXPIRED]
        assert fog.clock.monotonic() < 90


async def test_attempt_that_waits_too_long_for_a_slot_goes_elsewhere(tmp_path: Path) -> None:
    """INV-TASK-22."""

    def queue(worker: ScriptedWorker, request: Request) -> Reply | None:
        match request:
            case Submit():
                return Accepted(AttemptStatus(request.orders[0].handle, QUEUED))
            case Poll():
                return Status(tuple(AttemptStatus(item.handle, QUEUED) for item in request.items))
        return None

    async with running(tmp_path) as fog:
        full = fog.add_worker("a", answer=queue)
        task = await create(fog, max_attempts=1)
        await fog.until(lambda: any(isinstance(r, Poll) for r in full.heard))
        fog.add_worker("b")
        started = await reaches(fog, task, TaskState.RUNNING)
        await fog.until(lambda: bool(full.forgotten))

        assert started.tries == 0
        assert await attempt_states(fog, task) == [AttemptState.DECLINED, AttemptState.RUNNING]
        assert 60 + 600 <= fog.clock.monotonic() < 60 + 600 + 60


async def test_task_waits_for_a_worker_and_says_so(tmp_path: Path) -> None:
    async with running(tmp_path) as fog:
        task = await create(fog)
        await fog.until(waits_because(fog, task, "no worker"))

        fog.add_worker("a")
        await reaches(fog, task, TaskState.RUNNING)

        assert (await why_waiting(fog, task)) == ""


async def test_cancelled_task_stops_at_its_worker(tmp_path: Path) -> None:
    async with running(tmp_path) as fog:
        worker = fog.add_worker("a")
        task = await create(fog)
        await reaches(fog, task, TaskState.RUNNING)
        handle = next(iter(worker.attempts))

        cancelled = await fog.coordinator.cancel(task.id)
        await fog.until(lambda: handle in worker.forgotten)

        assert cancelled.state is TaskState.CANCELLED
        assert any(isinstance(r, Cancel) and handle in r.handles for r in worker.heard)


async def test_finished_task_cannot_be_cancelled(tmp_path: Path) -> None:
    async with running(tmp_path) as fog:
        worker = fog.add_worker("a")
        task = await create(fog)
        await reaches(fog, task, TaskState.RUNNING)
        worker.finish(OK)
        await reaches(fog, task, TaskState.ACCEPTED)

        with pytest.raises(Conflict, match="is over: it is done"):
            await fog.coordinator.cancel(task.id)
        with pytest.raises(NotFound):
            await fog.coordinator.cancel("0" * 26)


async def test_row_that_moved_on_behind_its_back_is_let_go(tmp_path: Path) -> None:
    async with running(tmp_path) as fog:
        worker = fog.add_worker("a")
        task = await create(fog)
        await reaches(fog, task, TaskState.RUNNING)
        handle = next(iter(worker.attempts))

        await fog.store.apply([Cancelled(task.id)])
        worker.finish(OK)
        await fog.until(lambda: handle in worker.forgotten)

        assert (await fog.store.tasks.get(task.id)).state is TaskState.CANCELLED
        assert await attempt_states(fog, task) == [AttemptState.CANCELLED]


async def test_new_dispatcher_goes_on_from_the_store(tmp_path: Path) -> None:
    async with running(tmp_path) as fog:
        worker = fog.add_worker("a")
        task = await create(fog)
        await reaches(fog, task, TaskState.RUNNING)
        waiting = await create(fog, module=MODULE + b"2")
        await reaches(fog, waiting, TaskState.RUNNING)

        fog.jobs[0].cancel()  # as abrupt as a process that dies: nothing is said to anybody
        fog.jobs[0] = fog.jobs[-1]
        for handle in tuple(worker.attempts):
            worker.finish(OK, handle)
        again = await _second_dispatcher(fog)
        fog.jobs.append(again)
        await reaches(fog, task, TaskState.ACCEPTED)
        await reaches(fog, waiting, TaskState.ACCEPTED)

        assert await attempt_states(fog, task) == [AttemptState.SETTLED]
        assert sum(isinstance(r, Submit) for r in worker.heard) == 2


async def test_route_task_with_privacy_returns_the_circuit_in_use(tmp_path: Path) -> None:
    async with running(tmp_path) as fog:
        fog.add_worker("a")
        sha256 = await fog.store.blobs.put(MODULE)
        router = FogOnionCoordinator(fog.coordinator)
        await fog.until(lambda: bool(fog.fog.workers()))

        circuit_id = await router.route_task_with_privacy(
            TaskSpec(module=sha256, limits=Limits(wall_s=1)), PrivacyLevel.CONFIDENTIAL
        )

        pool = fog.onion.circuit_pools[PrivacyLevel.CONFIDENTIAL]
        assert pool.get_circuit(circuit_id).privacy_level is PrivacyLevel.CONFIDENTIAL
        [task] = await fog.store.tasks.list()
        assert task.spec.privacy is PrivacyLevel.CONFIDENTIAL


@pytest.mark.parametrize("seed", range(4))
async def test_lossy_network_loses_no_task_and_accepts_each_once(tmp_path: Path, seed: int) -> None:
    tempo = Tempo(lease_s=60, request_timeout_s=0.05)
    async with running(tmp_path, tempo=tempo, loss=0.2, duplication=0.2, seed=seed) as fog:
        workers = [fog.add_worker(name, slots=4) for name in "ab"]
        tasks = [await create(fog, max_attempts=100) for _ in range(8)]

        async def all_over() -> bool:
            for worker in workers:
                for handle in worker.attempts:
                    worker.results.setdefault(handle, b"")
                    if not worker.results[handle]:
                        worker.finish(OK, handle)
            return all(task.state.final for task in await fog.store.tasks.list(limit=1000))

        await fog.until(all_over)

        for task in tasks:
            assert (await fog.store.tasks.get(task.id)).state is TaskState.ACCEPTED
            assert (await attempt_states(fog, task)).count(AttemptState.SETTLED) == 1


async def _second_dispatcher(fog: Fog) -> asyncio.Task[None]:
    directory = MemberDirectory(fog.directory, lambda: MEMBERS)
    fog.fog = WorkerRegistry(directory, clock=fog.clock, rng=Random(2))
    fog.onion = OnionCircuitService(Channels(fog.network, "again"), clock=fog.clock)
    fog.coordinator = FogCoordinator(
        store=fog.store, workers=fog.fog, carrier=fog.onion, keys=lambda: MEMBERS, clock=fog.clock
    )
    return asyncio.create_task(fog.coordinator.run())


async def test_a_task_that_a_worker_can_take_is_not_said_to_be_behind_others(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as fog:
        fog.add_worker("a")
        task = await create(fog)
        assert task.state is TaskState.QUEUED
        await reaches(fog, task, TaskState.RUNNING)  # now the worker is known
        assert fog.coordinator.waiting_reason(task) == "it waits for its turn"
