"""What a clock dated that stood otherwise keeps its time to live and its place."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeAlias

import pytest

from fog_compute.errors import NotFound
from fog_compute.store import Leased, Reported, Retried, Settled, Store
from fog_compute.store.redate import TOLERANCE
from fog_compute.store.store import BLOB_GRACE_S
from fog_compute.tasks import Task, TaskResult, TaskSpec, TaskState, new_handle
from fog_compute.testing import ManualClock

pytestmark = pytest.mark.asyncio

RESULT = TaskResult(0, b"out", b"err", 10, 5, 65536)
TTL_S = 7000.0
HOUR, MONTH = 3600.0, 30 * 86400.0


Opener: TypeAlias = Callable[[ManualClock], Awaitable[Store]]


@pytest.fixture
def open_store(database_url: str) -> Opener:
    async def opened(clock: ManualClock) -> Store:
        return await Store.open(database_url, clock=clock, result_ttl_s=TTL_S)

    return opened


async def accepted(store: Store, module: bytes = b"module") -> Task:
    task = await store.tasks.create(TaskSpec(module=await store.blobs.put(module)))
    handle = new_handle()
    until = task.created_at + timedelta(seconds=60)
    lease = Leased(task.id, handle, "w", "fog1w", until)
    await store.apply([lease, Reported(handle, RESULT), Settled(handle)])
    return task


@pytest.mark.parametrize(
    ("jump", "reboot"),
    [
        (jump, reboot)
        for jump in (1.0, -1.0, HOUR, -HOUR, MONTH, -MONTH)
        for reboot in (False, True)
        # Over a boot nobody can tell a jump ahead from time that passed.
        if not (reboot and jump > 0)
    ],
)
async def test_results_are_kept_for_their_time_to_live_over_a_jump_between_two_runs(
    jump: float, reboot: bool, open_store: Opener
) -> None:
    """INV-TASK-37."""
    clock = ManualClock()
    async with await open_store(clock) as store:
        task = await accepted(store)
        unnamed = await store.blobs.put(b"uploaded for a task that is made after the restart")

    clock.jump(jump)
    if reboot:
        clock.reboot()

    async with await open_store(clock) as store:
        slack = TOLERANCE.total_seconds()
        await clock.advance(TTL_S - slack - 10)
        swept = await store.sweep()
        assert (swept.tasks, swept.results, swept.blobs) == (0, 0, 0)
        assert (await store.results.get(task.id)).head == RESULT.head
        assert await store.blobs.get(unnamed)

        await clock.advance(2 * slack + 20)
        assert (await store.sweep()).results == 1
        await clock.advance(BLOB_GRACE_S)
        await store.sweep()
        with pytest.raises(NotFound):
            await store.blobs.get(unnamed)


@pytest.mark.parametrize("jump", [-MONTH, MONTH])
async def test_what_waits_waits_no_longer_for_a_jump(jump: float, open_store: Opener) -> None:
    """INV-TASK-37."""
    clock = ManualClock()
    async with await open_store(clock) as store:
        task = await store.tasks.create(TaskSpec(module=await store.blobs.put(b"module")))
        handle = new_handle()
        now = clock.now()
        lease = Leased(task.id, handle, "w", "fog1w", now + timedelta(seconds=60))
        pause = timedelta(seconds=30)
        await store.apply([lease, Retried(handle, "lost", not_before=now + pause)])

    clock.jump(jump)

    async with await open_store(clock) as store:
        (again,) = (t for t in await store.tasks.list() if not t.state.final)
        assert again.state is TaskState.RETRY
        assert again.not_before == clock.now() + pause
        [*_, last] = await store.events.history(task.id)
        assert last.at == clock.now()


async def test_tasks_keep_the_order_in_which_they_were_made_over_a_jump_back(
    open_store: Opener,
) -> None:
    """INV-TASK-37."""
    clock = ManualClock()
    made = []
    for _ in range(3):
        async with await open_store(clock) as store:
            made += [(await accepted(store)).id for _ in range(3)]
        clock.jump(-MONTH)

    async with await open_store(clock) as store:
        listed = [task.id for task in await store.tasks.list()]

    assert made == sorted(made)
    assert listed == made[::-1]
