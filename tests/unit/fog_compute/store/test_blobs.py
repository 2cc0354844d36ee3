"""Blobs are kept whole, once, or not at all: in files, and in rows of a database."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import delete, func, select

from fog_compute.errors import NotFound, StoreError, StoreUnusable
from fog_compute.store import BlobStore, schema
from fog_compute.store.blob_files import FolderBlobs
from fog_compute.store.blob_rows import RowBlobs
from fog_compute.store.dialects import Engines, database_at
from fog_compute.testing import ManualClock
from tests.postgres import PrivatePostgres

DAY_S = 86400.0


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def engines(postgres: PrivatePostgres) -> Iterator[Engines]:
    made = database_at(postgres.cleared()).engines()
    yield made
    made.dispose()


@pytest.fixture
def rows(engines: Engines, clock: ManualClock) -> RowBlobs:
    return RowBlobs(engines.visiting, clock)


@pytest.fixture(params=["folder", "postgres"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> BlobStore:
    if request.param == "folder":
        return FolderBlobs(tmp_path / "blobs", clock)
    made: BlobStore = request.getfixturevalue("rows")
    return made


def left(engines: Engines) -> tuple[int, int]:
    """How many blobs and pieces there are, with and without a name."""
    with engines.reading.connect() as connection:
        counts = [
            connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in (schema.blobs, schema.blob_pieces)
        ]
    return counts[0], counts[1]


async def coming(
    pieces: Sequence[bytes], error: BaseException | None = None
) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
    if error is not None:
        raise error


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "pieces", [[], [b""], [b"x"], [b"ab"] * 1000, [b"x" * 3_000_000], [b"y" * 700_000] * 5]
)
async def test_pieces_become_the_blob_that_they_are_together(
    blobs: BlobStore, pieces: list[bytes]
) -> None:
    """INV-STORE-06."""
    whole = b"".join(pieces)
    sha256, size = await blobs.take(coming(pieces))
    assert (sha256, size) == (hashlib.sha256(whole).hexdigest(), len(whole))
    assert await blobs.get(sha256) == whole
    assert await blobs.sizes([sha256]) == {sha256: size}
    assert await blobs.take(coming([whole])) == (sha256, size)
    assert await blobs.put(whole) == sha256
    assert await blobs.sweep((), -1) == 1


@pytest.mark.asyncio
async def test_a_part_of_a_blob_is_what_stands_there(blobs: BlobStore) -> None:
    """INV-STORE-06."""
    whole = bytes(number % 251 for number in range(1_300_000))
    sha256 = await blobs.put(whole)
    for start, stop in ((0, 0), (0, 5), (524_287, 524_289), (1_048_570, 1_300_000), (7, 1_299_999)):
        assert await blobs.read(sha256, range(start, stop)) == whole[start:stop]
    with pytest.raises(StoreUnusable, match="too short"):
        await blobs.read(sha256, range(1_299_999, 1_300_001))


@pytest.mark.asyncio
async def test_what_is_not_there_is_named(blobs: BlobStore) -> None:
    never = hashlib.sha256(b"never").hexdigest()
    kept = await blobs.put(b"kept")
    for asked in (
        blobs.get(never),
        blobs.read(never, range(1)),
        blobs.read(never, range(0)),
        blobs.sizes([kept, never]),
    ):
        with pytest.raises(NotFound, match=never):
            await asked


@pytest.mark.asyncio
@pytest.mark.parametrize("error", [RuntimeError("it broke off"), KeyboardInterrupt()])
async def test_what_breaks_off_leaves_nothing(blobs: BlobStore, error: BaseException) -> None:
    """INV-STORE-06."""
    with pytest.raises(type(error)):
        await blobs.take(coming([bytes(3_000_000)], error))
    assert await blobs.sweep((), -1) == 0


@pytest.mark.asyncio
async def test_who_puts_the_same_at_once_keeps_it_once(blobs: BlobStore) -> None:
    """INV-STORE-06."""
    same = b"same" * 400_000
    names = await asyncio.gather(
        *(blobs.put(same) for _ in range(3)), *(blobs.take(coming([same])) for _ in range(3))
    )
    sha256 = hashlib.sha256(same).hexdigest()
    assert set(names) == {sha256, (sha256, len(same))}
    assert await blobs.get(sha256) == same
    assert await blobs.sweep((), -1) == 1


@pytest.mark.asyncio
async def test_what_is_old_and_not_kept_is_swept(blobs: BlobStore, clock: ManualClock) -> None:
    """INV-STORE-06."""
    named, old, again = [await blobs.put(text) for text in (b"named", b"old", b"again")]
    await clock.advance(DAY_S + 1)
    fresh = await blobs.put(b"fresh")
    await blobs.put(b"again")
    assert await blobs.sweep([named], DAY_S) == 1
    assert set(await blobs.sizes([named, again, fresh])) == {named, again, fresh}
    with pytest.raises(NotFound):
        await blobs.get(old)


@pytest.mark.asyncio
async def test_rows_of_what_a_process_left_half_go_with_the_sweep(
    rows: RowBlobs, engines: Engines, clock: ManualClock
) -> None:
    async def lost() -> AsyncIterator[bytes]:
        yield bytes(2_000_000)
        assert left(engines) == (1, 2)
        await rows.sweep((), DAY_S)
        assert left(engines) == (1, 2)
        await clock.advance(DAY_S + 1)
        assert await rows.sweep((), DAY_S) == 1
        yield bytes(2_000_000)

    with pytest.raises(StoreError):
        await rows.take(lost())
    assert left(engines) == (0, 0)


@pytest.mark.asyncio
@pytest.mark.parametrize("number", [0, 1, 2])
async def test_a_blob_of_which_rows_are_gone_is_damaged(
    rows: RowBlobs, engines: Engines, number: int
) -> None:
    """INV-TASK-08."""
    sha256 = await rows.put(bytes(1_200_000))
    with engines.visiting.begin() as connection:
        connection.execute(delete(schema.blob_pieces).where(schema.blob_pieces.c.number == number))
    with pytest.raises(StoreUnusable, match="damaged"):
        await rows.get(sha256)


@pytest.mark.asyncio
async def test_a_blob_of_which_a_row_was_changed_is_damaged(
    rows: RowBlobs, engines: Engines
) -> None:
    """INV-TASK-08."""
    sha256 = await rows.put(b"good")
    with engines.visiting.begin() as connection:
        connection.execute(schema.blob_pieces.update().values(data=b"evil"))
    with pytest.raises(StoreUnusable, match="upload it again"):
        await rows.get(sha256)
