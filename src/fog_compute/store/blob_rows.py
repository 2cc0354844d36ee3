"""Blobs in the database itself, in pieces, for a database that several machines share."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterable, Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final, TypeVar

from sqlalchemy import Connection, Engine, delete, func, insert, select, update

from fog_compute.clock import Clock
from fog_compute.errors import StoreUnusable
from fog_compute.store import schema
from fog_compute.store.blobs import gathered, missing
from fog_compute.store.dialects import transact
from fog_compute.store.failures import refusals
from fog_compute.store.reader import in_parts
from fog_compute.tasks.model import check_sha256
from fog_compute.threads import in_thread
from fog_compute.units import KIB

__all__ = ["RowBlobs"]

PIECE_BYTES: Final = 512 * KIB
"""How much of a blob a row has."""
PIECES_AT_ONCE: Final = 8
"""Rows that are in memory at once beside a blob that is being put together."""
DELETED_AT_ONCE: Final = 500

_REFUSED: Final = "the blobs in the database cannot be used now"

T = TypeVar("T")


class RowBlobs:
    """Immutable byte strings under their hash, in rows.

    What comes in has a row without a name, and its pieces, until all of it is there; then it gets
    its name, in the transaction that returns.  What a process left half goes with the sweep.
    """

    __slots__ = ("_clock", "_engine")

    def __init__(self, engine: Engine, clock: Clock) -> None:
        """Write and read through ``engine``; date by ``clock``."""
        self._engine = engine
        self._clock = clock

    async def put(self, data: bytes) -> str:
        """See `BlobStore`."""
        sha256 = hashlib.sha256(data).hexdigest()
        await self._visit(partial(self._put, data, sha256))
        return sha256

    async def take(self, pieces: AsyncIterable[bytes]) -> tuple[str, int]:
        """See `BlobStore`."""
        whole, size, number = hashlib.sha256(), 0, 0
        blob = secrets.token_hex(16)
        try:
            await self._visit(partial(self._begin, blob))
            async for piece in gathered(pieces):
                whole.update(piece)
                size += len(piece)
                rows = list(_rows(blob, piece, number))
                number += len(rows)
                if rows:
                    await self._visit(partial(_add, rows))
            sha256 = whole.hexdigest()
            await self._visit(partial(self._name, blob, sha256, size))
        except BaseException:
            await self._visit(partial(_drop, [blob]))
            raise
        return sha256, size

    async def get(self, sha256: str) -> bytes:
        """See `BlobStore`."""
        size = (await self.sizes([sha256]))[sha256]
        data = await self._part(sha256, range(size))
        if (await in_thread(hashlib.sha256, data)).hexdigest() != sha256:
            raise StoreUnusable(f"blob {sha256} is damaged in the database: upload it again")
        return data

    async def read(self, sha256: str, at: range) -> bytes:
        """See `BlobStore`."""
        if not at:
            await self.sizes([sha256])
            return b""
        return await self._part(sha256, at)

    async def sizes(self, names: Collection[str]) -> Mapping[str, int]:
        """See `BlobStore`."""
        for name in names:
            check_sha256("the blob's name", name)
        found: dict[str, int] = {}
        for some in in_parts(names):
            found |= await self._visit(partial(_sizes, some))
        for name in names:
            if name not in found:
                raise missing(name)
        return found

    async def total(self) -> int:
        """See `BlobStore`."""
        query = select(func.coalesce(func.sum(schema.blobs.c.size), 0))
        return int(await self._visit(lambda one: one.execute(query).scalar_one()))

    async def sweep(self, keep: Collection[str], older_than_s: float) -> int:
        """See `BlobStore`."""
        limit = self._clock.now() - timedelta(seconds=older_than_s)
        columns = schema.blobs.c
        old = select(columns.id, columns.sha256).where(columns.put_at <= limit)
        kept = frozenset(keep)
        found = await self._visit(lambda one: one.execute(old).all())
        gone = [blob for blob, sha256 in found if sha256 not in kept]
        deleted = 0
        for first in range(0, len(gone), DELETED_AT_ONCE):
            some = gone[first : first + DELETED_AT_ONCE]
            deleted += await self._visit(partial(_drop_old, some, limit))
        return deleted

    async def redate(self, jump: timedelta) -> None:
        """Nothing: they are dated anew with all other rows."""

    def _put(self, data: bytes, sha256: str, connection: Connection) -> None:
        if self._dated(connection, sha256):
            return
        blob = secrets.token_hex(16)
        self._begin(blob, connection)
        rows = list(_rows(blob, data, 0))
        for first in range(0, len(rows), PIECES_AT_ONCE):
            _add(rows[first : first + PIECES_AT_ONCE], connection)
        self._name(blob, sha256, len(data), connection)

    def _begin(self, blob: str, connection: Connection) -> None:
        row = {"id": blob, "sha256": None, "size": 0, "put_at": self._clock.now()}
        connection.execute(insert(schema.blobs).values(row))

    def _name(self, blob: str, sha256: str, size: int, connection: Connection) -> None:
        """Name what has come; if another came before, that one stays."""
        if self._dated(connection, sha256):
            _drop([blob], connection)
            return
        columns = schema.blobs.c
        done = {"sha256": sha256, "size": size, "put_at": self._clock.now()}
        connection.execute(update(schema.blobs).where(columns.id == blob).values(done))

    def _dated(self, connection: Connection, sha256: str) -> bool:
        """Date a blob afresh, which protects it from the sweep, if it is here."""
        named = update(schema.blobs).where(schema.blobs.c.sha256 == sha256)
        return connection.execute(named.values(put_at=self._clock.now())).rowcount > 0

    async def _part(self, sha256: str, at: range) -> bytes:
        """Put a part together, a few rows at once."""
        check_sha256("the blob's name", sha256)
        first, last = at.start // PIECE_BYTES, (at.stop - 1) // PIECE_BYTES
        data = bytearray()
        for number in range(first, last + 1, PIECES_AT_ONCE):
            some = range(number, min(number + PIECES_AT_ONCE, last + 1))
            for piece in await self._visit(partial(_pieces, sha256, some)):
                data += piece
        begin = at.start - first * PIECE_BYTES
        part = bytes(data[begin : begin + len(at)])
        if len(part) != len(at):
            await self.sizes([sha256])  # or it was swept meanwhile
            raise StoreUnusable(f"blob {sha256} is damaged in the database: it is too short")
        return part

    async def _visit(self, work: Callable[[Connection], T]) -> T:
        with refusals(_REFUSED):
            return await in_thread(transact, self._engine, work)


def _rows(blob: str, data: bytes, number: int) -> Iterator[dict[str, object]]:
    """Cut bytes into rows, from ``number`` on; all but the last have `PIECE_BYTES`."""
    for start in range(0, len(data), PIECE_BYTES):
        piece = data[start : start + PIECE_BYTES]
        yield {"blob": blob, "number": number, "data": piece}
        number += 1


def _add(rows: Sequence[Mapping[str, object]], connection: Connection) -> None:
    connection.execute(insert(schema.blob_pieces), rows)


def _sizes(names: Sequence[str], connection: Connection) -> dict[str, int]:
    columns = schema.blobs.c
    query = select(columns.sha256, columns.size).where(columns.sha256.in_(names))
    return {str(sha256): size for sha256, size in connection.execute(query)}


def _drop(blobs: Sequence[str], connection: Connection) -> None:
    connection.execute(delete(schema.blobs).where(schema.blobs.c.id.in_(blobs)))


def _drop_old(blobs: Sequence[str], limit: datetime, connection: Connection) -> int:
    """Delete those of the blobs that were not put again meanwhile; return how many."""
    columns = schema.blobs.c
    old = delete(schema.blobs).where(columns.id.in_(blobs), columns.put_at <= limit)
    return connection.execute(old).rowcount


def _pieces(sha256: str, numbers: range, connection: Connection) -> Sequence[bytes]:
    pieces, blobs = schema.blob_pieces.c, schema.blobs.c
    query = (
        select(pieces.number, pieces.data)
        .join(schema.blobs, blobs.id == pieces.blob)
        .where(blobs.sha256 == sha256, pieces.number.between(numbers.start, numbers.stop - 1))
        .order_by(pieces.number)
    )
    found = connection.execute(query).all()
    # One that is not there would move all that follow it.
    whole = [number for number, _ in found] == list(numbers)
    return [data for _, data in found] if whole else []
