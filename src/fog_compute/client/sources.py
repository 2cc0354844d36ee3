"""Bytes that go with a task, read piece by piece when they are sent."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from fog_compute.errors import Unreadable
from fog_compute.units import KIB

__all__ = ["Source", "TaskFiles"]

PIECE_BYTES: Final = 256 * KIB


@dataclass(frozen=True, slots=True)
class Source:
    """Bytes that go with a task.

    Attributes:
        name: what they are, for people.
        size: how many.
    """

    name: str
    size: int
    _path: str = ""
    _data: bytes | None = field(default=None, repr=False)

    def pieces(self) -> Iterator[bytes]:
        """Read them from the beginning, or raise `Unreadable` if they are others by now."""
        if self._data is not None:
            yield self._data
            return
        left = self.size
        try:
            with open(self._path, "rb", buffering=0) as file:  # noqa: PTH123  # read as it was named
                while left and (piece := file.read(min(left, PIECE_BYTES))):
                    left -= len(piece)
                    yield piece
        except OSError as error:
            raise Unreadable(f"{self.name} cannot be read: {error.strerror}") from None
        if left:
            raise Unreadable(f"{self.name} became shorter while it was sent: send it again")

    def sha256(self) -> str:
        """Read them for what names their blob; raises as `pieces` does."""
        digest = hashlib.sha256()
        for piece in self.pieces():
            digest.update(piece)
        return digest.hexdigest()

    @classmethod
    def of(cls, name: str, data: bytes) -> Source:
        """Make one of bytes that are here."""
        return cls(name, len(data), _data=data)


@dataclass(frozen=True, slots=True)
class TaskFiles:
    """All that goes with a task.

    Attributes:
        module: the program.
        stdin: its standard input, or None.
        inputs: its input files by their names.
    """

    module: Source
    stdin: Source | None
    inputs: Mapping[str, Source]

    def each(self) -> list[Source]:
        """Each source once, whatever it is used as, in the order in which they are sent."""
        used = (self.module, self.stdin, *self.inputs.values())
        return list({id(one): one for one in used if one is not None}.values())

    def named(self, blobs: Sequence[str]) -> dict[str, Any]:
        """The members of a task that name what was sent, by the blobs of `each`."""
        blob_of = {id(one): blob for one, blob in zip(self.each(), blobs, strict=True)}
        return {
            "module": blob_of[id(self.module)],
            "stdin": None if self.stdin is None else blob_of[id(self.stdin)],
            "inputs": {name: blob_of[id(one)] for name, one in self.inputs.items()},
        }
