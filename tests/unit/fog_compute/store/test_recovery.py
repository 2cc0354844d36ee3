"""A process that writes is killed at random moments; what it was told is written must be there."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from fog_compute.store import Store
from fog_compute.tasks import AttemptState, TaskState

KILLS = 8
WRITER = textwrap.dedent(
    """
    import asyncio, sys
    from datetime import timedelta
    from fog_compute.store import Settled, Leased, Reported, Started, Store
    from fog_compute.tasks import TaskResult, TaskSpec, new_handle

    async def follow(store, module):
        while True:
            task = await store.tasks.create(TaskSpec(module=module))
            say("queued", task.id)
            handle, until = new_handle(), task.created_at + timedelta(seconds=60)
            await store.apply([Leased(task.id, handle, "w", "a", until)])
            say("leased", task.id)
            await store.apply([Started(handle, until)])
            result = TaskResult(0, task.id.encode() * 50, b"", 1, 2, 3)
            await store.apply([Reported(handle, result), Settled(handle)])
            say("accepted", task.id)

    def say(*words):
        sys.stdout.write(" ".join(words) + "\\n")
        sys.stdout.flush()

    async def main():
        store = await Store.open(sys.argv[1])
        module = await store.blobs.put(b"module")
        say("ready")
        await asyncio.gather(*(follow(store, module) for _ in range(8)))

    asyncio.run(main())
    """
)


def write_and_kill(url: str, lines_to_read: int) -> list[str]:
    """Run the writer, read some of what it says, kill it, and return all that it said."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, url], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    said = []
    try:
        for line in process.stdout:
            said.append(line)
            if len(said) >= lines_to_read:
                break
    finally:
        process.send_signal(signal.SIGKILL)
    said += process.stdout.read().splitlines(keepends=True)
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    return [line.strip() for line in said if line.endswith("\n")]


@pytest.mark.asyncio
async def test_what_was_confirmed_survives_a_kill_at_any_moment(tmp_path: Path) -> None:
    """INV-TASK-03, INV-TASK-04, INV-TASK-05."""
    url = f"sqlite+aiosqlite:///{tmp_path}/fog.db"
    rng = random.Random(20260102)
    order = [TaskState.QUEUED, TaskState.LEASED, TaskState.RUNNING, TaskState.ACCEPTED]
    confirmed: dict[str, TaskState] = {}
    for _ in range(KILLS):
        for line in await asyncio.to_thread(write_and_kill, url, rng.randint(1, 150)):
            if line != "ready":
                state, task_id = line.split()
                confirmed[task_id] = TaskState(state)

    async with await Store.open(url) as store:
        for task_id, least in confirmed.items():
            task = await store.tasks.get(task_id)
            assert order.index(task.state) >= order.index(least), task_id
            history = await store.events.history(task_id)
            assert [event.version for event in history] == list(range(1, task.version + 1))
            attempts = await store.attempts.of_task(task_id)
            settled = [a for a in attempts if a.state is AttemptState.SETTLED]
            assert len(settled) == (task.state is TaskState.ACCEPTED)
            if settled:
                assert task.attempt == settled[0].handle
                result = await store.results.get(task_id)
                assert await result.stdout() == task_id.encode() * 50
        counts = await store.tasks.count_by_state()
        # A report and its acceptance are one call, so nobody can see the one without the other.
        assert counts[TaskState.REPORTED] == 0
        assert counts[TaskState.ACCEPTED] >= sum(
            state is TaskState.ACCEPTED for state in confirmed.values()
        )
        assert len(confirmed) > KILLS
