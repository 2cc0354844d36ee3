"""Results put together from the pieces that polls bring, in whatever order."""

from __future__ import annotations

from typing import Final

from fog_compute.tasks.messages import FINISHED, AttemptStatus
from fog_compute.tasks.model import Limits
from fog_compute.tasks.result import (
    MAX_RESULT_BYTES,
    BadResult,
    TaskResult,
    result_bytes,
    result_id,
)

__all__ = ["ResultAssembler"]


class ResultAssembler:
    """Puts the pieces of one attempt's result together.

    Pieces of another result (another ``result_id``) start it over, so two results never mix.
    """

    __slots__ = ("_ahead", "_data", "_id", "_limit", "_limits", "_total")

    def __init__(self, limits: Limits | None = None) -> None:
        """Hold no more than a task with ``limits`` may bring."""
        self._data = bytearray()
        self._ahead: Final[dict[int, bytes]] = {}  # pieces behind a gap, by offset
        self._id = b""
        self._total = 0
        self._limits: Final = limits
        self._limit: Final = (
            MAX_RESULT_BYTES if limits is None else result_bytes(limits.output_bytes)
        )

    @property
    def offset(self) -> int:
        """How many bytes are here from the beginning on: the offset to poll from."""
        return len(self._data)

    @property
    def here(self) -> int:
        """How many bytes are here, behind gaps too."""
        return len(self._data) + sum(map(len, self._ahead.values()))

    def gaps(self, stride: int, most: int) -> list[int]:
        """Return offsets from which pieces of ``stride`` bytes are missing, at most so many."""
        offsets: list[int] = []
        at, pieces = len(self._data), sorted(self._ahead.items())
        for start, piece in [*pieces, (self._total, b"")]:
            while at < start and len(offsets) < most:
                offsets.append(at)
                at += stride
            at = max(at, start + len(piece))
        return offsets

    def add(self, status: AttemptStatus) -> TaskResult | None:
        """Take one status; return the result once it is whole.

        Raises:
            BadResult: the whole does not have the promised id, or is too large.
        """
        if status.state != FINISHED or not status.result_id:
            return None
        if status.result_total > self._limit:
            raise BadResult(f"the result has {status.result_total} bytes, over {self._limit}")
        if (status.result_id, status.result_total) != (self._id, self._total):
            self._clear()
            self._id, self._total = status.result_id, status.result_total
        self._take(status.offset, status.chunk)
        if len(self._data) < self._total:
            return None
        body = bytes(self._data)
        promised = self._id
        self._clear()
        if result_id(body) != promised:
            raise BadResult("the pieces of a result do not make the promised whole")
        return TaskResult.parse(body, self._limits)

    def _take(self, offset: int, piece: bytes) -> None:
        have = len(self._data)
        if offset > have:
            # No more than there can be, whatever pieces overlap.
            if piece and self.here + len(piece) <= self._total:
                self._ahead[offset] = max(piece, self._ahead.get(offset, b""), key=len)
            return
        self._data += piece[have - offset :]
        for start in sorted(self._ahead):
            if start > len(self._data):
                break
            self._data += self._ahead.pop(start)[len(self._data) - start :]

    def _clear(self) -> None:
        self._data.clear()
        self._ahead.clear()
        self._id, self._total = b"", 0
