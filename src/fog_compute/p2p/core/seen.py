"""Opaque ids that came, each until its message's time is over.

What is full takes no more, rather than to forget: an id that is forgotten early is shown twice.
"""

from __future__ import annotations

import heapq
from typing import Final

__all__ = ["SeenIds"]


class SeenIds:
    """Ids by their sender, at most so many of one and in all."""

    __slots__ = ("_by_sender", "_ends", "_in_all", "_per_sender", "_size")

    def __init__(self, per_sender: int, in_all: int) -> None:
        """Begin empty."""
        self._per_sender: Final = per_sender
        self._in_all: Final = in_all
        self._by_sender: Final[dict[str, set[str]]] = {}
        self._ends: Final[list[tuple[float, str, str]]] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def has(self, sender: str, id: str) -> bool:  # noqa: A002 - the word of the record
        """Whether an id came."""
        return id in self._by_sender.get(sender, ())

    def add(self, sender: str, id: str, until: float) -> bool:  # noqa: A002
        """Remember an id; False if there is no room for it."""
        ids = self._by_sender.setdefault(sender, set())
        if len(ids) >= self._per_sender or self._size >= self._in_all:
            if not ids:
                del self._by_sender[sender]
            return False
        if id not in ids:
            ids.add(id)
            self._size += 1
            heapq.heappush(self._ends, (until, sender, id))
        return True

    def sweep(self, now: float) -> None:
        """Forget what is over."""
        while self._ends and self._ends[0][0] < now:
            _, sender, id_ = heapq.heappop(self._ends)
            ids = self._by_sender[sender]
            ids.discard(id_)
            self._size -= 1
            if not ids:
                del self._by_sender[sender]
