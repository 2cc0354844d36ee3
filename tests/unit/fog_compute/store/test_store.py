"""The store on either database: what it keeps, what it refuses, what it forgets.

INV-STORE-01.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, create_engine, event, inspect, text

from fog_compute.errors import InvalidTask, NotFound, StoreError, StoreUnusable
from fog_compute.levels import PrivacyLevel
from fog_compute.store import (
    Cancelled,
    Change,
    Conflict,
    Declined,
    Failed,
    Held,
    Leased,
    Reported,
    Retried,
    Settled,
    Started,
    Store,
    Written,
    migrate,
)
from fog_compute.store.store import BLOB_GRACE_S
from fog_compute.tasks import (
    AttemptState,
    Fault,
    Limits,
    Task,
    TaskResult,
    TaskSpec,
    TaskState,
    new_handle,
)
from fog_compute.tasks.sealing import OVERHEAD
from fog_compute.testing import ManualClock
from fog_compute.units import MIB

RESULT = TaskResult(0, b"out" * 100, b"err", 7, 11, 65536)


@pytest.fixture
def url(database_url: str) -> str:
    return database_url


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path}/state/fog.db"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest_asyncio.fixture
async def store(url: str, clock: ManualClock) -> AsyncIterator[Store]:
    async with await Store.open(url, clock=clock, result_ttl_s=100.0) as opened:
        yield opened


@pytest_asyncio.fixture
async def in_file(file_url: str, clock: ManualClock) -> AsyncIterator[Store]:
    """A store for what only files have."""
    async with await Store.open(file_url, clock=clock, result_ttl_s=100.0) as opened:
        yield opened


async def queued(store: Store, **spec: object) -> Task:
    module = await store.blobs.put(b"module")
    return await store.tasks.create(TaskSpec(module=module, **spec))  # type: ignore[arg-type]


def lease(task: Task, handle: str) -> Leased:
    return Leased(task.id, handle, "worker-1", "fog1abc", task.created_at + timedelta(seconds=60))


@pytest.mark.asyncio
async def test_a_task_is_kept_with_everything_it_says(url: str, store: Store) -> None:
    module = await store.blobs.put(b"module")
    stdin = await store.blobs.put(b"stdin")
    spec = TaskSpec(
        module=module,
        argv=("a", "ü", ""),
        env={"LANG": "ü", "EMPTY": ""},
        seed="5e" * 32,
        stdin=stdin,
        inputs={"in/x": stdin},
        limits=Limits(fuel=5, wall_s=0.5),
        privacy=PrivacyLevel.SECRET,
        max_attempts=7,
    )
    task = await store.tasks.create(spec)
    assert await store.tasks.get(task.id) == task
    assert task.spec == spec
    await store.close()
    async with await Store.open(url) as again:
        assert await again.tasks.get(task.id) == task
        assert await again.blobs.get(stdin) == b"stdin"


@pytest.mark.asyncio
async def test_a_task_goes_its_way(store: Store) -> None:
    """INV-TASK-05."""
    task = await queued(store)
    first, second, third = new_handle(), new_handle(), new_handle()
    until = task.created_at + timedelta(seconds=90)
    await store.apply([lease(task, first)])
    await store.apply([Declined(first, "busy")])
    await store.apply([lease(task, second), Held(second, until), Started(second, until)])
    await store.apply([Retried(second, "silent", how=AttemptState.EXPIRED, not_before=until)])
    retried = await store.tasks.get(task.id)
    assert (retried.state, retried.tries, retried.leases) == (TaskState.RETRY, 1, 2)
    assert (retried.not_before, retried.reason, retried.attempt) == (until, "silent", None)
    await store.apply([lease(task, third)])
    assert [a.handle for a in await store.attempts.open_attempts()] == [third]
    assert [t.id for t in await store.tasks.list() if not t.state.final] == [task.id]
    await store.apply([Reported(third, RESULT), Settled(third)])

    done = await store.tasks.get(task.id)
    assert (done.state, done.attempt, done.reason) == (TaskState.ACCEPTED, third, "")
    stored = await store.results.get(task.id)
    assert stored.head == RESULT.head
    assert (await stored.stdout(), await stored.stderr()) == (RESULT.stdout, RESULT.stderr)
    assert [(a.number, a.state) for a in await store.attempts.of_task(task.id)] == [
        (1, AttemptState.DECLINED),
        (2, AttemptState.EXPIRED),
        (3, AttemptState.SETTLED),
    ]
    assert (await store.attempts.get(second)).lease_until == until
    history = await store.events.history(task.id)
    assert [event.version for event in history] == list(range(1, done.version + 1))
    assert [event.state.value for event in history] == [
        *("queued", "leased", "queued", "leased", "running"),
        *("retry", "leased", "reported", "accepted"),
    ]
    assert all(t.state.final for t in await store.tasks.list())
    assert await store.attempts.open_attempts() == []


@pytest.mark.asyncio
async def test_of_many_racing_calls_one_result_is_accepted(store: Store) -> None:
    """INV-TASK-03."""
    task = await queued(store)
    handles = [new_handle() for _ in range(20)]

    async def race(handle: str) -> bool:
        try:
            await store.apply([lease(task, handle)])
            await store.apply([Reported(handle, RESULT)])
            await store.apply([Settled(handle)])
        except Conflict:
            return False
        return True

    won = await asyncio.gather(*(race(h) for h in handles), *(race(h) for h in handles))
    assert sum(won) == 1
    assert len(await store.attempts.of_task(task.id)) == 1
    statistics = (await store.statistics.by_level())[PrivacyLevel.PRIVATE]
    assert (statistics.submitted, statistics.accepted, statistics.attempts) == (1, 1, 1)


@pytest.mark.asyncio
async def test_a_call_is_written_whole_or_not_at_all(store: Store) -> None:
    """INV-TASK-04."""
    task, other = await queued(store), await queued(store)
    handle = new_handle()
    with pytest.raises(Conflict):
        await store.apply([lease(task, handle), Settled(handle)])
    assert (await store.tasks.get(task.id)) == task
    assert await store.attempts.of_task(task.id) == []
    # A refused call does not disturb those that share its transaction.
    outcomes = await asyncio.gather(
        store.apply([Settled("0" * 32)]),
        store.apply([Cancelled(other.id)]),
        store.apply([lease(other, handle)]),
        store.apply([Failed("nobody", "x")]),
        return_exceptions=True,
    )
    assert [type(o) for o in outcomes] == [NotFound, Written, Conflict, NotFound]
    assert (await store.tasks.get(other.id)).state is TaskState.CANCELLED


@pytest.mark.asyncio
@pytest.mark.parametrize("wall_ms", [2**64 - 1, 2**63])
async def test_what_cannot_be_stored_fails_alone(store: Store, wall_ms: int) -> None:
    """INV-TASK-04: calls that shared a transaction with it are written all the same."""
    tasks = [await queued(store) for _ in range(3)]
    handles = [new_handle() for _ in tasks[:2]]
    for task, handle in zip(tasks[:2], handles, strict=True):
        await store.apply([lease(task, handle), Started(handle, task.created_at)])

    outcomes = await asyncio.gather(
        store.apply([Reported(handles[0], RESULT), Settled(handles[0])]),
        store.apply(
            [Reported(handles[1], TaskResult(0, b"", b"", 1, wall_ms, 1)), Settled(handles[1])]
        ),
        store.apply([replace(lease(tasks[2], new_handle()), worker="\ud800")]),
        return_exceptions=True,
    )

    assert isinstance(outcomes[0], Written)
    assert isinstance(outcomes[1], StoreError)
    assert isinstance(outcomes[2], StoreError)
    assert (await store.tasks.get(tasks[0].id)).state is TaskState.ACCEPTED
    assert (await store.tasks.get(tasks[1].id)).state is TaskState.RUNNING
    await store.apply([Cancelled(tasks[2].id)])


@pytest.mark.asyncio
async def test_more_changes_than_a_group_holds_are_all_written(store: Store) -> None:
    tasks = await asyncio.gather(*(queued(store) for _ in range(150)))
    await asyncio.gather(*(store.apply([lease(t, new_handle())]) for t in tasks))
    counts = await store.tasks.count_by_state()
    assert counts[TaskState.LEASED] == 150
    assert sum(counts.values()) == 150
    many: list[Change] = [Cancelled(task.id) for task in tasks]
    await store.apply(many)
    assert (await store.tasks.count_by_state())[TaskState.CANCELLED] == 150


@pytest.mark.asyncio
async def test_any_number_of_tasks_is_asked_for_at_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fog_compute.store.reader.VALUES_AT_ONCE", 3)
    tasks = [await queued(store) for _ in range(7)]
    await store.apply([lease(task, new_handle()) for task in tasks])
    ids = [task.id for task in reversed(tasks)] + ["nobody"]
    assert [task.id for task in await store.tasks.of_ids(ids)] == [task.id for task in tasks]
    found = await store.attempts.of_tasks(ids)
    assert [[a.number for a in found[task.id]] for task in tasks] == [[1]] * 7
    assert await store.tasks.of_ids([]) == []


@pytest.mark.asyncio
async def test_any_number_of_rows_is_changed_at_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-STORE-53."""
    most = 0

    def count(_: object, __: object, statement: str, parameters: Any, *___: object) -> None:
        nonlocal most
        if statement.startswith(("SELECT", "DELETE")):
            most = max(most, len(parameters))

    monkeypatch.setattr("fog_compute.store.reader.VALUES_AT_ONCE", 3)
    blobs = [await store.blobs.put(b"%d" % number) for number in range(70)]
    tasks = [await queued(store) for _ in range(70)]
    handles = [new_handle() for _ in tasks]
    event.listen(store._engines.writing, "before_cursor_execute", count)
    event.listen(store._engines.visiting, "before_cursor_execute", count)

    await store.apply([lease(task, handle) for task, handle in zip(tasks, handles, strict=True)])
    await store.apply([Cancelled(task.id) for task in tasks])
    assert len(await store.blobs.sizes(blobs)) == len(blobs)
    await store.sessions.forget([f"{number}" for number in range(70)])

    assert (await store.tasks.count_by_state())[TaskState.CANCELLED] == 70
    assert 0 < most < 20


