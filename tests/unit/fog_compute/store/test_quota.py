"""Uploads within a quota: counted while they come, refused by the limit, and nothing deleted."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fog_compute.errors import QuotaExceeded
from fog_compute.store import Cancelled, Reported, Settled, Store
from fog_compute.store.blob_files import FolderBlobs
from fog_compute.store.quota import BoundedBlobs
from fog_compute.store.store import BLOB_GRACE_S, ROW_BYTES
from fog_compute.tasks import TaskResult, TaskSpec
from fog_compute.testing import ManualClock
from fog_compute.units import KIB
from tests.unit.fog_compute.store.test_store import lease

pytestmark = pytest.mark.asyncio

LIMIT = 700 * KIB


async def pieces(letter: bytes, count: int) -> AsyncIterator[bytes]:
    """So many KiB, one after the other."""
    for _ in range(count):
        yield letter * KIB


async def test_upload_above_the_quota_is_refused_while_it_comes(
    database_url: str, clock: ManualClock
) -> None:
    """INV-STORE-49."""
    came = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal came
        while True:
            came += 1
            yield bytes(KIB)

    async with await Store.open(database_url, clock=clock, blob_bytes=LIMIT) as store:
        sha256, _ = await store.blobs.take(pieces(b"a", 600))
        with pytest.raises(QuotaExceeded, match=r"take 600\.0 KiB of the 700\.0 KiB") as refused:
            await store.blobs.take(endless())
        assert (refused.value.limit_bytes, refused.value.used_bytes) == (LIMIT, 600 * KIB)
        assert came == 101
        assert await store.blobs.total() == 600 * KIB
        # What is here already takes no more room, however often it comes.
        for _ in range(4):
            assert (await store.blobs.take(pieces(b"b", 45)))[1] == 45 * KIB
        await store.blobs.get(sha256)


async def test_uploads_at_the_same_time_share_what_is_left(
    tmp_path: Path, clock: ManualClock
) -> None:
    """INV-STORE-49."""
    blobs = BoundedBlobs(FolderBlobs(tmp_path, clock), LIMIT, clock)

    async def slowly(letter: bytes) -> AsyncIterator[bytes]:
        async for piece in pieces(letter, 400):
            await asyncio.sleep(0)
            yield piece

    outcomes = await asyncio.gather(
        *(blobs.take(slowly(letter)) for letter in (b"a", b"b")), return_exceptions=True
    )

    assert sorted(isinstance(one, QuotaExceeded) for one in outcomes) == [False, True]
    assert await blobs.total() == 400 * KIB


async def test_result_is_kept_above_the_quota_and_goes_with_its_task(
    database_url: str, clock: ManualClock
) -> None:
    """INV-STORE-49."""
    large = TaskResult(0, bytes(11 * ROW_BYTES), b"", 7, 11, 65536)
    handle = "ab" * 16
    async with await Store.open(
        database_url, clock=clock, blob_bytes=LIMIT, result_ttl_s=50.0
    ) as store:
        module, _ = await store.blobs.take(pieces(b"m", 1))
        task, waiting = [await store.tasks.create(TaskSpec(module=module)) for _ in range(2)]
        await store.apply([lease(task, handle), Reported(handle, large), Settled(handle)])
        assert await (await store.results.get(task.id)).stdout() == large.stdout
        with pytest.raises(QuotaExceeded):
            await store.blobs.take(pieces(b"n", 1))
        await clock.advance(BLOB_GRACE_S + 60)
        swept = await store.sweep()

        assert (swept.tasks, swept.blobs) == (1, 1)
        assert await store.blobs.get(module) == b"m" * KIB  # an open task names it
        await store.blobs.take(pieces(b"n", 1))
        await store.apply([Cancelled(waiting.id)])


async def test_what_others_delete_makes_room_in_a_minute(
    tmp_path: Path, clock: ManualClock
) -> None:
    """INV-STORE-49."""
    files = FolderBlobs(tmp_path, clock)
    blobs = BoundedBlobs(files, LIMIT, clock)
    await blobs.take(pieces(b"a", 650))
    await blobs.take(pieces(b"b", 1))
    with pytest.raises(QuotaExceeded):
        await blobs.take(pieces(b"c", 77))
    await files.sweep((), -1.0)
    with pytest.raises(QuotaExceeded):
        await blobs.take(pieces(b"c", 77))
    await clock.advance(61)

    sha256, _ = await blobs.take(pieces(b"c", 77))
    assert sha256 == hashlib.sha256(b"c" * 77 * KIB).hexdigest()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()
