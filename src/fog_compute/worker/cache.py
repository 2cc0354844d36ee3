"""Ciphertexts that coordinators sent, on disk, by their hash.

The names are hashes of ciphertexts under session keys, so what lies here tells nobody who else
runs what.  The cache never grows beyond its bound; blobs of attempts in hand are pinned.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections import Counter, deque
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from fog_compute.errors import FogError, InvalidTask
from fog_compute.tasks.sealing import BadBlob, blob_ref
from fog_compute.worker.shares import NOBODY, Owner, furthest_above
from fog_compute.worker.threads import beside

_SHORT: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""What an attempt to read a file fails for that is there all the same."""


class CacheFull(FogError):
    """No room now: everything that could go is pinned, or the disk refuses."""


class BlobGone(FogError):
    """What was here cannot be read, if only now: the worker's fault, and not the sender's."""


class BlobCache:
    """A bounded folder of ciphertexts; the least recently used go first."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        """Use ``folder``, up to ``limit_bytes``; what an earlier process left is kept."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._limit = limit_bytes
        self._pins: Counter[bytes] = Counter()
        self._lock = asyncio.Lock()
        self._sizes: dict[bytes, int] = {}  # least recently used first
        self._owners: dict[bytes, Owner] = {}  # of those that came since the start
        found = []
        for path in folder.iterdir():
            try:
                ref = bytes.fromhex(path.name)
            except ValueError:
                path.unlink(missing_ok=True)  # a file half written
                continue
            status = path.stat()
            found.append((status.st_mtime, ref, status.st_size))
        for _, ref, size in sorted(found):
            self._sizes[ref] = size
        self._total = sum(self._sizes.values())

    @property
    def used_bytes(self) -> int:
        """What is kept now."""
        return self._total

    def has(self, ref: bytes) -> bool:
        """Say whether a blob is here."""
        return ref in self._sizes

    def size(self, ref: bytes) -> int:
        """Return a blob's size in bytes; 0 if it is not here."""
        return self._sizes.get(ref, 0)

    def pin(self, refs: Iterable[bytes]) -> None:
        """Keep these until `unpin`."""
        self._pins.update(refs)

    def unpin(self, refs: Iterable[bytes]) -> None:
        """Undo one `pin`."""
        self._pins.subtract(refs)
        self._pins = +self._pins

    async def put(self, ref: bytes, data: bytes, owner: Owner = NOBODY) -> None:
        """Keep a ciphertext, on the share of ``owner``.

        Raises:
            InvalidTask: it is larger than the whole cache.
            BadBlob: it does not have that hash.
            CacheFull: it does not fit now.
        """
        if len(data) > self._limit:
            raise InvalidTask(f"a blob is larger than the worker's cache of {self._limit} bytes")
        try:
            named = await beside(len(data), blob_ref, data)
        except OSError as err:
            raise CacheFull(f"a blob cannot be looked at now: {err.strerror}") from err
        if named != ref:
            raise BadBlob("a blob does not have the hash that it is named by: send it again")
        async with self._lock:
            if ref in self._sizes:
                self._touch(ref)
                return
            doomed = self._make_room(len(data), owner)
            try:
                await beside(len(data), self._write, ref, data, doomed)
            except OSError as err:
                raise CacheFull(f"the worker's disk refused a blob: {err.strerror}") from err
            self._sizes[ref] = len(data)
            self._owners[ref] = owner
            self._total += len(data)

    async def get(self, ref: bytes) -> bytes:
        """Return a ciphertext, or raise `BlobGone`."""
        try:
            data = await beside(self.size(ref), self._path(ref).read_bytes)
        except OSError as err:
            if err.errno not in _SHORT:
                self._drop(ref)
                for other in [one for one in self._sizes if not self._path(one).is_file()]:
                    self._drop(other)  # where one went, more may have gone
            raise BlobGone(f"a blob cannot be read: {err.strerror}") from err
        if ref in self._sizes:
            self._touch(ref)
        return data

    def discard(self, ref: bytes) -> None:
        """Keep a blob no longer that is not as it came; the next who needs it sends it again."""
        self._drop(ref)
        with contextlib.suppress(OSError):
            self._path(ref).unlink()

    def _drop(self, ref: bytes) -> None:
        self._total -= self._sizes.pop(ref, 0)
        self._owners.pop(ref, None)

    def _touch(self, ref: bytes) -> None:
        self._sizes[ref] = self._sizes.pop(ref)
        with contextlib.suppress(OSError):
            os.utime(self._path(ref))

    def _make_room(self, size: int, owner: Owner) -> list[bytes]:
        """Forget as many blobs as must go for ``size`` bytes and return them.

        They are taken from whoever has most that can go, the least recently used first.
        """
        free = self._limit - self._total
        if free >= size:
            return []
        loads: dict[Owner, float] = {}
        loose: dict[Owner, deque[bytes]] = {}
        for ref, there in self._sizes.items():
            one = self._owners.get(ref, NOBODY)
            loads[one] = loads.get(one, 0) + there
            if ref not in self._pins:
                loose.setdefault(one, deque()).append(ref)
        doomed = []
        while free < size and loose:
            most = furthest_above({one: loads[one] for one in loose}, owner, size)
            # A newcomer with nothing to give takes from the next after it.
            giving = most if most in loose else max(loose, key=loads.__getitem__)
            ref = loose[giving].popleft()
            if not loose[giving]:
                del loose[giving]
            loads[giving] -= self._sizes[ref]
            free += self._sizes[ref]
            doomed.append(ref)
        if free < size:
            raise CacheFull("the worker's cache has no room for this blob now")
        for ref in doomed:
            self._drop(ref)
        return doomed

    def _write(self, ref: bytes, data: bytes, doomed: list[bytes]) -> None:
        for old in doomed:
            self._path(old).unlink(missing_ok=True)
        temporary = self._folder / f"new-{os.urandom(8).hex()}"
        try:
            temporary.write_bytes(data)
            temporary.replace(self._path(ref))
        finally:
            temporary.unlink(missing_ok=True)

    def _path(self, ref: bytes) -> Path:
        return self._folder / ref.hex()
