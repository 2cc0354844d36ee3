"""The queue: it stays in the store, and only what some worker has a place for is read from there.

What is in memory does not grow with it: for each level whether looking again is of use, and since
when some needs are hopeless.
"""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta
from typing import Final

from fog_compute.clock import Clock
from fog_compute.coordinator import planner
from fog_compute.coordinator.placement import Requirements, WorkerState, WorkerView
from fog_compute.coordinator.registry import WorkerRegistry
from fog_compute.levels import PrivacyLevel
from fog_compute.store import Change, Failed, Leased, Need, Room, Store
from fog_compute.tasks import Task, new_handle

__all__ = ["Queue"]

AT_ONCE: Final = 64
"""Tasks that are taken from the queue, and leases that are committed, at once."""

GIVEN_UP_AT_ONCE: Final = 500


class Queue:
    """Gives tasks that wait to workers that have places."""

    __slots__ = (
        "_anew",
        "_clock",
        "_due",
        "_fog",
        "_hopeless",
        "_lease",
        "_served",
        "_store",
        "_unpark",
        "_unread",
    )

    def __init__(self, store: Store, fog: WorkerRegistry, clock: Clock, lease: timedelta) -> None:
        """Know nothing yet: every level is looked at once. A new attempt gets a ``lease``."""
        self._store: Final = store
        self._fog: Final = fog
        self._clock: Final = clock
        self._lease: Final = lease
        self._served: Final[dict[PrivacyLevel, Room]] = {}
        """For which room nothing waits any more."""
        self._due: Final[dict[PrivacyLevel, datetime]] = {}
        self._unread = set(PrivacyLevel)
        """Levels of which it is not known what will be due."""
        self._hopeless: Final[dict[Need, datetime]] = {}
        self._anew = self._unpark = True

    @property
    def next_due(self) -> datetime | None:
        """When a task that is not due yet may be; None if none is known."""
        return min(self._due.values(), default=None)

    def came(self, level: PrivacyLevel, not_before: datetime | None = None) -> None:
        """A task of a level waits (again), and is due then."""
        if not_before is None or not_before <= self._clock.now():
            self._served.pop(level, None)
        else:
            self._due[level] = min(self._due.get(level, not_before), not_before)

    def count_anew(self) -> None:
        """Nobody could be asked until now: what was hopeless is so from now on at most."""
        self._hopeless.clear()
        self._anew = self._unpark = True

    def workers_changed(self) -> None:
        """Look at once at what no worker could take."""
        self._unpark = True

    async def take(self) -> tuple[Change, ...]:
        """Take tasks that are due and give them to workers: return the changes that say so.

        Until they are written, the same tasks would be taken again.

        Raises:
            StoreError: the database refused.
        """
        now = self._clock.now()
        if self._unpark:
            await self._store.unpark(anew=self._anew)
            self._served.clear()
            self._unpark = self._anew = False
        self._unread |= {level for level, at in self._due.items() if at <= now}
        if self._unread:
            await self._read_due(now)
        changes: list[Change] = []
        for level in PrivacyLevel:
            places, room = self._room(level)
            served = self._served.get(level)
            if not places or (served is not None and not _exceeds(room, served)):
                continue
            limit = min(places, AT_ONCE)
            waiting = await self._store.tasks.claim(level, room, now, limit)
            placed = planner.place_waiting(now, waiting, self._fog.select_node, self._leased)
            if len(placed) == len(waiting) < limit:
                self._served[level] = room  # nothing more of this size is there
            changes += placed
        return tuple(changes)

    async def hopeless(self) -> tuple[Change, ...]:
        """Give up tasks whose needs no worker has met for too long: return the changes.

        Raises:
            StoreError: the database cannot be read.
        """
        now = self._clock.now()
        needs = await self._store.tasks.needs()
        for need in self._hopeless.keys() - set(needs):
            del self._hopeless[need]
        changes: list[Change] = []
        for need in needs:
            decision = self._fog.select_node(
                Requirements(
                    need.kind, need.memory_bytes, need.privacy, groups=frozenset((need.group,))
                )
            )
            if not decision.hopeless:
                self._hopeless.pop(need, None)
                continue
            limit = now - planner.HOPELESS
            if self._hopeless.setdefault(need, now) <= limit:
                tasks = await self._store.tasks.waiting_since(need, limit, GIVEN_UP_AT_ONCE)
                changes += [
                    Failed(task.id, planner.reason_to_give_up(task, decision)) for task in tasks
                ]
        return tuple(changes)

    async def _read_due(self, now: datetime) -> None:
        """Learn when tasks of some levels are due next; others of them are due by now."""
        due = await self._store.tasks.next_due(now)
        for level in self._unread:
            self._served.pop(level, None)
            self._due.pop(level, None)
            if level in due:
                self._due[level] = due[level]
        self._unread.clear()

    def _room(self, level: PrivacyLevel) -> tuple[int, Room]:
        """How many places workers of our groups have at a level, and what tasks may need there."""
        places = 0
        room: dict[tuple[str, str], int] = {}
        for view in self._fog.at(level):
            free = view.places - view.leased
            if view.groups and view.state is WorkerState.READY and free > 0:
                places += free
                for need in itertools.product(view.groups, view.kinds):
                    room[need] = max(room.get(need, 0), view.memory_bytes)
        return places, room

    def _leased(self, task: Task, worker: WorkerView, reason: str) -> Leased:
        until = self._clock.now() + self._lease
        return Leased(task.id, new_handle(), worker.name, worker.address, until, reason)


def _exceeds(room: Room, served: Room) -> bool:
    return any(memory > served.get(need, -1) for need, memory in room.items())
