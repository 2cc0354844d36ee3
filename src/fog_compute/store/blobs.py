"""Blobs: immutable byte strings under their SHA-256, wherever a database has them."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Collection, Mapping
from datetime import timedelta
from typing import Final, Protocol

from fog_compute.errors import NotFound
from fog_compute.units import MIB

__all__ = ["GATHERED_BYTES", "BlobStore", "gathered", "missing"]

GATHERED_BYTES: Final = MIB
"""What is written at once of what comes in small pieces."""


class BlobStore(Protocol):
    """Where modules, inputs and large results are.  A blob that has a name is whole and on disk."""

    async def put(self, data: bytes) -> str:
        """Keep ``data`` durably and return its SHA-256 in hex.  Cancelled: kept or not, never half.

        Raises:
            StoreError: the disk or the database refused.
        """
        ...

    async def take(self, pieces: AsyncIterable[bytes]) -> tuple[str, int]:
        """Keep durably what comes in pieces, however much; return its SHA-256 and its size.

        Cancelled, or if the pieces end in an error: none of it is kept.

        Raises:
            StoreError: the disk or the database refused.
        """
        ...

    async def get(self, sha256: str) -> bytes:
        """Return a blob.

        Raises:
            NotFound: there is none of that name.
            StoreUnusable: it is damaged.
            StoreError: it cannot be read now.
        """
        ...

    async def read(self, sha256: str, at: range) -> bytes:
        """Return a part of a blob; who asks for a part takes it as it is.

        Raises:
            NotFound: there is none of that name.
            StoreUnusable: it is too short.
            StoreError: it cannot be read now.
        """
        ...

    async def sizes(self, names: Collection[str]) -> Mapping[str, int]:
        """Return the sizes of blobs in bytes, all that are named.

        Raises:
            NotFound: there is none of one of the names.
            StoreError: they cannot be looked at now.
        """
        ...

    async def total(self) -> int:
        """Return how many bytes all blobs have.

        Raises:
            StoreError: they cannot be looked at now.
        """
        ...

    async def sweep(self, keep: Collection[str], older_than_s: float) -> int:
        """Delete blobs that are not in ``keep`` and were last put longer ago; return how many.

        Raises:
            StoreError: they cannot be looked at now.
        """
        ...

    async def redate(self, jump: timedelta) -> None:
        """Move the dates of all blobs, as a clock that jumped would have written them.

        Raises:
            StoreError: they cannot be looked at now.
        """
        ...


async def gathered(pieces: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """Yield what comes as pieces of `GATHERED_BYTES`; the last has what is left, or nothing."""
    waiting = bytearray()
    async for piece in pieces:
        waiting += piece
        while len(waiting) >= GATHERED_BYTES:
            yield bytes(waiting[:GATHERED_BYTES])
            del waiting[:GATHERED_BYTES]
    yield bytes(waiting)


def missing(sha256: str) -> NotFound:
    """Return the error of a name that stands for nothing."""
    return NotFound(f"there is no blob {sha256}: upload it first")