@pytest.mark.asyncio
async def test_ending_a_task_ends_its_attempt(store: Store) -> None:
    failed, cancelled = await queued(store), await queued(store)
    first, second = new_handle(), new_handle()
    fault = TaskResult(-1, b"", b"", 1, 2, 3, fault=Fault.OUT_OF_FUEL, detail="used up")
    await store.apply(
        [lease(failed, first), Reported(first, fault), Failed(failed.id, "out of fuel")]
    )
    await store.apply([lease(cancelled, second), Cancelled(cancelled.id)])
    assert (await store.attempts.get(first)).state is AttemptState.FAILED
    assert (await store.attempts.get(second)).state is AttemptState.CANCELLED
    assert (await store.tasks.get(failed.id)).reason == "out of fuel"
    assert (await store.results.get(failed.id)).head == fault.head
    with pytest.raises(NotFound, match="no result"):
        await store.results.get(cancelled.id)


@pytest.mark.asyncio
async def test_tasks_are_listed_newest_first_in_pages(store: Store, clock: ManualClock) -> None:
    ids = []
    for _ in range(5):
        await clock.advance(1)
        ids.append((await queued(store)).id)
    await store.apply([Cancelled(ids[1])])
    page = await store.tasks.list(limit=2)
    assert [t.id for t in page] == [ids[4], ids[3]]
    assert [t.id for t in await store.tasks.list(before=page[-1].id)] == [ids[2], ids[1], ids[0]]
    assert [t.id for t in await store.tasks.list(state=TaskState.CANCELLED)] == [ids[1]]


