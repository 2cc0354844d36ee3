"""Who is looked at in a round: what is due, and what something happened to.

A round costs what it looks at, never what there is. Each thing has one entry with the time at which
it is to be looked at; a thing that turns out to be due later gets a new one then, so what is only
put off (a lease that is renewed with each answer) need not be said.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable
from datetime import datetime
from typing import Final, Generic, TypeVar

Thing = TypeVar("Thing", bound=Hashable)

__all__ = ["Agenda"]

SLACK: Final = 64
"""Entries that stand for nothing any more, beside as many as there are others."""


class Agenda(Generic[Thing]):
    """Times at which things are due, and those that were touched since the last round.

    Attributes:
        looked: how many things were looked at so far.
    """

    __slots__ = ("_entry", "_heap", "_number", "_touched", "looked")

    def __init__(self) -> None:
        """Nothing is due."""
        self._heap: list[tuple[datetime, int, Thing]] = []
        self._entry: Final[dict[Thing, tuple[datetime, int]]] = {}  # the one that counts
        self._touched: dict[Thing, None] = {}  # in their order
        self._number = 0
        self.looked = 0

    def touch(self, thing: Thing) -> None:
        """Something happened to it: look at it in the next round."""
        self._touched[thing] = None

    def drop(self, thing: Thing) -> None:
        """It is no more."""
        self._touched.pop(thing, None)
        self._entry.pop(thing, None)

    def round(self, now: datetime, look: Callable[[Thing], datetime | None]) -> datetime | None:
        """Look at all that is due or touched; return when the next thing is due.

        Args:
            now: the time.
            look: looks at one thing and says when to look again, if it is not touched before; None
                for never. It may touch and drop things: those that it touches have their turn in
                the next round.
        """
        waiting, self._touched = self._touched, {}
        while (entry := self._first()) is not None and entry[0] <= now:
            heapq.heappop(self._heap)
            del self._entry[entry[2]]
            waiting[entry[2]] = None
        things, done = list(waiting), 0
        try:
            for thing in things:
                self.looked += 1
                if (at := look(thing)) is not None:
                    self._note(thing, at)
                done += 1
        finally:
            if done < len(things):  # what an error kept from its turn
                self._touched = dict.fromkeys(things[done:]) | self._touched
        self._tidy()
        first = self._first()
        return None if first is None else first[0]

    def _note(self, thing: Thing, at: datetime) -> None:
        known = self._entry.get(thing)
        if known is None or at < known[0]:
            self._number += 1
            self._entry[thing] = at, self._number
            heapq.heappush(self._heap, (at, self._number, thing))

    def _first(self) -> tuple[datetime, int, Thing] | None:
        while self._heap:
            at, number, thing = self._heap[0]
            if self._entry.get(thing) == (at, number):
                return self._heap[0]
            heapq.heappop(self._heap)
        return None

    def _tidy(self) -> None:
        """Leave out entries that count no more, once they are the most: then each paid for it."""
        if len(self._heap) > 2 * len(self._entry) + SLACK:
            self._heap = [(at, number, thing) for thing, (at, number) in self._entry.items()]
            heapq.heapify(self._heap)
