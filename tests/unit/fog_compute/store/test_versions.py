"""Databases of other versions: brought up whole or not at all, or refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic import command, op
from alembic.config import Config
from sqlalchemy import text

from fog_compute.errors import StoreError, StoreUnusable
from fog_compute.store import Store, migrate
from fog_compute.store.care import check
from fog_compute.store.dialects import database_at
from fog_compute.tasks import TaskSpec

pytestmark = pytest.mark.asyncio


def run(url: str, *statements: str, back_to: str = "") -> None:
    """Change a database by hand."""
    engines = database_at(url).engines()
    try:
        with engines.writing.begin() as connection:
            if back_to:
                config = Config(attributes={"connection": connection})
                config.set_main_option("script_location", str(migrate._SCRIPTS))
                command.downgrade(config, back_to)
            for statement in statements:
                connection.execute(text(statement))
    finally:
        engines.dispose()


async def test_migration_that_breaks_down_leaves_a_database_that_can_be_used(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-STORE-44."""
    blobs = tmp_path / "blobs"
    async with await Store.open(database_url, blobs=blobs) as store:
        task = await store.tasks.create(TaskSpec(module=await store.blobs.put(b"module")))
    run(database_url, back_to="0004")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(op, "create_index", full)  # which later ones do, after others are through
        with pytest.raises(StoreError, match="No space left"):
            await Store.open(database_url, blobs=blobs)
    assert check(database_url).schema == "0004"

    async with await Store.open(database_url, blobs=blobs) as again:
        assert (await again.tasks.get(task.id)).spec.module == task.spec.module
    assert check(database_url, blobs).faults == []


async def test_database_of_a_newer_version_is_refused_by_name(
    database_url: str, tmp_path: Path
) -> None:
    """INV-STORE-44."""
    async with await Store.open(database_url, blobs=tmp_path / "blobs"):
        pass
    run(database_url, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreUnusable, match=f"schema 9999 of a newer.*up to {migrate.HEAD}: upd"):
        await Store.open(database_url, blobs=tmp_path / "blobs")
    (fault,) = check(database_url).faults
    assert fault.reason.endswith("update fog-compute")
    run(database_url, f"UPDATE alembic_version SET version_num = '{migrate.HEAD}'")


@pytest.mark.parametrize("rest", ["h:port/x", "[::1/x", "h/\udcff"])
async def test_url_that_cannot_be_read_is_refused_without_its_password(rest: str) -> None:
    """INV-STORE-44."""
    with pytest.raises(StoreUnusable, match="cannot be read: give") as caught:
        database_at(f"postgresql://u:secret@{rest}")
    assert "secret" not in str(caught.value)
