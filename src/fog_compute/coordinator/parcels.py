"""A task's blobs as its worker knows them: sealed once for each session, and off the event loop."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from fog_compute.coordinator.sessions import Session
from fog_compute.errors import StoreError
from fog_compute.store import BlobStore
from fog_compute.tasks import TaskSpec
from fog_compute.tasks.sealing import SealedBlob, seal_blob
from fog_compute.threads import in_thread
from fog_compute.units import KIB, MIB

__all__ = ["AT_ONCE_BYTES", "Blobs", "SealedTask"]

AT_ONCE_BYTES: Final = 64 * KIB  # sealed in less time than a thread needs
KEPT_BYTES: Final = 64 * MIB
"""What is kept of sealed blobs between their naming and the moment when a worker asks for them."""


@dataclass(frozen=True, slots=True)
class SealedTask:
    """The names of a task's blobs in its session.

    Attributes:
        module, stdin, inputs: as in the task, by reference.
        sha256_of: what each reference stands for.
        size: bytes of all of them, sealed.
    """

    module: bytes
    stdin: bytes | None
    inputs: dict[str, bytes]
    sha256_of: dict[bytes, str] = field(repr=False)
    size: int


class Blobs:
    """Seals blobs of the store for sessions."""

    __slots__ = ("_kept", "_kept_bytes", "_store")

    def __init__(self, store: BlobStore) -> None:
        """Read from ``store``."""
        self._store: Final = store
        self._kept: Final[OrderedDict[bytes, SealedBlob]] = OrderedDict()
        self._kept_bytes = 0

    async def name(self, session: Session, spec: TaskSpec) -> SealedTask:
        """Name a task's blobs; what the session has named before is not read again.

        Raises:
            NotFound: a blob is gone.
            StoreError: one cannot be read or sealed now.
        """
        if any(sha256 not in session.sealed for sha256 in spec.blobs):
            async with session.seal_lock:  # tasks of one module come together
                for sha256 in spec.blobs:
                    if sha256 not in session.sealed:
                        blob = await self._seal(session, sha256)
                        session.sealed[sha256] = (blob.ref, len(blob.data))
                        self._keep(blob)
        refs = {sha256: session.sealed[sha256] for sha256 in spec.blobs}
        return SealedTask(
            module=refs[spec.module][0],
            stdin=None if spec.stdin is None else refs[spec.stdin][0],
            inputs={path: refs[sha256][0] for path, sha256 in spec.inputs.items()},
            sha256_of={ref: sha256 for sha256, (ref, _) in refs.items()},
            size=sum(size for _, size in refs.values()),
        )

    async def sealed(self, session: Session, ref: bytes, sha256: str) -> bytes:
        """Return a blob as it travels; it is sealed again only if it was not asked for in time."""
        blob = self._kept.get(ref)
        if blob is None:
            blob = await self._seal(session, sha256)
            self._keep(blob)
        return blob.data

    def drop(self, ref: bytes) -> None:
        """Keep a blob no longer, because its worker has it."""
        if (blob := self._kept.pop(ref, None)) is not None:
            self._kept_bytes -= len(blob.data)

    def _keep(self, blob: SealedBlob) -> None:
        self.drop(blob.ref)
        self._kept[blob.ref] = blob
        self._kept_bytes += len(blob.data)
        while self._kept_bytes > KEPT_BYTES and len(self._kept) > 1:
            self.drop(next(iter(self._kept)))

    async def _seal(self, session: Session, sha256: str) -> SealedBlob:
        data = await self._store.get(sha256)
        if len(data) <= AT_ONCE_BYTES:
            return seal_blob(session.blob_key, data)
        try:
            return await in_thread(seal_blob, session.blob_key, data)
        except OSError as error:
            raise StoreError(f"blob {sha256} cannot be sealed now: {error.strerror}") from error
