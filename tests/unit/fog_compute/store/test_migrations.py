"""Migrations: every step, both ways, on each database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect, select, text

from fog_compute.errors import StoreUnusable
from fog_compute.store import Leased, Reported, Settled, Store, migrate, schema
from fog_compute.store.dialects import database_at
from fog_compute.tasks import TaskResult, TaskSpec, TaskState, new_handle
from tests.postgres import PrivatePostgres


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database whose schema the test may change."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/fog.db"
        return
    postgres: PrivatePostgres = request.getfixturevalue("postgres")
    with postgres.database() as made:
        yield made


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engines = database_at(url).engines()
    yield engines.writing
    engines.dispose()


def config(connection: Connection) -> Config:
    made = Config(attributes={"connection": connection})
    made.set_main_option("script_location", str(migrate._SCRIPTS))
    return made


def differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return list(compare_metadata(context, schema.metadata))


def test_the_newest_migration_is_the_one_that_the_code_names() -> None:
    scripts = Config()
    scripts.set_main_option("script_location", str(migrate._SCRIPTS))
    assert ScriptDirectory.from_config(scripts).get_current_head() == migrate.HEAD


def test_every_migration_goes_down_and_up_again(engine: Engine) -> None:
    """INV-STORE-05."""
    with engine.begin() as connection:
        migrate.migrate(connection)
        assert differences(connection) == []
        steps = [
            s.revision for s in ScriptDirectory.from_config(config(connection)).walk_revisions()
        ]
        for revision in [*steps[1:], "base"]:
            command.downgrade(config(connection), revision)
        assert set(inspect(connection).get_table_names()) <= {"alembic_version"}
        for revision in reversed(steps):
            command.upgrade(config(connection), revision)
        assert differences(connection) == []


@pytest.mark.asyncio
async def test_a_store_of_a_newer_version_is_refused(url: str, engine: Engine) -> None:
    async with await Store.open(url):
        pass
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreUnusable, match=r"9999.*update"):
        await Store.open(url)


@pytest.mark.asyncio
async def test_what_the_oldest_schema_has_a_place_for_comes_back(url: str, engine: Engine) -> None:
    """INV-STORE-05."""
    async with await Store.open(url) as store:
        spec = TaskSpec(module=await store.blobs.put(b"module"), argv=("ü", "'"), group="ours")
        done, waits = await store.tasks.create_batch([spec, replace(spec, group="")])
        handle = new_handle()
        until = done.created_at + timedelta(seconds=60)
        await store.apply([Leased(done.id, handle, "w", "fog1a", until)])
        await store.apply([Reported(handle, TaskResult(0, b"", b"", 1, 2, 3)), Settled(handle)])
        history = await store.events.history(done.id)
        statistics = await store.statistics.by_level()
    with engine.begin() as connection:
        command.downgrade(config(connection), "0001")
    engine.dispose()

    async with await Store.open(url) as store:
        again = await store.tasks.get(done.id)
        assert (again.spec, again.state, again.attempt) == (spec, TaskState.ACCEPTED, handle)
        assert (await store.tasks.get(waits.id)).spec == replace(spec, group="local")
        assert [a.handle for a in await store.attempts.of_task(done.id)] == [handle]
        found = await store.events.history(done.id)
        assert [(e.version, e.state) for e in found] == [(e.version, e.state) for e in history]
        assert await store.statistics.by_level() == statistics
        await store.blobs.put(b"module")  # for rows of blobs the oldest schema has no place
        more = await store.tasks.create(spec)
        assert (await store.events.after(0, 10))[-1].task_id == more.id
        needs = await store.tasks.needs()
        assert {need.group for need in needs} == {"local", "ours"}
    with engine.connect() as connection:
        rows = connection.execute(select(schema.tasks.c.kind, schema.tasks.c.memory_bytes)).all()
        assert {tuple(row) for row in rows} == {("wasm", spec.limits.memory_bytes)}