@pytest.mark.asyncio
async def test_waiting_ends_with_the_next_version(store: Store) -> None:
    task = await queued(store)
    waiting = asyncio.create_task(store.events.wait(task.id, task.version, 30))
    await store.apply([lease(task, new_handle())])
    changed = await waiting
    assert (changed.version, changed.state) == (2, TaskState.LEASED)
    assert await store.events.wait(task.id, 1, 30) == changed
    assert await store.events.wait(task.id, 2, 0.01) == changed
    with pytest.raises(NotFound):
        await store.events.wait("nobody", 0, 0.01)


@pytest.mark.asyncio
async def test_a_task_with_a_blob_that_is_not_here_is_refused(store: Store) -> None:
    with pytest.raises(NotFound, match="upload it first"):
        await store.tasks.create(TaskSpec(module="ab" * 32))


@pytest.mark.asyncio
async def test_what_is_asked_for_and_not_there_is_named(store: Store) -> None:
    for reading in (store.tasks.get("x"), store.attempts.get("y"), store.results.get("x")):
        with pytest.raises(NotFound, match=r"[xy]"):
            await reading
    await store.apply([])


@pytest.mark.asyncio
async def test_time_to_live_ends(store: Store, clock: ManualClock) -> None:
    """INV-TASK-07."""
    done, still_open = await queued(store), await queued(store)
    handle = new_handle()
    await store.apply([lease(done, handle), Reported(handle, RESULT), Settled(handle)])
    await clock.advance(99)
    assert (await store.sweep()).tasks == 0
    assert (await store.results.get(done.id)).head == RESULT.head
    await clock.advance(2)
    swept = await store.sweep()
    assert (swept.tasks, swept.results, swept.blobs) == (1, 1, 0)
    with pytest.raises(NotFound):
        await store.tasks.get(done.id)
    assert await store.attempts.of_task(done.id) == []
    assert await store.events.history(done.id) == []
    assert (await store.tasks.get(still_open.id)).state is TaskState.QUEUED


