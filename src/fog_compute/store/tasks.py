"""Making tasks, and finding them: by id and key, by what they wait for, by how they are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from sqlalchemy import (
    Engine,
    RowMapping,
    Select,
    and_,
    false,
    func,
    literal,
    or_,
    select,
    union_all,
)

from fog_compute.clock import Clock
from fog_compute.errors import InvalidTask, NotFound
from fog_compute.levels import PrivacyLevel
from fog_compute.store import schema
from fog_compute.store.attempts import Attempts
from fog_compute.store.backends import Backends
from fog_compute.store.blobs import BlobStore
from fog_compute.store.changes import Conflict
from fog_compute.store.damage import MOST_NAMED, Damaged, Damages, RowDamaged
from fog_compute.store.reader import Reader
from fog_compute.store.rows import BROKEN, task_of
from fog_compute.tasks.folder import check_room
from fog_compute.tasks.ids import TASK_ID_LENGTH, new_task_id, place_of, time_of
from fog_compute.tasks.model import (
    HELD_TASK_STATES,
    INPUT_BYTES,
    OPEN_ATTEMPT_STATES,
    WAITING_TASK_STATES,
    Attempt,
    Task,
    TaskSpec,
    TaskState,
)
from fog_compute.tasks.sealing import OVERHEAD
from fog_compute.units import format_bytes

_ANOTHER_MADE: Final = (
    "something else was made under this idempotency key: send what was sent with it, or use a new"
    " key"
)

CreateTasks = Callable[[Sequence[Task], str | None], Awaitable[None]]
SetAside = Callable[[Sequence[Damaged]], Awaitable[int]]

_STATES: Final = frozenset(TaskState)
_LEVELS: Final = frozenset(PrivacyLevel)


_OPENED: Final = (
    select(schema.attempts.c.handle)
    .where(schema.attempts.c.handle == schema.tasks.c.attempt)
    .where(schema.attempts.c.state.in_([state.value for state in OPEN_ATTEMPT_STATES]))
)
STRANDED: Final[Select[*tuple[object, ...]]] = (
    select(schema.tasks)
    .where(schema.tasks.c.state.in_([state.value for state in HELD_TASK_STATES]))
    .where(~_OPENED.exists())
    .order_by(schema.tasks.c.id)
)
"""Tasks of which some worker should have an attempt, and which have none that is open."""


@dataclass(frozen=True, slots=True)
class Need:
    """What tasks need of a worker, as far as it decides which could take them."""

    privacy: PrivacyLevel
    group: str
    kind: str
    memory_bytes: int


_NEED: Final = (
    schema.tasks.c.privacy,
    schema.tasks.c.group_name,
    schema.tasks.c.kind,
    schema.tasks.c.memory_bytes,
)


def _need_of(row: RowMapping) -> Need:
    return Need(PrivacyLevel(row["privacy"]), row["group_name"], row["kind"], row["memory_bytes"])


Room: TypeAlias = Mapping[tuple[str, str], int]
"""Bytes of memory that a task may need, by its group and kind."""


class Tasks(Reader):
    """Tasks: making and finding them."""

    __slots__ = ("_attempts", "_backends", "_blobs", "_clock", "_create", "_newest", "_set_aside")

    def __init__(
        self,
        engine: Engine,
        create: CreateTasks,
        attempts: Attempts,
        blobs: BlobStore,
        clock: Clock,
        damages: Damages,
        set_aside: SetAside,
        backends: Backends | None,
    ) -> None:
        """Read from ``engine``; new and damaged tasks go to the writer."""
        super().__init__(engine, damages)
        self._backends = backends
        self._set_aside = set_aside
        self._create = create
        self._attempts = attempts
        self._blobs = blobs
        self._clock = clock
        self._newest: datetime | None = None

    async def create(self, spec: TaskSpec, key: str | None = None) -> Task:
        """Queue a new task; on disk when this returns.  Cancelled: it may or may not exist.

        Raises:
            Conflict: a task was made under the same ``key`` before; see `of_key`.
            NotFound: a blob that it names was not put before.
            InvalidTask: its blobs are too large together for any worker, or for its scratch.
            StoreError: the database refused.
        """
        (task,) = await self._new([spec])
        await self._create([task], key)
        return task

    async def create_batch(
        self, specs: Sequence[TaskSpec], key: str | None = None, batch: str | None = None
    ) -> list[Task]:
        """Queue tasks together: all of them, or none; otherwise as `create`.

        They join a ``batch``, or make one that has the id of the first of them.
        """
        tasks = await self._new(specs)
        tasks = [replace(task, batch=batch or tasks[0].id) for task in tasks]
        await self._create(tasks, key)
        return tasks

    async def _new(self, specs: Sequence[TaskSpec]) -> list[Task]:
        """Describe new tasks, in their order; nothing is written yet."""
        blobs = {sha256 for spec in specs for sha256 in spec.blobs}
        sizes = await self._blobs.sizes(blobs)
        for spec in specs:
            size = sum(sizes[sha256] + OVERHEAD for sha256 in spec.blobs)
            if size > INPUT_BYTES:
                raise InvalidTask(
                    f"module, standard input and input files have {size} bytes together, sealed,"
                    f" and a task may bring {INPUT_BYTES} ({format_bytes(INPUT_BYTES)}):"
                    " give it less"
                )
            inputs = {path: sizes[sha256] for path, sha256 in spec.inputs.items()}
            check_room(inputs, spec.limits.scratch_bytes)
        now = self._clock.now()
        return [
            Task(
                id=new_task_id(await self._next_time(now)),
                spec=spec,
                state=TaskState.QUEUED,
                version=1,
                created_at=now,
                updated_at=now,
            )
            for spec in specs
        ]

    async def _next_time(self, now: datetime) -> datetime:
        """Return the time for a new id, after those of all tasks, whatever clock named them."""
        if self._newest is None:
            ids = await self.rows(select(func.max(schema.tasks.c.id).label("newest")))
            try:
                self._newest = time_of(ids[0]["newest"] or "")
            except BROKEN:  # the id is damaged, and says no time
                self._newest = now
        self._newest = max(now, self._newest + timedelta(milliseconds=1))
        return self._newest

    async def of_key(self, key: str, spec: TaskSpec) -> Task | None:
        """Return the task that was made under ``key``; None if there is none.

        Raises:
            Conflict: it is another one than ``spec`` says.
        """
        tasks, keys = schema.tasks, schema.task_keys
        query = select(tasks).join(keys, keys.c.task_id == tasks.c.id).where(keys.c.key == key)
        for row in await self.rows(query):
            task = task_of(row)
            if task.spec != spec or task.batch is not None:
                raise Conflict(_ANOTHER_MADE)
            return task
        return None

    async def batch_of_key(self, key: str, specs: Sequence[TaskSpec]) -> list[Task]:
        """Return the tasks that were made together under ``key``; empty if there are none.

        Raises:
            Conflict: something else was made under it, if only one task more or less.
        """
        tasks, keys = schema.tasks, schema.task_keys
        first = tasks.alias()
        query = (
            select(tasks, keys.c.made)
            .join(first, or_(tasks.c.id == first.c.id, tasks.c.batch == first.c.batch))
            .join(keys, keys.c.task_id == first.c.id)
            .where(keys.c.key == key, tasks.c.id >= first.c.id)
            .order_by(tasks.c.id)
            .limit(len(specs))
        )
        rows = await self.rows(query)
        made = [task_of(row) for row in rows]
        if made and (
            made[0].batch is None
            or rows[0]["made"] not in (None, len(specs))
            or [task.spec for task in made] != list(specs)
        ):
            raise Conflict(_ANOTHER_MADE)
        return made

    async def get(self, task_id: str) -> Task:
        """Return one task, or raise `NotFound`."""
        rows = await self.rows(select(schema.tasks).where(schema.tasks.c.id == task_id))
        if not rows:
            raise NotFound(f"there is no task {task_id}: `fog task ls` shows those that are")
        return task_of(rows[0])

    async def named(self, name: str, limit: int) -> Sequence[str]:
        """Return the ids of the tasks that a name can mean, newest first; ``limit`` at most."""
        column = schema.tasks.c.id
        query = select(column).order_by(column.desc()).limit(limit)
        if (place := place_of(name)) is not None:
            query = query.offset(place).limit(1)
        elif len(name) < TASK_ID_LENGTH:
            query = query.where(or_(column.like(f"{name}%"), column.like(f"%{name}")))
        else:
            query = query.where(column == name)
        return [row["id"] for row in await self.rows(query)]

    async def list(
        self,
        *,
        state: TaskState | None = None,
        batch: str | None = None,
        limit: int = 100,
        before: str | None = None,
    ) -> list[Task]:
        """Return tasks, newest first; ``before`` is the id that the page before ended with."""
        found: list[Task] = []
        while (left := limit - len(found)) > 0:
            query = select(schema.tasks).order_by(schema.tasks.c.id.desc()).limit(left)
            if state is not None:
                query = query.where(schema.tasks.c.state == state.value)
            if batch is not None:
                query = query.where(schema.tasks.c.batch == batch)
            if before is not None:
                query = query.where(schema.tasks.c.id < before)
            rows = await self.rows(query)
            found += self._damages.whole(rows, task_of)
            if len(rows) < left:
                break
            before = rows[-1]["id"]  # damaged ones are made up for
        return found

    async def claim(
        self, level: PrivacyLevel, room: Room, now: datetime, limit: int
    ) -> Sequence[tuple[Task, tuple[Attempt, ...]]]:
        """Return the next tasks of a level that wait for a worker and are due, oldest first.

        Where there are other backends, those get none of them before `release`, or until they
        were changed.

        Args:
            level: their level.
            room: what a task may need.
            now: the time.
            limit: how many, at most.
        """
        columns = schema.tasks.c
        fits = [
            and_(columns.group_name == group, columns.kind == kind, columns.memory_bytes <= memory)
            for (group, kind), memory in sorted(room.items())
        ]
        ids = (
            select(columns.id)
            .where(schema.WAITING, columns.privacy == level.value, or_(false(), *fits))
            .where(or_(columns.not_before.is_(None), columns.not_before <= now))
            .order_by(columns.id)
            .limit(limit)
        )
        chosen = ids if self._backends is None else await self._backends.claim(ids)
        query = select(schema.tasks).where(columns.id.in_(chosen)).order_by(columns.id)
        tasks = await self._readable(query)
        tried = await self._attempts.of_tasks([task.id for task in tasks if task.leases])
        return [(task, tuple(tried.get(task.id, ()))) for task in tasks]

    async def release(self, task_ids: Collection[str]) -> None:
        """Let other backends claim these tasks, of which nothing became.

        Raises:
            StoreError: the database refused.
        """
        if self._backends is not None:
            await self._backends.release(task_ids)

    async def _readable(self, query: Select[*tuple[object, ...]]) -> Sequence[Task]:
        """Return the tasks of a query; damaged ones among them are set aside until none is left."""
        while True:
            tasks: list[Task] = []
            damaged: list[Damaged] = []
            for row in await self.rows(query):
                try:
                    tasks.append(task_of(row))
                except RowDamaged as error:
                    damaged.append(error.row)
            if not damaged:
                return tasks
            for one in damaged:
                self._damages.note(one)
            if not await self._set_aside(damaged):
                return tasks

    async def next_due(self, now: datetime) -> Mapping[PrivacyLevel, datetime]:
        """Return when the first waiting task of each level that is not due yet will be."""
        columns = schema.tasks.c
        firsts = [
            select(literal(level.value).label("privacy"), func.min(columns.not_before).label("due"))
            .where(schema.WAITING, columns.not_before.is_not(None))
            .where(columns.privacy == level.value, columns.not_before > now)
            for level in PrivacyLevel
        ]
        return {
            PrivacyLevel(row["privacy"]): row["due"]
            for row in await self.rows(union_all(*firsts))
            if row["due"] is not None
        }

    async def needs(self) -> Mapping[Need, str]:
        """Return the different needs of all tasks that wait for a worker, each with the first."""
        columns = schema.tasks.c
        query = (
            select(*_NEED, func.min(columns.id).label("first"))
            .where(schema.WAITING)
            .group_by(*_NEED)
        )
        return {_need_of(row): row["first"] for row in await self._known(query)}

    async def hopeless(self) -> Mapping[Need, datetime]:
        """Return the needs of tasks that are parked as hopeless, and since when the first is."""
        since = schema.tasks.c.hopeless_since
        query = (
            select(*_NEED, func.min(since).label("since"))
            .where(since.is_not(None), schema.WAITING)
            .group_by(*_NEED)
        )
        return {_need_of(row): row["since"] for row in await self._known(query)}

    async def _known(self, query: Select[*tuple[object, ...]]) -> Sequence[RowMapping]:
        """The rows of a query that are of a level which there is."""
        return [row for row in await self.rows(query) if row["privacy"] in _LEVELS]

    async def waiting_since(self, need: Need, before: datetime, limit: int) -> Sequence[Task]:
        """Return tasks of one need that have waited since ``before`` or longer, oldest first."""
        columns = schema.tasks.c
        query = (
            select(schema.tasks)
            .where(schema.WAITING, columns.privacy == need.privacy.value)
            .where(columns.group_name == need.group)
            .where(columns.kind == need.kind, columns.memory_bytes == need.memory_bytes)
            .where(columns.updated_at <= before)
            .order_by(columns.id)
            .limit(limit)
        )
        return await self._readable(query)

    async def of_ids(self, task_ids: Collection[str]) -> Sequence[Task]:
        """Return those of the tasks that exist."""
        rows = await self.rows_of(select(schema.tasks), schema.tasks.c.id, task_ids)
        return self._damages.whole(rows, task_of)

    async def with_open_attempts(self, owner: str | None = None) -> Sequence[Task]:
        """Return every task that has an open attempt of this owner, oldest first."""
        tasks, attempts = schema.tasks, schema.attempts
        query = (
            select(tasks)
            .join(attempts, tasks.c.id == attempts.c.task_id)
            .where(attempts.c.state.in_([s.value for s in OPEN_ATTEMPT_STATES]))
            .where(tasks.c.attempt == attempts.c.handle, attempts.c.owner == owner)
            .order_by(tasks.c.id)
        )
        return self._damages.whole(await self.rows(query), task_of)

    async def stranded(self) -> Sequence[Task]:
        """Return tasks of which some worker should have an attempt, and which have none open."""
        return self._damages.whole(await self.rows(STRANDED), task_of)

    async def ended_since(self, since: datetime, limit: int) -> Sequence[Task]:
        """Return the tasks that came to their end since then, the last ``limit`` of them."""
        ended = schema.tasks.c.finished_at
        query = select(schema.tasks).where(ended >= since).order_by(ended.desc()).limit(limit)
        return self._damages.whole(await self.rows(query), task_of)

    async def oldest_waiting(self) -> datetime | None:
        """When the oldest task was made that waits for a worker; None if none does."""
        first = [
            select(func.min(schema.tasks.c.id)).where(schema.tasks.c.state == state.value)
            for state in sorted(WAITING_TASK_STATES)
        ]
        created = select(schema.tasks.c.created_at).where(
            or_(*(schema.tasks.c.id == one.scalar_subquery() for one in first))
        )
        return min((row["created_at"] for row in await self.rows(created)), default=None)

    async def count_by_state(self) -> dict[TaskState, int]:
        """Return how many tasks are in each state, zeros included; those in no state are noted."""
        query = select(schema.tasks.c.state, func.count().label("n")).group_by(schema.tasks.c.state)
        counts = dict.fromkeys(TaskState, 0)
        unknown: list[str] = []
        for row in await self.rows(query):
            if row["state"] in _STATES:
                counts[TaskState(row["state"])] = row["n"]
            else:
                unknown.append(row["state"])
        if unknown:
            odd = select(schema.tasks).where(schema.tasks.c.state.in_(unknown)).limit(MOST_NAMED)
            self._damages.whole(await self.rows(odd), task_of)
        return counts
