"""Reading results: the head at once, and outputs one by one."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import Engine, select

from fog_compute.errors import NotFound, StoreError
from fog_compute.store import schema
from fog_compute.store.blobs import BlobStore
from fog_compute.store.damage import Damaged, Damages, RowDamaged
from fog_compute.store.reader import Reader
from fog_compute.store.rows import BROKEN
from fog_compute.tasks.result import ResultHead, parse_head


@dataclass(frozen=True, slots=True)
class StoredResult:
    """A result as it is kept: the head is here, its outputs are read one by one.

    A part of one that is swept meanwhile raises `NotFound`.
    """

    head: ResultHead
    receipt: bytes
    _body_at: int
    _data: bytes = field(repr=False)
    _blob: str | None
    _blobs: BlobStore

    async def stdout(self) -> bytes:
        """Return what the task wrote to standard output."""
        return await self.read(self.head.stdout_at)

    async def stderr(self) -> bytes:
        """Return what the task wrote to standard error."""
        return await self.read(self.head.stderr_at)

    async def file(self, path: str) -> bytes:
        """Return the content of a file that the task left, or raise `NotFound`."""
        return await self.read(self.head.file_at(path))

    async def read(self, at: range) -> bytes:
        """Return these bytes behind the head; see `ResultHead` for what is where."""
        where = range(self._body_at + at.start, self._body_at + at.stop)
        if self._blob is None:
            return self._data[where.start : where.stop]
        return await self._blobs.read(self._blob, where)


class Results(Reader):
    """Results, until their time to live ends."""

    __slots__ = ("_blobs",)

    def __init__(self, engine: Engine, damages: Damages, blobs: BlobStore) -> None:
        """Read from ``engine``, and large ones from ``blobs``."""
        super().__init__(engine, damages)
        self._blobs = blobs

    async def get(self, task_id: str) -> StoredResult:
        """Return the result of a task's settled or last reported attempt.

        Raises:
            NotFound: there is none, or no longer.
            RowDamaged: it cannot be read.
        """
        query = (
            select(schema.results.c.data, schema.results.c.blob, schema.results.c.receipt)
            .join(schema.attempts, schema.attempts.c.handle == schema.results.c.handle)
            .where(schema.results.c.task_id == task_id)
            .order_by(schema.attempts.c.number.desc())
            .limit(1)
        )
        try:
            rows = await self.rows(query)
            if not rows:
                raise NotFound(f"task {task_id} has no result, or none any more")
            head, body_at = parse_head(rows[0]["data"])
        except (NotFound, StoreError):
            raise
        except BROKEN as err:
            damaged = RowDamaged(Damaged.of("results", task_id, err))
            self._damages.note(damaged.row)
            raise damaged from err
        return StoredResult(
            head, rows[0]["receipt"], body_at, rows[0]["data"], rows[0]["blob"], self._blobs
        )
