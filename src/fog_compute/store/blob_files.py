"""Blobs as files named by their SHA-256: written aside, flushed, then renamed into place."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import AsyncIterable, Callable, Collection, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from fog_compute.clock import Clock
from fog_compute.errors import NotFound, StoreError, StoreUnusable
from fog_compute.layout import MAX_BLOB_BYTES
from fog_compute.reading import open_state, read_state
from fog_compute.store.blobs import gathered, missing
from fog_compute.tasks.model import check_sha256
from fog_compute.threads import in_thread
from fog_compute.writing import sync

COMING: Final = "new"
"""The folder of what has no name yet."""

P = ParamSpec("P")
T = TypeVar("T")


class FolderBlobs:
    """Immutable byte strings under their hash.  A blob that has a name is whole and on disk."""

    __slots__ = ("_clock", "_root")

    def __init__(self, root: Path, clock: Clock) -> None:
        """Use the folder ``root``; made readable by its owner alone.

        Files are dated by ``clock``: the kernel would date them by a clock that may jump.
        """
        self._root = root
        self._clock = clock
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        for leftover in root.glob("*/.new-*"):
            leftover.unlink(missing_ok=True)

    async def put(self, data: bytes) -> str:
        """See `BlobStore`."""
        return await _beside(self._put, data)

    async def take(self, pieces: AsyncIterable[bytes]) -> tuple[str, int]:
        """See `BlobStore`."""
        coming = await _beside(_Coming, self._root / COMING)
        try:
            async for piece in gathered(pieces):
                await _beside(coming.write, piece)
            return await _beside(self._keep, coming), coming.size
        finally:
            await _beside(coming.close)

    async def get(self, sha256: str) -> bytes:
        """See `BlobStore`."""
        return await _beside(self._get, sha256)

    async def read(self, sha256: str, at: range) -> bytes:
        """See `BlobStore`."""
        return await _beside(self._read, sha256, at)

    async def sizes(self, names: Collection[str]) -> Mapping[str, int]:
        """See `BlobStore`."""
        return {name: self._size(name) for name in sorted(names)}

    async def total(self) -> int:
        """See `BlobStore`."""
        return await _beside(self._total)

    async def sweep(self, keep: Collection[str], older_than_s: float) -> int:
        """See `BlobStore`."""
        return await _beside(self._sweep, frozenset(keep), older_than_s)

    async def redate(self, jump: timedelta) -> None:
        """See `BlobStore`."""
        await _beside(self._redate, jump.total_seconds())

    def _size(self, sha256: str) -> int:
        try:
            return self._path(sha256).stat().st_size
        except FileNotFoundError:
            raise self._missing(sha256) from None
        except OSError as err:
            raise StoreError(f"blob {sha256} cannot be read: {err.strerror}") from err

    def _path(self, sha256: str) -> Path:
        check_sha256("the blob's name", sha256)
        return self._root / sha256[:2] / sha256[2:]

    def _put(self, data: bytes) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        coming: _Coming | None = None
        try:
            if self._dated(sha256):
                return sha256
            coming = _Coming(self._root / COMING)
            coming.write(data)
            return self._keep(coming)
        except OSError as err:
            raise StoreError(
                f"a blob of {len(data)} bytes could not be kept in {self._root}: {err.strerror}"
            ) from err
        finally:
            if coming is not None:
                coming.close()

    def _keep(self, coming: _Coming) -> str:
        """Give what has come its name, durably; return that."""
        sha256 = coming.sha256
        if self._dated(sha256):
            return sha256
        path = self._path(sha256)
        path.parent.mkdir(exist_ok=True, mode=0o700)
        os.fsync(coming.file.fileno())
        self._date(coming.path)
        coming.path.replace(path)
        for folder in (path.parent, self._root):
            sync(folder)
        return sha256

    def _dated(self, sha256: str) -> bool:
        """Date a blob afresh, which protects it from the sweep, if it is here."""
        with contextlib.suppress(FileNotFoundError):
            self._date(self._path(sha256))
            return True
        return False

    def _get(self, sha256: str) -> bytes:
        try:
            data = read_state(self._path(sha256), MAX_BLOB_BYTES)
        except FileNotFoundError:
            raise self._missing(sha256) from None
        except OSError as err:
            raise StoreError(f"blob {sha256} cannot be read: {err.strerror}") from err
        if hashlib.sha256(data).hexdigest() != sha256:
            raise StoreUnusable(f"blob {sha256} is damaged on disk: upload it again")
        return data

    def _read(self, sha256: str, at: range) -> bytes:
        try:
            with open_state(self._path(sha256)) as descriptor:
                data = os.pread(descriptor, len(at), at.start)
        except FileNotFoundError:
            raise self._missing(sha256) from None
        except OSError as err:
            raise StoreError(f"blob {sha256} cannot be read: {err.strerror}") from err
        if len(data) != len(at):
            raise StoreUnusable(f"blob {sha256} is damaged on disk: it is too short")
        return data

    def _missing(self, sha256: str) -> NotFound | StoreError:
        """Why a blob is not there: a folder that was moved, or whose disk is away, has none."""
        if not self._root.is_dir():
            return StoreError(f"the folder {self._root} is gone: bring it back, or start again")
        return missing(sha256)

    def _date(self, path: Path) -> None:
        now = self._clock.now().timestamp()
        os.utime(path, (now, now))

    def _redate(self, seconds: float) -> None:
        for path in self._root.glob("??/*"):
            with contextlib.suppress(OSError):  # then it keeps its date, and may go too early
                date = path.stat().st_mtime + seconds
                os.utime(path, (date, date))

    def _total(self) -> int:
        total = 0
        for path in self._root.glob("??/*"):
            with contextlib.suppress(FileNotFoundError):  # half a blob, or swept meanwhile
                total += path.stat().st_size
        return total

    def _sweep(self, keep: frozenset[str], older_than_s: float) -> int:
        deleted = 0
        limit = self._clock.now().timestamp() - older_than_s
        for path in self._root.glob("??/*"):
            if path.parent.name + path.name in keep:
                continue
            with contextlib.suppress(FileNotFoundError):  # half a blob, whole by now
                if path.stat().st_mtime <= limit:
                    path.unlink()
                    deleted += 1
        return deleted


class _Coming:
    """A blob on its way in: a file without its name yet."""

    __slots__ = ("_hash", "file", "path", "size")

    def __init__(self, folder: Path) -> None:
        """Open a new file in ``folder``."""
        folder.mkdir(exist_ok=True, mode=0o700)
        self.path: Final = folder / f".new-{os.urandom(8).hex()}"
        self.file: Final = self.path.open("xb", buffering=0)
        self._hash: Final = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        """The name of what has come so far."""
        return self._hash.hexdigest()

    def write(self, data: bytes) -> None:
        """Add some bytes, all of them."""
        self._hash.update(data)
        self.size += len(data)
        left = memoryview(data)
        while left:
            left = left[self.file.write(left) :]

    def close(self) -> None:
        """Let go; what got no name is gone."""
        self.file.close()
        self.path.unlink(missing_ok=True)


async def _beside(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do what may wait for a disk in a thread; what the machine refuses is a `StoreError`."""
    try:
        return await in_thread(work, *args, **kwargs)
    except OSError as err:
        raise StoreError(f"the blobs cannot be used now: {err.strerror}") from err
