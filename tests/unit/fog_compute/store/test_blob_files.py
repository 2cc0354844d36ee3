"""Files of blobs: what a disk refuses, and what is left of it."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from fog_compute.clock import SystemClock
from fog_compute.errors import StoreError
from fog_compute.store import blob_files
from fog_compute.store.blob_files import FolderBlobs
from fog_compute.store.blobs import GATHERED_BYTES

pytestmark = pytest.mark.asyncio


async def coming(
    pieces: Sequence[bytes], error: BaseException | None = None
) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
    if error is not None:
        raise error


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


@pytest.fixture
def store(tmp_path: Path) -> FolderBlobs:
    return FolderBlobs(tmp_path / "blobs", SystemClock())


async def test_no_more_than_a_part_of_a_blob_is_in_memory(
    store: FolderBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    write = blob_files._Coming.write

    def counted(coming_in: blob_files._Coming, data: bytes) -> None:
        written.append(len(data))
        write(coming_in, data)

    monkeypatch.setattr(blob_files._Coming, "write", counted)
    await store.take(coming([bytes(70_000)] * 100))
    assert sum(written) == 7_000_000
    assert max(written) < GATHERED_BYTES + 70_000


@pytest.mark.parametrize("error", [RuntimeError("it broke off"), KeyboardInterrupt()])
async def test_what_breaks_off_leaves_nothing(
    store: FolderBlobs, tmp_path: Path, error: BaseException
) -> None:
    with pytest.raises(type(error)):
        await store.take(coming([bytes(3_000_000)], error))
    assert files(tmp_path) == []


@pytest.mark.parametrize("refused", ["write", "fsync", "open"])
async def test_a_disk_that_refuses_is_told_and_leaves_nothing(
    store: FolderBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if refused == "write":
        monkeypatch.setattr(blob_files._Coming, "write", refuse)
    elif refused == "fsync":
        monkeypatch.setattr(os, "fsync", refuse)
    else:
        (tmp_path / "blobs" / "new").write_bytes(b"")  # where a folder should be
    for keep in (store.take(coming([b"data"])), store.put(b"data")):
        with pytest.raises(StoreError):
            await keep
    assert [path for path in files(tmp_path) if path.name != "new"] == []


async def test_what_an_earlier_process_left_half_is_gone(
    store: FolderBlobs, tmp_path: Path
) -> None:
    left = tmp_path / "blobs" / "new" / ".new-0123"
    left.parent.mkdir()
    left.write_bytes(b"half")
    FolderBlobs(tmp_path / "blobs", SystemClock())
    assert not left.exists()
