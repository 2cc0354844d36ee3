"""What is wrong on the requester's own side costs no task a try and no worker its name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final
from unittest.mock import patch

import pytest

from fog_compute.coordinator.attempts import OpenAttempt
from fog_compute.coordinator.placement import WorkerState
from fog_compute.errors import StoreError
from fog_compute.levels import PrivacyLevel
from fog_compute.tasks import AttemptState, Task, TaskState
from tests.unit.fog_compute.coordinator.scripted import Fog, open_fog
from tests.unit.fog_compute.coordinator.test_dispatcher import (
    OK,
    attempt_states,
    create,
    reaches,
    running,
    why_waiting,
)

pytestmark = pytest.mark.asyncio

READ_ONLY: Final = re.compile("readonly database|read-only transaction")
UNREADABLE: Final = re.compile("cannot be (read|used now)")
NO_CONSENSUS = "the clock of this machine is wrong: it is 31 days ahead of the network"


async def tries(fog: Fog, task: Task) -> int:
    return (await fog.store.tasks.get(task.id)).tries


async def refuse_writes(fog: Fog, *, refuse: bool) -> None:
    """Let the database answer every write as one on a disk that became read-only.

    A Postgres does so when it has become the one that only follows another.
    """
    words = {
        "sqlite": f"PRAGMA query_only = {int(refuse)}",
        "postgresql": f"SET default_transaction_read_only = {int(refuse)}",
    }
    engine = fog.store._engines.writing
    with closing(engine.raw_connection()) as connection:
        connection.cursor().execute(words[engine.dialect.name])
        connection.commit()


@contextmanager
def blobs_out_of_reach(fog: Fog, folder: Path) -> Iterator[None]:
    """Keep the only blob from whoever asks for it, in its file or in its rows."""
    engine = fog.store._engines.writing
    if engine.dialect.name == "postgresql":
        for old, new in (("blob_pieces", "hidden"), ("hidden", "blob_pieces")):
            with engine.begin() as connection:
                connection.exec_driver_sql(f"ALTER TABLE {old} RENAME TO {new}")
            if new == "hidden":
                yield
        return
    (blob,) = (folder / "blobs").glob("??/*")
    kept = blob.read_bytes()
    blob.unlink()
    blob.mkdir()
    yield
    blob.rmdir()
    blob.write_bytes(kept)


async def test_task_that_runs_outlives_a_long_outage_of_the_requester(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-TASK-36."""
    async with running(tmp_path) as fog:
        worker = fog.add_worker("a")
        task = await create(fog, max_attempts=1)
        await reaches(fog, task, TaskState.RUNNING)

        fog.channels.cut_off(NO_CONSENSUS)
        expired: list[str] = []

        async def check(record: OpenAttempt) -> None:
            expired.append(record.handle)

        monkeypatch.setattr(fog.coordinator._dispatcher._talk, "check", check)
        await fog.passes(900)
        assert expired == []
        assert (await why_waiting(fog, task)).startswith(f"waiting: {NO_CONSENSUS}")
        assert fog.coordinator.trouble == NO_CONSENSUS
        assert [view.state for view in fog.fog.at(PrivacyLevel.PRIVATE)] == [WorkerState.READY]
        fog.channels.cut_off("")
        worker.finish(OK)
        await reaches(fog, task, TaskState.ACCEPTED)

        assert await attempt_states(fog, task) == [AttemptState.SETTLED]
        assert await tries(fog, task) == 0
        assert fog.coordinator.trouble == ""


async def test_task_that_was_never_submitted_waits_for_the_network_and_starts_by_itself(
    tmp_path: Path,
) -> None:
    """INV-TASK-36."""
    async with running(tmp_path) as fog:
        worker = fog.add_worker("a")
        fog.channels.cut_off(NO_CONSENSUS)
        task = await create(fog, max_attempts=1)

        await fog.passes(900)
        assert (await why_waiting(fog, task)).startswith(f"waiting: {NO_CONSENSUS}")
        fog.channels.cut_off("")
        await reaches(fog, task, TaskState.RUNNING)
        worker.finish(OK)
        await reaches(fog, task, TaskState.ACCEPTED)

        assert await attempt_states(fog, task) == [AttemptState.SETTLED]


