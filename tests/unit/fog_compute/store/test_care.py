"""Looking after a database: what is wrong is found and nothing else, and copies are whole."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import delete, text, update

from fog_compute.errors import NotFound, StoreError, StoreUnusable
from fog_compute.locking import try_lock
from fog_compute.store import Reported, Settled, Store, migrate, schema
from fog_compute.store.backups import back_up, restore
from fog_compute.store.care import check, vacuum
from fog_compute.store.store import ROW_BYTES
from fog_compute.tasks import Task, TaskResult, TaskSpec
from fog_compute.testing import ManualClock
from tests.postgres import PrivatePostgres
from tests.unit.fog_compute.store.test_damage import damage
from tests.unit.fog_compute.store.test_store import lease

pytestmark = pytest.mark.asyncio

LARGE = TaskResult(0, bytes(range(256)) * (ROW_BYTES // 128), b"", 7, 11, 65536)
HANDLE = "ab" * 16


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "home" / "fog.db"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest_asyncio.fixture
async def store(place: Path, clock: ManualClock) -> AsyncIterator[Store]:
    async with await Store.open(place, clock=clock) as opened:
        yield opened


async def filled(store: Store) -> list[Task]:
    """Two tasks, one of them with a result that lies among the blobs."""
    module, stdin = await store.blobs.put(b"module"), await store.blobs.put(b"stdin")
    tasks = [await store.tasks.create(TaskSpec(module=module, stdin=stdin)) for _ in range(2)]
    await store.apply([lease(tasks[0], HANDLE), Reported(HANDLE, LARGE), Settled(HANDLE)])
    return tasks


def blob_file(place: Path, sha256: str) -> Path:
    return place.parent / "blobs" / sha256[:2] / sha256[2:]


async def test_whole_database_has_no_faults_while_a_backend_uses_it(
    database_url: str, tmp_path: Path
) -> None:
    """INV-STORE-43."""
    async with await Store.open(database_url, blobs=tmp_path / "blobs") as store:
        await filled(store)
        found = check(database_url, tmp_path / "blobs")

    assert (found.faults, found.more, found.schema) == ([], 0, migrate.HEAD)
    assert found.rows == {
        "tasks": 2,
        "attempts": 1,
        "results": 1,
        "events": 5,
        "level_statistics": 4,
        "sessions": 0,
        "api_keys": 0,
        "chat_messages": 0,
        "chat_deliveries": 0,
        "chat_peers": 0,
    }
    assert (found.blobs, found.blob_bytes) == (3, len(b"modulestdin") + len(LARGE.data))


async def test_everything_that_is_wrong_is_found_at_once(store: Store, place: Path) -> None:
    """INV-STORE-43."""
    first, second = await filled(store)
    damage(place, "spec = '?'", second.id)
    damage(place, "data = x'00'", HANDLE, "results", "handle")
    damage(place, "state = 'paused'", HANDLE, "attempts", "handle")
    damage(place, "state = 'running'", first.id)
    blob_file(place, first.spec.module).unlink()
    blob_file(place, first.spec.stdin or "").write_bytes(b"STDIN")
    with closing(sqlite3.connect(place)) as database, database:
        database.execute("PRAGMA foreign_keys = OFF")
        database.execute("INSERT INTO task_blobs VALUES ('nobody', 'none')")
    found = check(place)

    said = [(fault.kind, fault.name, fault.reason) for fault in found.faults]
    assert sorted((kind, name.split()[0]) for kind, name, _ in said) == sorted(
        [
            ("database", "task_blobs"),
            ("row", "tasks"),
            ("row", "tasks"),
            ("row", "attempts"),
            ("row", "results"),
            ("blob", first.spec.module),
            ("blob", first.spec.stdin or ""),
            ("blob", "none"),
        ]
    )
    reasons = {name: reason for _, name, reason in said}
    assert reasons[f"tasks {first.id}"] == "its attempt is not there"
    assert reasons[first.spec.module] == "it is not there"
    assert reasons[first.spec.stdin or ""] == "its bytes are not what its name says"


async def test_damaged_file_is_said_by_the_databases_own_words(place: Path) -> None:
    """INV-STORE-43."""
    async with await Store.open(place) as store:
        await filled(store)
    with place.open("r+b") as file:
        file.seek(8192)
        file.write(os.urandom(os.fstat(file.fileno()).st_size - 8192))

    assert {fault.kind for fault in check(place).faults} == {"database"}


async def test_blobs_in_the_database_are_read_as_well(postgres_url: str) -> None:
    """INV-STORE-43."""
    async with await Store.open(postgres_url) as store:
        tasks = await filled(store)
        assert check(postgres_url).faults == []
        with store._engines.writing.begin() as connection:
            connection.execute(
                update(schema.blob_pieces).values(data=b"x").where(schema.blob_pieces.c.number == 0)
            )
            connection.execute(
                delete(schema.blobs).where(schema.blobs.c.sha256 == tasks[0].spec.module)
            )
        found = check(postgres_url)

    reasons = {fault.name: fault.reason for fault in found.faults}
    assert reasons.pop(tasks[0].spec.module) == "it is not there"
    assert set(reasons.values()) == {"its bytes are not what its name says"}
    assert len(reasons) == 2


@pytest.mark.parametrize(
    ("revision", "todo"), [("9999", "update fog-compute"), ("0003", "the next `fog up` brings")]
)
async def test_schema_of_another_version_is_named(place: Path, revision: str, todo: str) -> None:
    """INV-STORE-44."""
    async with await Store.open(place) as store:
        await filled(store)
    with closing(sqlite3.connect(place)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = ?", [revision])
    (fault,) = check(place).faults

    assert fault.kind == "schema"
    assert f"schema {revision}, and this version knows {migrate.HEAD}: {todo}" in fault.reason


async def test_database_that_is_not_there_is_made_by_no_command(place: Path) -> None:
    for command in (check, vacuum):
        with pytest.raises(NotFound, match="there is no database"):
            command(place)
    with pytest.raises(NotFound, match="there is no database"):
        back_up(place, place.parent / "copy", ManualClock().now())
    assert not place.parent.exists()


async def test_room_is_given_back_only_where_no_backend_is_at_work(
    store: Store, place: Path, clock: ManualClock
) -> None:
    """INV-STORE-45."""
    module = await store.blobs.put(b"module")
    specs = [TaskSpec(module=module, argv=("x" * 2000,)) for _ in range(300)]
    tasks = await store.tasks.create_batch(specs)
    with pytest.raises(StoreError, match="in use by another process"):
        vacuum(place)
    await store.close()
    with closing(sqlite3.connect(place)) as database, database:
        database.execute("DELETE FROM tasks WHERE id > ?", [tasks[4].id])
    done = vacuum(place)

    assert done.after < done.before / 3
    assert check(place).rows["tasks"] == 5


async def test_postgres_is_tidied_up_while_a_backend_uses_it(
    postgres_url: str, tmp_path: Path
) -> None:
    """INV-STORE-45."""
    async with await Store.open(postgres_url, blobs=tmp_path / "blobs") as store:
        await filled(store)
        assert vacuum(postgres_url).after > 0
    with pytest.raises(StoreUnusable, match="`pg_dump --format=custom"):
        back_up(postgres_url, tmp_path / "copy", ManualClock().now())
    with pytest.raises(StoreUnusable, match="`pg_restore --clean"):
        restore(postgres_url, tmp_path / "copy")


async def test_postgres_of_the_tests_plans_as_if_nothing_had_been_there(
    postgres: PrivatePostgres, tmp_path: Path
) -> None:
    url = postgres.cleared()
    async with await Store.open(url, blobs=tmp_path / "blobs") as store:
        await filled(store)
        vacuum(url)
    async with await Store.open(postgres.cleared(), blobs=tmp_path / "blobs") as store:
        with store._engines.reading.connect() as connection:
            known = connection.execute(
                text("SELECT count(*) FROM pg_stats WHERE schemaname = 'public'")
            )
            assert known.scalar() == 0


async def test_backup_of_a_busy_database_comes_back_as_it_was(
    store: Store, place: Path, tmp_path: Path, clock: ManualClock
) -> None:
    """INV-STORE-46."""
    tasks = await filled(store)
    made = back_up(place, tmp_path / "copy", clock.now())
    after = await store.tasks.create(TaskSpec(module=tasks[0].spec.module))
    assert (made.tasks, made.blobs, made.faults) == (2, 3, [])
    assert check(tmp_path / "copy" / "fog.db").faults == []
    elsewhere = tmp_path / "elsewhere" / "fog.db"
    done = restore(elsewhere, tmp_path / "copy")

    assert (done.tasks, done.blobs, done.replaced, done.faults) == (2, 3, None, [])
    async with await Store.open(elsewhere, clock=clock) as again:
        assert sorted(task.id for task in await again.tasks.list()) == sorted(
            task.id for task in tasks
        )
        result = await again.results.get(tasks[0].id)
        assert await result.stdout() == LARGE.stdout
        assert await again.blobs.get(tasks[0].spec.module) == b"module"
    assert (await store.tasks.get(after.id)).id == after.id
    for folder in (tmp_path / "copy", *(tmp_path / "copy").rglob("*")):
        assert folder.stat().st_mode & 0o077 == 0, folder


async def test_what_a_killed_backup_left_goes_with_the_next_one(
    store: Store, place: Path, tmp_path: Path, clock: ManualClock
) -> None:
    """INV-STORE-46."""
    await filled(store)
    killed, at_work, other = (tmp_path / f".copy.{name}.new" for name in ("1", "2", "x"))
    for folder in (killed, at_work, other):
        folder.mkdir()
        (folder / "fog.db").touch()
    descriptor = os.open(at_work, os.O_RDONLY)
    try:
        assert try_lock(descriptor)
        back_up(place, tmp_path / "copy", clock.now())
    finally:
        os.close(descriptor)
    assert [one.exists() for one in (killed, at_work, other)] == [False, True, True]


async def test_restore_replaces_nothing_unasked_and_keeps_what_it_replaces(
    store: Store, place: Path, tmp_path: Path, clock: ManualClock
) -> None:
    """INV-STORE-47."""
    tasks = await filled(store)
    back_up(place, tmp_path / "copy", clock.now())
    with pytest.raises(StoreError, match="in use by another process"):
        restore(place, tmp_path / "copy", force=True)
    later = await store.tasks.create(TaskSpec(module=tasks[0].spec.module))
    await store.close()
    with pytest.raises(StoreError, match="--force replaces it"):
        restore(place, tmp_path / "copy")
    blob_file(place, tasks[0].spec.module).write_bytes(b"damaged")
    done = restore(place, tmp_path / "copy", force=True)

    assert done.replaced is not None
    assert check(done.replaced).rows["tasks"] == 3
    async with await Store.open(place, clock=clock) as again:
        assert len(await again.tasks.list()) == 2
        with pytest.raises(NotFound):
            await again.tasks.get(later.id)
        assert await again.blobs.get(tasks[0].spec.module) == b"module"


async def test_backup_that_cannot_be_used_leaves_all_as_it_was(
    store: Store, place: Path, tmp_path: Path, clock: ManualClock
) -> None:
    """INV-STORE-47."""
    tasks = await filled(store)
    await store.close()
    back_up(place, tmp_path / "copy", clock.now())
    copy = tmp_path / "copy" / "fog.db"
    with closing(sqlite3.connect(copy)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreUnusable, match=r"9999.*update fog-compute"):
        restore(place, tmp_path / "copy", force=True)
    copy.write_bytes(b"no database" * 1000)
    with pytest.raises(StoreUnusable, match="cannot be used"):
        restore(place, tmp_path / "copy", force=True)
    with pytest.raises(NotFound, match="there is no backup"):
        restore(place, tmp_path / "nothing", force=True)
    for taken in (tmp_path / "copy", Path("/")):
        with pytest.raises(StoreUnusable, match="name a new folder"):
            back_up(place, taken, clock.now())

    assert check(place).rows["tasks"] == len(tasks)
    left = {path.name for path in place.parent.iterdir()} - {"fog.db-wal", "fog.db-shm"}
    assert left == {"blobs", "fog.db", "fog.db.lock"}


async def test_backup_names_the_blobs_that_it_lacks(
    store: Store, place: Path, tmp_path: Path, clock: ManualClock
) -> None:
    """INV-STORE-46."""
    tasks = await filled(store)
    blob_file(place, tasks[0].spec.module).unlink()
    made = back_up(place, tmp_path / "copy", clock.now())

    assert [(fault.name, fault.reason) for fault in made.faults] == [
        (tasks[0].spec.module, "it is not there")
    ]
    assert made.blobs == 2
    assert [fault.kind for fault in restore(tmp_path / "a" / "b.db", tmp_path / "copy").faults] == [
        "blob"
    ]
