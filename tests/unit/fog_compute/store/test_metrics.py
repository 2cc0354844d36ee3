"""How long the writer takes, and what waits for it."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from fog_compute.errors import StoreError
from fog_compute.observability.metrics import BackendMetrics
from fog_compute.store import Store
from fog_compute.tasks import TaskSpec

pytestmark = pytest.mark.asyncio


async def test_every_transaction_that_writes_is_timed(tmp_path: Path) -> None:
    metrics = BackendMetrics()
    store = await Store.open(tmp_path / "fog.db", metrics=metrics.store)

    def commits() -> float | None:
        return metrics.registry.value("fog_store_commit_seconds_count")

    def refused(connection: Connection) -> None:
        connection.execute(text("INSERT INTO nowhere VALUES (1)"))

    assert commits() == 0
    module = await store.blobs.put(b"module")
    await store.tasks.create(TaskSpec(module=module))
    assert commits() == 1
    await store.touch()
    assert commits() == 2
    with pytest.raises(StoreError):
        await store._writer.do(refused)
    assert commits() == 3
    await store.close()


async def test_changes_wait_until_somebody_begins_to_write_them(tmp_path: Path) -> None:
    """fog_store_waiting."""
    store = await Store.open(tmp_path / "fog.db")
    begun, go = threading.Event(), threading.Event()

    def slow(_: Connection) -> None:
        begun.set()
        go.wait(60)

    module = await store.blobs.put(b"module")
    assert store.waiting == 0
    jobs: list[asyncio.Task[object]] = [asyncio.create_task(store._writer.do(slow))]
    async with asyncio.timeout(60):
        while not begun.is_set():
            await asyncio.sleep(0)
        jobs += [asyncio.create_task(store.touch()) for _ in range(2)]
        jobs += [asyncio.create_task(store.tasks.create(TaskSpec(module=module)))]
        while store.waiting < 2:  # the group of the third is in the writer's hands
            await asyncio.sleep(0)
        go.set()
        await asyncio.gather(*jobs)
    assert store.waiting == 0
    await store.close()
