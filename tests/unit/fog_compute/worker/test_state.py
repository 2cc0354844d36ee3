"""What a worker keeps on disk: its journal, its cache, and folders that must go."""

from __future__ import annotations

import asyncio
import functools
import os
import random
import resource
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fog_compute.errors import InvalidTask
from fog_compute.tasks.result import result_id
from fog_compute.tasks.sealing import BadBlob, blob_ref
from fog_compute.testing import ManualClock
from fog_compute.worker.cache import BlobCache, BlobGone, CacheFull
from fog_compute.worker.folders import remove_tree
from fog_compute.worker.journal import PIECE_BYTES, Journal, JournalUnusable
from fog_compute.worker.shares import NOBODY

A, B, C = b"a" * 16, b"b" * 16, b"c" * 16


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY_S = 86400.0


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(EPOCH)


@pytest.fixture
def journal(tmp_path: Path, clock: ManualClock) -> Iterator[Journal]:
    opened = Journal(tmp_path / "attempts.db", clock)
    yield opened
    opened.close()


@pytest.mark.asyncio
async def test_a_result_is_there_after_reopening(tmp_path: Path) -> None:
    """INV-TASK-14."""
    journal = Journal(tmp_path / "attempts.db")
    await journal.finish(A, NOBODY, b"result", release_at=5.0, expires_at=100.0)
    journal.close()
    again = Journal(tmp_path / "attempts.db")
    kept = again.get(A, 2, 3)
    assert kept is not None
    assert (kept.piece, kept.total, kept.release_at) == (b"sul", 6, 5.0)
    assert kept.result_id == result_id(b"result")
    assert again.kept_bytes == 6
    assert (again.knows(A), again.knows(B)) == (True, False)
    assert again.get(B, 0, 10) is None
    again.close()


@pytest.mark.asyncio
async def test_any_part_of_a_result_can_be_read(journal: Journal) -> None:
    """INV-TASK-10."""
    body = random.Random(1).randbytes(2 * PIECE_BYTES + 10)
    await journal.finish(A, NOBODY, body, 0.0, 100.0)
    for offset in (0, 1, PIECE_BYTES - 1, PIECE_BYTES, 2 * PIECE_BYTES + 9, len(body), 2**70):
        for length in (0, 1, PIECE_BYTES, PIECE_BYTES + 1, len(body)):
            kept = journal.get(A, offset, length)
            assert kept is not None
            assert kept.piece == body[offset : offset + length]


@pytest.mark.asyncio
async def test_the_first_result_of_a_handle_stays(journal: Journal) -> None:
    """INV-TASK-09."""
    await journal.finish(A, NOBODY, b"first", 0.0, 100.0)
    await journal.finish(A, NOBODY, b"second!", 0.0, 100.0)
    kept = journal.get(A, 0, 100)
    assert kept is not None
    assert kept.piece == b"first"
    assert journal.kept_bytes == 5


@pytest.mark.asyncio
async def test_a_forgotten_attempt_is_over_until_it_expires(
    journal: Journal, clock: ManualClock
) -> None:
    """INV-TASK-09."""
    await journal.finish(A, NOBODY, b"result", 0.0, 100.0)
    await journal.forget([A, B], 50.0)
    for handle in (A, B):
        assert journal.over(handle)
        assert journal.get(handle, 0, 10) is None
    assert journal.kept_bytes == 0
    assert not journal.over(C)
    await clock.advance(49.0)
    assert await journal.expire() == 0
    await clock.advance(1.0)
    assert await journal.expire() == 2
    assert not journal.over(A)


