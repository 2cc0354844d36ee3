"""The queue: it stays in the store, and only what some worker has a place for is read from there.

What is in memory does not grow with it: for each level whether looking again is of use, and since
when some needs are hopeless.
"""

from __future__ import annotations

import itertools
from collections import deque
from datetime import datetime, timedelta
from typing import Final

from fog_compute.clock import Clock
from fog_compute.coordinator import planner
from fog_compute.coordinator.placement import Requirements, WorkerState, WorkerView
from fog_compute.coordinator.registry import WorkerRegistry
from fog_compute.levels import PrivacyLevel
from fog_compute.store import Change, Failed, Leased, Need, Parked, Room, Store
from fog_compute.tasks import Task, new_handle

__all__ = ["Queue"]

AT_ONCE: Final = 64
"""Tasks that are taken from the queue, and leases that are committed, at once."""

GIVEN_UP_AT_ONCE: Final = 500

KEPT_NEEDS: Final = 32
"""Hopeless needs of which the store keeps since when they are."""

ABSENCES: Final = 64
"""Times in which nobody could be asked that are remembered, the last ones."""


class Queue:
    """Gives tasks that wait to workers that have places."""

    __slots__ = (
        "_absent",
        "_clock",
        "_due",
        "_fog",
        "_hopeless",
        "_lease",
        "_left_out",
        "_resumed_at",
        "_served",
        "_store",
        "_unpark",
        "_unread",
        "_unseen",
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
        self._unseen: Final[dict[Need, datetime]] = {}
        """What the run before found hopeless, until there is a worker to ask again."""
        self._absent: Final[deque[tuple[datetime, datetime]]] = deque(maxlen=ABSENCES)
        """When nobody could be asked, one after the other."""
        self._left_out = timedelta()
        """What of it the store has not heard of yet."""
        self._resumed_at: datetime | None = None
        self._unpark = False

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

    def leave_out(self, since: datetime) -> None:
        """Nobody could be asked since then, and can be now: it counts for no task's hour."""
        now = self._clock.now()
        begun = max(since, self._absent[-1][1]) if self._absent else since
        if begun < now:
            self._absent.append((begun, now))
            for need, at in self._hopeless.items():
                self._hopeless[need] = min(at + (now - begun), now)
            self._left_out += now - begun

    def look_again(self) -> None:
        """Others may have left tasks that they had claimed: look at every level once more."""
        self._served.clear()
        self._unread |= set(PrivacyLevel)

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
        await self._look_at_parked()
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
            left = {task.id for task, _ in waiting} - {change.task_id for change in placed}
            await self._store.tasks.release(left)
            changes += placed
        return tuple(changes)

    async def hopeless(self) -> tuple[Change, ...]:
        """Give up tasks whose needs no worker has met for too long: return the changes.

        Raises:
            StoreError: the database cannot be read.
        """
        if self._resumed_at is None:
            return ()
        now = self._clock.now()
        needs = await self._store.tasks.needs()
        if self._unseen and self._fog.workers():
            asked_late = now - self._resumed_at
            self._hopeless.update({n: at + asked_late for n, at in self._unseen.items()})
            self._unseen.clear()
        for need in self._hopeless.keys() - needs.keys():
            del self._hopeless[need]
        changes: list[Change] = []
        kept = 0
        for need, first in needs.items():
            decision = self._fog.select_node(
                Requirements(
                    need.kind, need.memory_bytes, need.privacy, groups=frozenset((need.group,))
                )
            )
            if not decision.hopeless:
                self._hopeless.pop(need, None)
                continue
            since = self._hopeless.setdefault(need, now)
            if since <= now - planner.HOPELESS:
                before = self._an_hour_ago(now)
                tasks = await self._store.tasks.waiting_since(need, before, GIVEN_UP_AT_ONCE)
                changes += [
                    Failed(task.id, planner.reason_to_give_up(task, decision)) for task in tasks
                ]
            elif kept < KEPT_NEEDS:
                # One of them tells the next run since when it is so.
                changes.append(Parked(first, now + planner.PARKED_MAX, since))
                kept += 1
        return tuple(changes)

    async def _look_at_parked(self) -> None:
        """Unpark what no worker could take, if there is reason to; first, as the last run left it.

        Raises:
            StoreError: the database refused.
        """
        if self._resumed_at is None:
            away = await self._store.resume_parked()
            self._unseen.update(await self._store.tasks.hopeless())
            self._resumed_at = now = self._clock.now()
            self._absent.append((now - away, now))
            self._unpark = False
        elif self._unpark or self._left_out:
            left_out = self._left_out
            await self._store.unpark(left_out)
            self._served.clear()
            self._left_out -= left_out
            self._unpark = False

    def _an_hour_ago(self, now: datetime) -> datetime:
        """Since when somebody was looking for an hour in all."""
        left = planner.HOPELESS
        for begun, ended in reversed(self._absent):
            if now - ended >= left:
                break
            left -= now - ended
            now = begun
        return now - left

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