@pytest.mark.asyncio
async def test_blobs_that_no_task_names_are_deleted_when_they_are_old(
    store: Store, clock: ManualClock
) -> None:
    """INV-TASK-07."""
    task = await queued(store)
    unnamed = await store.blobs.put(b"unnamed")
    again = await store.blobs.put(b"again")
    await clock.advance(BLOB_GRACE_S + 1)
    fresh = await store.blobs.put(b"fresh")
    assert await store.blobs.put(b"again") == again
    assert (await store.sweep()).blobs == 1
    assert await store.blobs.get(again) == b"again"
    with pytest.raises(NotFound):
        await store.blobs.get(unnamed)
    assert await store.blobs.get(fresh) == b"fresh"
    assert await store.blobs.get(task.spec.module) == b"module"


@pytest.mark.asyncio
async def test_a_large_result_is_read_in_parts_and_goes_with_its_task(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-TASK-07, INV-TASK-70."""
    done, handle = await queued(store), new_handle()
    large = TaskResult(0, b"o" * 90_000, b"e" * 7, 1, 2, 3, files={"a": b"a" * 11, "b/c": b"c"})
    await store.apply([lease(done, handle), Reported(handle, large), Settled(handle)])
    assert await store.blobs.get(hashlib.sha256(large.data).hexdigest()) == large.data

    stored = await store.results.get(done.id)
    assert stored.head == large.head
    assert await stored.stdout() == large.stdout
    assert await stored.stderr() == large.stderr
    assert [await stored.file(name) for name in ("a", "b/c")] == [b"a" * 11, b"c"]
    with pytest.raises(NotFound, match="no file"):
        await stored.file("b")

    monkeypatch.setattr("fog_compute.store.store.BLOB_GRACE_S", 10.0)
    await clock.advance(99)
    assert (await store.sweep()).blobs == 0
    await clock.advance(2)
    assert (await store.sweep()).results == 1
    with pytest.raises(NotFound):
        await stored.stdout()


@pytest.mark.asyncio
async def test_a_part_of_a_result_whose_file_was_cut_is_an_error_and_not_less(
    in_file: Store, tmp_path: Path
) -> None:
    done, handle = await queued(in_file), new_handle()
    large = TaskResult(0, b"o" * 90_000, b"e", 1, 2, 3)
    await in_file.apply([lease(done, handle), Reported(handle, large), Settled(handle)])
    kept = hashlib.sha256(large.data).hexdigest()
    os.truncate(tmp_path / "state" / "blobs" / kept[:2] / kept[2:], 80_000)
    stored = await in_file.results.get(done.id)
    with pytest.raises(StoreError, match="damaged"):
        await stored.stdout()


@pytest.mark.asyncio
async def test_blob_whose_folder_was_moved_is_no_blob_that_never_was(
    in_file: Store, tmp_path: Path
) -> None:
    sha256 = await in_file.blobs.put(b"moved")
    folder = tmp_path / "state" / "blobs"
    folder.rename(folder.with_name("elsewhere"))
    for ask in (lambda: in_file.blobs.get(sha256), lambda: in_file.blobs.put(b"other")):
        with pytest.raises(StoreError, match=str(folder)):
            await ask()
    with pytest.raises(StoreError, match="is gone"):
        await in_file.blobs.sizes([sha256])
    folder.with_name("elsewhere").rename(folder)
    assert await in_file.blobs.get(sha256) == b"moved"
    with pytest.raises(NotFound):
        await in_file.blobs.get(hashlib.sha256(b"never").hexdigest())


@pytest.mark.asyncio
async def test_blob_that_was_refused_a_thread_is_not_kept_later(
    in_file: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    kept = await in_file.blobs.put(b"kept")
    refused = hashlib.sha256(b"refused").hexdigest()
    with monkeypatch.context() as limited:
        limited.setattr(threading.Thread, "start", refuse)
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor())
        for work in (
            in_file.blobs.put(b"refused"),
            in_file.blobs.get(kept),
            in_file.blobs.sweep((), 0),
            in_file.blobs.redate(timedelta(seconds=1)),
        ):
            with pytest.raises(StoreError, match="no more threads"):
                await work
    assert await in_file.blobs.get(kept) == b"kept"  # behind what was refused, in the same queue
    with pytest.raises(NotFound):
        await in_file.blobs.get(refused)


@pytest.mark.asyncio
async def test_sweep_goes_on_past_what_goes_meanwhile(
    in_file: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = [await in_file.blobs.put(b"one"), await in_file.blobs.put(b"two")]
    gone = tmp_path / "state" / "blobs" / old[0][:2] / ".new-0"
    monkeypatch.setattr(Path, "glob", _also(gone))
    assert await in_file.blobs.sweep((), -1) == len(old)


def _also(path: Path) -> Callable[[Path, str], list[Path]]:
    """Listing a folder with one more entry, which was there a moment ago."""
    listing = Path.glob
    return lambda folder, pattern: [path, *listing(folder, pattern)]


@pytest.mark.asyncio
async def test_a_damaged_blob_is_not_returned(in_file: Store, tmp_path: Path) -> None:
    """INV-TASK-08."""
    sha256 = await in_file.blobs.put(b"good")
    (tmp_path / "state" / "blobs" / sha256[:2] / sha256[2:]).write_bytes(b"bad")
    with pytest.raises(StoreError, match="damaged"):
        await in_file.blobs.get(sha256)


@pytest.mark.asyncio
async def test_statistics_are_per_level_and_survive(url: str, store: Store) -> None:
    """INV-TASK-06."""
    task = await queued(store, privacy=PrivacyLevel.SECRET)
    handle = new_handle()
    await store.apply([lease(task, handle), Retried(handle, "lost")])
    again = new_handle()
    await store.apply([lease(task, again), Reported(again, RESULT), Settled(again)])
    await store.close()
    async with await Store.open(url) as opened:
        levels = await opened.statistics.by_level()
    assert set(levels) == set(PrivacyLevel)
    secret = levels[PrivacyLevel.SECRET]
    assert (secret.submitted, secret.attempts, secret.retries) == (1, 2, 1)
    assert (secret.accepted, secret.run_ms) == (1, RESULT.wall_ms)
    assert levels[PrivacyLevel.PUBLIC].submitted == 0


@pytest.mark.asyncio
async def test_no_table_tells_who_asked(store: Store) -> None:
    """INV-TASK-06, INV-STORE-50, INV-STORE-52."""
    with store._engines.writing.connect() as connection:
        found = inspect(connection)
        keys = [key for table in found.get_table_names() for key in found.get_foreign_keys(table)]
        assert not [key for key in keys if key["referred_table"] == "sessions"]
        assert found.get_foreign_keys("sessions") == []
        columns = {
            (table, column["name"])
            for table in found.get_table_names()
            for column in found.get_columns(table)
            if not table.startswith("chat_")
        }
        chat = [table for table in found.get_table_names() if table.startswith("chat_")]
        # A person's own messages: nothing leads to them, or from them.
        assert len(chat) == 8
        assert not [key for key in keys if key["referred_table"] in chat]
        assert not [key for table in chat for key in found.get_foreign_keys(table)]
    names = {name for table, name in columns if table != "circuit_statistics"}
    assert {"state", "handle", "level"} <= names
    for word in ("requester", "session", "circuit", "message", "peer", "user", "client"):
        assert not [name for name in names if word in name]
    assert {name for table, name in columns if table == "level_statistics"} == {
        *("level", "submitted", "accepted", "failed", "cancelled"),
        *("attempts", "retries", "run_ms"),
    }
    assert {name for table, name in columns if table == "circuit_statistics"} == {
        *("level", "circuits", "rotations", "bytes_sent", "bytes_received"),
        *("packets_sent", "surbs_sent"),
    }
    assert {name for table, name in columns if table == "sessions"} == {
        *("id", "home", "digest", "level", "apart", "opened_at", "used_at"),
        *("quota_bytes", "bytes_sent", "bytes_received"),
    }


@pytest.mark.asyncio
async def test_commits_are_flushed_to_disk(in_file: Store) -> None:
    """INV-TASK-04."""
    with in_file._engines.writing.connect() as connection:
        for pragma, value in (("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)):
            row = connection.exec_driver_sql(f"PRAGMA {pragma}").scalar_one()
            assert row == value


@pytest.mark.asyncio
async def test_readers_cannot_write(store: Store) -> None:
    with (
        store._engines.reading.connect() as connection,
        pytest.raises(Exception, match=r"read-?only"),
    ):
        connection.execute(text("DELETE FROM tasks"))


@pytest.mark.asyncio
async def test_a_second_opener_is_told_that_the_store_is_in_use(
    file_url: str, in_file: Store
) -> None:
    with pytest.raises(StoreError, match="in use by another process"):
        await Store.open(file_url)


@pytest.mark.asyncio
@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
async def test_machine_that_refuses_threads_or_memory_ends_no_store(
    store: Store, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(_: object) -> None:
        raise error

    task = await queued(store)
    with monkeypatch.context() as limited:
        limited.setattr(Engine, "connect", refuse)
        for asked in (store.tasks.get(task.id), store.apply([Cancelled(task.id)]), store.sweep()):
            with pytest.raises(StoreError, match="no more threads or memory"):
                await asked
    await store.apply([Cancelled(task.id)])
    assert (await store.tasks.get(task.id)).state is TaskState.CANCELLED


@pytest.mark.asyncio
async def test_group_that_crashes_ends_alone(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    task = await queued(store)
    with monkeypatch.context() as broken:
        broken.setattr(Engine, "connect", lambda _: 1 / 0)
        with pytest.raises(StoreError, match="division by zero"):
            await store.apply([Cancelled(task.id)])
    await store.apply([Cancelled(task.id)])
    assert "group.crashed" in capsys.readouterr().out


@pytest.mark.asyncio
async def test_a_closed_store_refuses(store: Store) -> None:
    task = await queued(store)
    await store.close()
    with pytest.raises(StoreError, match="closed"):
        await store.apply([Cancelled(task.id)])
    await store.close()


@pytest.mark.asyncio
async def test_closing_writes_what_was_asked_for(url: str, store: Store) -> None:
    """INV-TASK-04."""
    task = await queued(store)
    asked = asyncio.create_task(store.apply([Cancelled(task.id)]))
    await asyncio.sleep(0)
    await store.close()
    await asked
    async with await Store.open(url) as again:
        assert (await again.tasks.get(task.id)).state is TaskState.CANCELLED


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "url",
    [
        *("sqlite+aiosqlite://", "sqlite:///:memory:", "not a url", "sqlite+aiosqlite:///"),
        "mysql://fog:secret@db/fog",
    ],
)
async def test_an_unusable_url_is_refused(url: str) -> None:
    with pytest.raises(StoreUnusable, match="give sqlite:///path"):
        await Store.open(url)


@pytest.mark.asyncio
async def test_a_place_that_can_hold_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnusable, match=f"the database {tmp_path} is a folder"):
        await Store.open(f"sqlite:///{tmp_path}")
    with pytest.raises(StoreUnusable, match=r"file/fog\.db cannot be opened: File exists"):
        await Store.open(f"sqlite:///{tmp_path}/file/fog.db")


@pytest.mark.asyncio
async def test_a_full_disk_is_said_with_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(StoreError, match=r"fog\.db cannot be opened: No space left") as caught:
        await Store.open(f"sqlite:///{tmp_path}/fog.db")
    assert not isinstance(caught.value, StoreUnusable)


@pytest.mark.asyncio
async def test_a_sweep_takes_its_turn_with_the_groups(store: Store) -> None:
    """INV-TASK-04."""
    async with store._writer._turn:
        sweep = asyncio.create_task(store.sweep())
        await asyncio.sleep(0)
        assert store._engines.writing.pool.status().count("Checked out connections: 0")
        assert not sweep.done()
    await sweep
    await store.close()
    with pytest.raises(StoreError, match="closed"):
        await store.sweep()


@pytest.mark.asyncio
async def test_a_declined_attempt_is_no_retry(store: Store) -> None:
    """INV-TASK-06."""
    task = await queued(store)
    handle = new_handle()
    await store.apply([lease(task, handle), Declined(handle, "busy")])
    assert (await store.statistics.by_level())[PrivacyLevel.PRIVATE].retries == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("how", [AttemptState.LOST, AttemptState.EXPIRED])
async def test_the_last_try_ends_as_what_it_was(store: Store, how: AttemptState) -> None:
    """INV-TASK-01."""
    task = await queued(store, max_attempts=1)
    handle = new_handle()
    await store.apply([lease(task, handle), Failed(task.id, "gone", how=how)])
    assert (await store.attempts.get(handle)).state is how
    failed = await store.tasks.get(task.id)
    assert (failed.state, failed.tries) == (TaskState.FAILED, 1)


@pytest.mark.asyncio
async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "fog.db").write_bytes(b"something else entirely" * 100)
    with pytest.raises(StoreUnusable, match=r"fog\.db is damaged \(file is not a database\): put"):
        await Store.open(f"sqlite+aiosqlite:///{tmp_path}/fog.db")


OPEN = """
import asyncio, sys
from fog_compute.store import Store
async def main():
    async with await Store.open(sys.argv[1]): pass
asyncio.run(main())
print("alembic" in sys.modules)
"""


def test_who_comes_back_to_its_own_store_does_not_load_what_migrates(file_url: str) -> None:
    def loads() -> str:
        words = [sys.executable, "-c", OPEN, file_url]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()

    assert [loads(), loads()] == ["True", "False"]


@pytest.mark.asyncio
async def test_a_key_makes_one_task_as_long_as_the_task_is_kept(
    url: str, store: Store, clock: ManualClock
) -> None:
    """INV-TASK-24."""
    spec = TaskSpec(module=await store.blobs.put(b"module"))
    outcomes = await asyncio.gather(
        *(store.tasks.create(spec, "key") for _ in range(5)), return_exceptions=True
    )
    [task] = [one for one in outcomes if isinstance(one, Task)]
    assert sum(isinstance(one, Conflict) for one in outcomes) == 4
    await store.close()
    async with await Store.open(url, clock=clock, result_ttl_s=100.0) as again:
        assert await again.tasks.of_key("key", spec) == task
        assert await again.tasks.of_key("other", spec) is None
        with pytest.raises(Conflict, match="new key"):
            await again.tasks.of_key("key", replace(spec, argv=("x",)))
        await again.apply([Cancelled(task.id)])
        await clock.advance(101)
        await again.sweep()
        assert await again.tasks.of_key("key", spec) is None


def back_to(database: Path, revision: str) -> None:
    """Give a database the schema of an older version."""
    engine = create_engine(f"sqlite:///{database}")
    with engine.begin() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(migrate._SCRIPTS))
        command.downgrade(config, revision)
    engine.dispose()


@pytest.mark.asyncio
async def test_task_whose_blobs_are_too_large_together_is_refused_before_it_is_made(
    in_file: Store, tmp_path: Path
) -> None:
    """INV-TASK-29."""
    blobs = [await in_file.blobs.put(bytes([number])) for number in range(3)]
    sizes = [len(b"\0asm"), 100 * MIB, 156 * MIB - len(b"\0asm") - 3 * OVERHEAD]
    paths = [tmp_path / "state" / "blobs" / sha256[:2] / sha256[2:] for sha256 in blobs]
    for path, size in zip(paths, sizes, strict=True):
        os.truncate(path, size)
    spec = TaskSpec(
        module=blobs[0],
        stdin=blobs[1],
        inputs={"a": blobs[2], "b": blobs[2]},
        limits=Limits(scratch_bytes=400 * MIB),
    )

    await in_file.tasks.create(spec)
    os.truncate(paths[2], sizes[2] + 1)
    with pytest.raises(InvalidTask, match=r"have 268435457 bytes together.*bring 268435456 "):
        await in_file.tasks.create(spec)


@pytest.mark.asyncio
async def test_task_whose_inputs_do_not_fit_into_its_scratch_is_refused_before_it_is_made(
    store: Store,
) -> None:
    """INV-TASK-92."""
    blob = await store.blobs.put(b"x" * 900)
    inputs = {str(number): blob for number in range(150)}
    fits = TaskSpec(module=blob, inputs=inputs, limits=Limits(scratch_bytes=150 * 4096))
    await store.tasks.create(fits)
    with pytest.raises(InvalidTask, match=r"take 614400 bytes on a disk.* 614399 bytes there"):
        await store.tasks.create(replace(fits, limits=Limits(scratch_bytes=150 * 4096 - 1)))
    assert len(await store.tasks.list()) == 1