@pytest.mark.asyncio
async def test_attempts_that_end_before_they_come_are_remembered_in_a_bounded_number(
    tmp_path: Path, journal: Journal, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-TASK-09."""
    monkeypatch.setattr("fog_compute.worker.journal.EARLY_REMEMBERED", 2)
    await journal.forget([], 50.0, early=[A])
    await journal.forget([], 50.0, early=[A, B, C])
    again = Journal(tmp_path / "attempts.db")
    assert [again.over(handle) for handle in (A, B, C)] == [False, True, True]
    again.close()
    await clock.advance(50.0)
    assert await journal.expire() == 2
    assert not journal.over(C)


@pytest.mark.asyncio
async def test_what_ends_is_over_at_once_and_stays_so_when_nobody_waits(journal: Journal) -> None:
    """INV-TASK-09, INV-TASK-14."""
    body = bytes(2**20)
    finishing = asyncio.create_task(journal.finish(A, NOBODY, body, 0.0, 100.0))
    await asyncio.sleep(0)
    ending = asyncio.create_task(journal.forget([B], 50.0))
    await asyncio.sleep(0)
    assert not ending.done()
    assert journal.over(B)
    finishing.cancel()
    await asyncio.wait({finishing, ending})
    assert finishing.cancelled()
    assert journal.over(B)
    assert journal.kept_bytes == len(body)


@pytest.mark.asyncio
async def test_a_result_that_nobody_fetches_expires(journal: Journal, clock: ManualClock) -> None:
    await journal.finish(A, NOBODY, b"result", 0.0, 100.0)
    await clock.advance(100.0)
    assert await journal.expire() == 1
    assert (journal.get(A, 0, 1), journal.kept_bytes) == (None, 0)


@pytest.mark.asyncio
@pytest.mark.parametrize("rebooted", [False, True])
@pytest.mark.parametrize("jump", [sign * s for s in (1.0, 3600.0, 30 * DAY_S) for sign in (-1, 1)])
async def test_a_jump_of_the_wall_clock_between_two_runs_hides_no_result_and_deletes_none(
    tmp_path: Path, clock: ManualClock, jump: float, rebooted: bool
) -> None:
    """INV-TASK-28."""
    path = tmp_path / "attempts.db"
    before = Journal(path, clock)
    await before.finish(A, NOBODY, b"result", before.now() + 7.0, before.now() + DAY_S)
    await before.forget([B], before.now() + DAY_S)
    before.close()
    if rebooted:
        clock.reboot()
    clock.jump(jump)
    after = Journal(path, clock)
    assert await after.expire() == 0
    assert after.over(B)
    kept = after.get(A, 0, 100)
    assert kept is not None
    await clock.advance(7.0)
    assert kept.release_at <= after.now()
    await clock.advance(DAY_S)
    assert await after.expire() == 2
    after.close()


@pytest.mark.asyncio
async def test_time_in_which_a_worker_is_not_there_counts_within_a_boot(
    tmp_path: Path, clock: ManualClock
) -> None:
    """INV-TASK-28."""
    path = tmp_path / "attempts.db"
    before = Journal(path, clock)
    await before.finish(A, NOBODY, b"result", before.now(), before.now() + DAY_S)
    before.close()
    await clock.advance(DAY_S + 1.0)
    after = Journal(path, clock)
    assert await after.expire() == 1
    after.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("begin", [0, 4096])
async def test_a_damaged_journal_is_begun_anew(tmp_path: Path, begin: int) -> None:
    """INV-TASK-14: what was in it is unknown, not wrong."""
    path = tmp_path / "attempts.db"
    before = Journal(path)
    await before.finish(A, NOBODY, b"x" * 100_000, 0.0, 1.0)
    before.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:begin] + b"no database" * (len(whole) // 11))
    journal = Journal(path)
    assert journal.get(A, 0, 1) is None
    await journal.finish(A, NOBODY, b"x", 0.0, 1.0)
    assert journal.knows(A)
    journal.close()


@pytest.mark.asyncio
async def test_a_journal_that_cannot_be_opened_now_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-TASK-14."""
    path = tmp_path / "attempts.db"
    before = Journal(path)
    await before.finish(A, NOBODY, b"result", 0.0, 1.0)
    before.close()
    other = sqlite3.connect(path)
    other.execute("PRAGMA locking_mode=EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    with monkeypatch.context() as impatient:
        impatient.setattr("sqlite3.connect", functools.partial(sqlite3.connect, timeout=0))
        with pytest.raises(JournalUnusable, match="locked"):
            Journal(path)
    other.close()
    after = Journal(path)
    assert after.knows(A)
    after.close()


@pytest.mark.asyncio
async def test_a_full_disk_is_told_and_keeps_nothing(journal: Journal) -> None:
    """INV-TASK-14."""
    await journal.finish(A, NOBODY, b"result", 0.0, 1.0)
    pages = journal._writing.execute("PRAGMA page_count").fetchone()[0]
    journal._writing.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(JournalUnusable, match="full"):
        await journal.finish(B, NOBODY, bytes(2**20), 0.0, 1.0)
    assert (journal.knows(A), journal.knows(B), journal.kept_bytes) == (True, False, 6)


def blob(text: str) -> tuple[bytes, bytes]:
    data = text.encode() * 100
    return blob_ref(data), data


@pytest.mark.asyncio
async def test_a_blob_is_kept_only_under_its_hash(tmp_path: Path) -> None:
    """INV-TASK-12."""
    cache = BlobCache(tmp_path / "blobs", 10_000)
    ref, data = blob("x")
    with pytest.raises(BadBlob, match="hash"):
        await cache.put(bytes(32), data)
    assert not cache.has(bytes(32))
    await cache.put(ref, data)
    await cache.put(ref, data)
    assert (cache.has(ref), cache.size(ref)) == (True, 100)
    assert await cache.get(ref) == data
    with pytest.raises(BlobGone, match="cannot be read"):
        await cache.get(bytes(32))


@pytest.mark.asyncio
async def test_the_least_recently_used_blob_goes_and_pinned_ones_stay(tmp_path: Path) -> None:
    cache = BlobCache(tmp_path / "blobs", 300)
    blobs = dict(blob(c) for c in "abcde")
    a, b, c, d, e = blobs
    for ref in (a, b, c):
        await cache.put(ref, blobs[ref])
    await cache.get(a)
    cache.pin([b])
    await cache.put(d, blobs[d])
    assert [cache.has(ref) for ref in (a, b, c, d)] == [True, True, False, True]
    cache.pin([a, d])
    with pytest.raises(CacheFull, match="no room"):
        await cache.put(e, blobs[e])
    cache.unpin([a, b, d])
    await cache.put(e, blobs[e])
    assert not cache.has(b)
    assert sum(path.stat().st_size for path in (tmp_path / "blobs").iterdir()) == 300
    big, data = blob("four")
    with pytest.raises(InvalidTask, match="larger"):
        await cache.put(big, data)


@pytest.mark.asyncio
async def test_a_cache_is_found_again_in_the_order_of_use(tmp_path: Path) -> None:
    folder = tmp_path / "blobs"
    cache = BlobCache(folder, 300)
    blobs = dict(blob(c) for c in "abcd")
    a, b, c, d = blobs
    for age, ref in enumerate((a, b, c)):
        await cache.put(ref, blobs[ref])
        os.utime(folder / ref.hex(), (age, age))
    (folder / "new-123").write_bytes(b"half")
    await cache.get(a)
    again = BlobCache(folder, 300)
    assert not (folder / "new-123").exists()
    await again.put(d, blobs[d])
    assert [again.has(ref) for ref in (a, b, c, d)] == [True, False, True, True]


@pytest.mark.asyncio
async def test_a_blob_that_was_taken_away_is_missed_and_taken_again(tmp_path: Path) -> None:
    cache = BlobCache(tmp_path / "blobs", 300)
    ref, data = blob("a")
    await cache.put(ref, data)
    (tmp_path / "blobs" / ref.hex()).unlink()
    with pytest.raises(BlobGone):
        await cache.get(ref)
    assert not cache.has(ref)
    await cache.put(ref, data)
    assert await cache.get(ref) == data


@pytest.mark.asyncio
async def test_a_blob_that_cannot_be_opened_for_a_while_is_still_there(tmp_path: Path) -> None:
    cache = BlobCache(tmp_path / "blobs", 300)
    ref, data = blob("a")
    await cache.put(ref, data)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(BlobGone, match="Too many open files"):
            await cache.get(ref)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert cache.has(ref)
    assert await cache.get(ref) == data


def test_a_folder_deeper_than_any_path_is_removed(tmp_path: Path) -> None:
    """INV-TASK-18: a guest can nest folders; cleaning up behind it must not fail."""
    root = tmp_path / "deep"
    root.mkdir()
    (tmp_path / "outside").write_text("stays")
    (root / "link").symlink_to(tmp_path / "outside")
    descriptor = os.open(root, os.O_RDONLY)
    for _ in range(
        1200
    ):  # 1200 names of 3 bytes and a slash are more than PATH_MAX and the recursion limit
        os.mkdir("dir", dir_fd=descriptor)
        os.close(os.open("file", os.O_CREAT, dir_fd=descriptor))
        nested = os.open("dir", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = nested
    os.close(descriptor)
    remove_tree(root)
    assert not root.exists()
    assert (tmp_path / "outside").read_text() == "stays"
    remove_tree(root)
