"""Blobs within a quota: what comes from outside is counted while it comes, and refused above it.

A result is never refused, for it would be lost; it counts all the same. Nothing is deleted to make
room: what tasks name stays until they go.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from fog_compute.clock import Clock
from fog_compute.errors import QuotaExceeded
from fog_compute.store.blobs import BlobStore
from fog_compute.units import format_bytes

__all__ = ["BoundedBlobs"]

RECOUNT_S: Final = 60.0
"""How long it is believed that nobody else added or deleted anything."""


@dataclass(slots=True)
class _Coming:
    """An upload that is under way."""

    size: int = 0


class BoundedBlobs:
    """A `BlobStore` that takes uploads only as long as all blobs together have no more bytes.

    How much they have is counted when it decides something, and otherwise only added up: the same
    bytes that come again are kept once, which the sum does not know.
    """

    __slots__ = (
        "_added",
        "_blobs",
        "_clock",
        "_coming",
        "_counted",
        "_counted_at",
        "_judging",
        "_limit",
    )

    def __init__(self, blobs: BlobStore, limit: int, clock: Clock) -> None:
        """Let ``blobs`` have ``limit`` bytes."""
        self._blobs: Final = blobs
        self._limit: Final = limit
        self._clock: Final = clock
        self._counted = 0
        self._counted_at: float | None = None
        self._added = 0  # since then, perhaps
        self._coming = 0
        self._judging: Final = asyncio.Lock()

    async def put(self, data: bytes) -> str:
        """See `BlobStore`; whatever else is here."""
        self._added += len(data)
        return await self._blobs.put(data)

    async def take(self, pieces: AsyncIterable[bytes]) -> tuple[str, int]:
        """See `BlobStore`.

        Raises:
            QuotaExceeded: it does not fit; none of it is kept.
        """
        coming = _Coming()
        try:
            sha256, size = await self._blobs.take(self._within(pieces, coming))
            self._added += size
            return sha256, size
        finally:
            self._coming -= coming.size

    async def get(self, sha256: str) -> bytes:
        """See `BlobStore`."""
        return await self._blobs.get(sha256)

    async def read(self, sha256: str, at: range) -> bytes:
        """See `BlobStore`."""
        return await self._blobs.read(sha256, at)

    async def sizes(self, names: Collection[str]) -> Mapping[str, int]:
        """See `BlobStore`."""
        return await self._blobs.sizes(names)

    async def total(self) -> int:
        """See `BlobStore`."""
        return await self._blobs.total()

    async def sweep(self, keep: Collection[str], older_than_s: float) -> int:
        """See `BlobStore`."""
        self._counted_at = None
        return await self._blobs.sweep(keep, older_than_s)

    async def redate(self, jump: timedelta) -> None:
        """See `BlobStore`."""
        await self._blobs.redate(jump)

    async def _within(self, pieces: AsyncIterable[bytes], coming: _Coming) -> AsyncIterator[bytes]:
        async for piece in pieces:
            self._coming += len(piece)
            coming.size += len(piece)
            if self._sum > self._limit or self._counted_at is None:
                async with self._judging:
                    await self._judge(coming)
            yield piece

    @property
    def _sum(self) -> int:
        return self._counted + self._added + self._coming

    async def _judge(self, coming: _Coming) -> None:
        """Count what is here, unless nothing can have changed, and refuse what is too much.

        One is refused at a time: what it leaves may be enough for the others.
        """
        now = self._clock.monotonic()
        known = self._counted_at is not None and now - self._counted_at < RECOUNT_S
        if not known or self._added:
            self._counted_at, self._added = now, 0
            self._counted = await self._blobs.total()
        if self._sum > self._limit:
            self._coming -= coming.size
            coming.size = 0
            raise QuotaExceeded(
                f"modules, inputs and large results take {format_bytes(self._counted)} of the"
                f" {format_bytes(self._limit)} that they may have here, and this upload does not"
                " fit: they go with their tasks, FOG_RESULT_TTL_S after the end of each, and"
                " FOG_BLOB_BYTES lets more stay",
                limit_bytes=self._limit,
                used_bytes=self._counted,
            )