async def test_worker_that_is_gone_when_the_network_comes_back_is_found_out(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as fog:
        worker = fog.add_worker("a")
        task = await create(fog, max_attempts=1)
        await reaches(fog, task, TaskState.RUNNING)

        fog.channels.cut_off(NO_CONSENSUS)
        await fog.passes(900)
        worker.silent = True
        fog.channels.cut_off("")
        failed = await reaches(fog, task, TaskState.FAILED)

        assert failed.reason == "the worker fell silent, and this was try 1 of 1"


async def test_silence_of_a_network_that_takes_nothing_uses_up_no_try(tmp_path: Path) -> None:
    """INV-TASK-36."""
    async with running(tmp_path) as fog:
        worker = fog.add_worker("a")
        task = await create(fog, max_attempts=2)
        await reaches(fog, task, TaskState.RUNNING)

        fog.network.loss = 1.0
        await fog.passes(900)
        assert await tries(fog, task) == 0
        assert (await why_waiting(fog, task)).startswith("waiting: the network delivers no message")
        assert [view.state for view in fog.fog.at(PrivacyLevel.PRIVATE)] == [WorkerState.READY]
        fog.network.loss = 0.0
        await fog.until(lambda: len(worker.attempts) > 1)
        worker.finish(OK, list(worker.attempts)[-1])
        await reaches(fog, task, TaskState.ACCEPTED)

        assert await tries(fog, task) == 0
        assert AttemptState.EXPIRED in await attempt_states(fog, task)


@pytest.mark.parametrize("submitted", [True, False])
async def test_task_goes_elsewhere_without_a_try_when_there_is_no_path_to_its_worker(
    tmp_path: Path, submitted: bool
) -> None:
    """INV-TASK-36."""
    async with running(tmp_path) as fog:
        first = fog.add_worker("a")
        channel = await fog.channels.channel(PrivacyLevel.PRIVATE)
        if not submitted:
            channel.unreachable.add(first.channel.address)
        task = await create(fog, max_attempts=1)
        if submitted:
            await reaches(fog, task, TaskState.RUNNING)
            channel.unreachable.add(first.channel.address)
        await fog.passes(20)

        second = fog.add_worker("b")
        await fog.until(lambda: bool(second.attempts))
        second.finish(OK)
        await reaches(fog, task, TaskState.ACCEPTED)

        assert await tries(fog, task) == 0


async def test_store_that_takes_nothing_for_a_while_uses_up_no_try(tmp_path: Path) -> None:
    """INV-TASK-36."""
    async with running(tmp_path) as fog:
        worker = fog.add_worker("a")
        task = await create(fog, max_attempts=1)
        await reaches(fog, task, TaskState.RUNNING)

        await refuse_writes(fog, refuse=True)
        worker.finish(OK)
        await fog.passes(600)
        assert READ_ONLY.search(await why_waiting(fog, task))
        await refuse_writes(fog, refuse=False)
        await reaches(fog, task, TaskState.ACCEPTED)

        assert await attempt_states(fog, task) == [AttemptState.SETTLED]
        assert fog.coordinator.trouble == ""


async def test_store_is_not_called_back_before_it_takes_something(tmp_path: Path) -> None:
    """INV-TASK-36."""
    async with running(tmp_path) as fog:
        task = await create(fog)  # no worker: no attempt is open
        await refuse_writes(fog, refuse=True)
        with pytest.raises(StoreError, match=READ_ONLY):
            await fog.coordinator.cancel(task.id)
        await fog.passes(60)
        assert READ_ONLY.search(fog.coordinator.trouble)

        await refuse_writes(fog, refuse=False)
        await fog.until(lambda: fog.coordinator.trouble == "")


async def test_store_that_takes_nothing_at_the_start_is_waited_for(tmp_path: Path) -> None:
    """INV-TASK-36."""
    async with running(tmp_path) as fog:
        worker = fog.add_worker("a")
        task = await create(fog, max_attempts=1)
        await reaches(fog, task, TaskState.RUNNING)
    again = await open_fog(tmp_path, clock=fog.clock)
    try:
        await refuse_writes(again, refuse=True)
        again.restart(fog)
        again.start()
        await again.passes(100)
        assert READ_ONLY.search(again.coordinator.trouble)
        with pytest.raises(StoreError, match=READ_ONLY):
            await again.coordinator.cancel(task.id)
        await refuse_writes(again, refuse=False)
        worker.finish(OK)
        await reaches(again, task, TaskState.ACCEPTED)

        assert await attempt_states(again, task) == [AttemptState.SETTLED]
        assert again.coordinator.trouble == ""
    finally:
        await again.stop()
        await again.store.close()


async def test_blob_that_cannot_be_read_now_is_tried_again_and_blames_nobody(
    tmp_path: Path,
) -> None:
    """INV-TASK-36."""
    async with running(tmp_path) as fog:
        task = await create(fog, max_attempts=1)
        with blobs_out_of_reach(fog, tmp_path):
            worker = fog.add_worker("a")
            await fog.passes(600)
            assert UNREADABLE.search(await why_waiting(fog, task))
        await reaches(fog, task, TaskState.RUNNING)
        worker.finish(OK)
        await reaches(fog, task, TaskState.ACCEPTED)

        assert await tries(fog, task) == 0


async def test_fault_of_our_own_while_a_task_is_sent_blames_nobody(tmp_path: Path) -> None:
    """INV-TASK-36: however long it lasts, no try is used up."""
    async with running(tmp_path) as fog:
        exchange = fog.coordinator._dispatcher.exchange
        with patch.object(type(exchange), "_send_orders", None):  # a TypeError at each submission
            task = await create(fog, max_attempts=1)
            worker = fog.add_worker("a")
            await fog.passes(600)
            assert "TypeError" in (await why_waiting(fog, task))
            assert await attempt_states(fog, task) == [AttemptState.OFFERED]
        await reaches(fog, task, TaskState.RUNNING)
        worker.finish(OK)
        await reaches(fog, task, TaskState.ACCEPTED)
