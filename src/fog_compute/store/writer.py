"""The one writer: a coroutine that commits what is asked of it in groups.

While one group is being flushed to disk the next one gathers, so a lone change waits for nobody and
a flood shares its flushes.  A group holds at most 64 changes (or one larger call).  Within a group
each call is applied to rows that were read inside the group's transaction; a call that does not fit
the present state is left out whole, and its caller gets `Conflict`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Final, TypeVar

from sqlalchemy import (
    Connection,
    Engine,
    RowMapping,
    Text,
    bindparam,
    cast,
    delete,
    insert,
    select,
    union,
    update,
)
from sqlalchemy.exc import SQLAlchemyError

from fog_compute.clock import Clock
from fog_compute.errors import FogError, StoreError, is_exhaustion
from fog_compute.observability import get_logger
from fog_compute.observability.metrics import StoreMetrics
from fog_compute.store import schema
from fog_compute.store.backends import hold
from fog_compute.store.bells import CHANNEL
from fog_compute.store.changes import (
    Change,
    MadeUnder,
    Reported,
    Rows,
    Written,
    apply_change,
    names_of,
    new_tasks,
)
from fog_compute.store.damage import SET_ASIDE, Damaged, RowDamaged
from fog_compute.store.dialects import (
    Turn,
    Verdict,
    compare_and_set,
    judge,
    notify,
    take_turn,
    transact,
)
from fog_compute.store.failures import refusal, refusals
from fog_compute.store.reader import fetch, in_parts
from fog_compute.store.rows import (
    attempt_changes,
    attempt_of,
    attempt_values,
    renamed,
    task_changes,
    task_of,
    task_values,
)
from fog_compute.tasks.model import Task
from fog_compute.threads import in_thread

_log = get_logger("fog_compute.store")

GROUP_CHANGES: Final = 64
QUEUE_CALLS: Final = 1024

T = TypeVar("T")

_REFUSALS: Final = (SQLAlchemyError, OSError, FogError, ValueError, OverflowError)


@dataclass(slots=True)
class _Call:
    """One call of `Writer.apply`: all of it is written, or nothing."""

    changes: tuple[Change, ...]
    new: tuple[Task, ...]
    key: str | None
    done: asyncio.Future[Written]

    @property
    def size(self) -> int:
        return len(self.changes) + len(self.new)


@dataclass(slots=True)
class _Group:
    calls: list[_Call] = field(default_factory=list)
    size: int = 0

    def add(self, call: _Call) -> None:
        self.calls.append(call)
        self.size += call.size


class Writer:
    """Owns the writing connection.  `run` commits the calls of `apply`; `sweep` takes its turn."""

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        result_ttl: timedelta,
        announce: Callable[[Sequence[Task]], None],
        owner: Callable[[], str | None],
        metrics: StoreMetrics,
    ) -> None:
        """Write through ``engine``, as the backend ``owner``; ``announce`` what tasks came to."""
        self._metrics = metrics
        self._owner = owner
        self._engine = engine
        self._clock = clock
        self._result_ttl = result_ttl
        self._announce = announce
        self._queue: asyncio.Queue[_Call | None] = asyncio.Queue(QUEUE_CALLS)
        self._turn = asyncio.Lock()  # of the connection: a group, or a sweep
        self._visitors = 0  # who waits for a turn without a call
        self._closed = False  # takes no more calls
        self._stopped = False  # nobody reads the queue any more

    async def apply(
        self, changes: Sequence[Change], new: Sequence[Task] = (), key: str | None = None
    ) -> Written:
        """Write the changes, and new tasks under their key, in one transaction; then return."""
        if self._closed:
            raise StoreError("the store is closed")
        if not changes and not new:
            return Written()
        done: asyncio.Future[Written] = asyncio.get_running_loop().create_future()
        await self._queue.put(_Call(tuple(changes), tuple(new), key, done))
        if self._stopped:
            raise StoreError("the store is closed")
        return await done

    @property
    def waiting(self) -> int:
        """Changes that nobody has begun to write."""
        return self._queue.qsize() + self._visitors

    async def do(self, work: Callable[[Connection], T]) -> T:
        """Have something changed in a transaction of its own."""
        if self._closed:
            raise StoreError("the store is closed")
        return await self._visit("the database takes no changes", work)

    async def apart(self, refused: str, work: Callable[[Connection], None]) -> None:
        """Have something done on a connection that is in no transaction, when it is its turn."""
        if self._closed:
            raise StoreError("the store is closed")

        def do() -> None:
            with self._engine.connect() as connection:
                work(connection)

        with refusals(refused):
            async with self._turn:
                await in_thread(do)

    async def set_aside(self, damaged: Sequence[Damaged]) -> int:
        """Take damaged tasks out of the queue; return how many.

        They go when their time to live ends, as all do that are over.
        """
        tasks = schema.tasks
        was = "; it was " + cast(tasks.c.state, Text) + ": " + cast(tasks.c.reason, Text)
        changed = (
            update(tasks)
            .where(tasks.c.id == bindparam("key"), schema.WAITING)
            .values(
                state=SET_ASIDE,
                reason=bindparam("found", type_=Text) + was,
                finished_at=self._clock.now(),
            )
        )
        rows = [{"key": row.key, "found": row.reason} for row in damaged if row.named]
        if not rows:
            return 0
        return await self.do(lambda one: one.execute(changed, rows).rowcount)

    async def touch(self) -> None:
        """Write a row as it is."""
        if self._closed:
            raise StoreError("the store is closed")
        row = schema.last_run
        same = update(row).values(booted_at=row.c.booted_at)
        await self._visit("the database takes no changes", lambda one: one.execute(same))

    async def sweep(self) -> tuple[int, int, Sequence[str]]:
        """Delete what has outlived its time; return how many tasks and results, and blobs named."""
        if self._closed:
            raise StoreError("the store is closed")
        return await self._visit("the database could not be swept", self._sweep)

    def _sweep(self, connection: Connection) -> tuple[int, int, Sequence[str]]:
        now = self._clock.now()
        tasks, results, blobs = schema.tasks, schema.results, schema.task_blobs
        gone = connection.execute(delete(results).where(results.c.expires_at <= now))
        over = connection.execute(
            delete(tasks).where(tasks.c.finished_at <= now - self._result_ttl)
        )
        named = union(
            select(blobs.c.sha256),
            select(results.c.blob).where(results.c.blob.is_not(None)),
        )
        return over.rowcount, gone.rowcount, connection.execute(named).scalars().all()

    async def _visit(self, refused: str, work: Callable[[Connection], T]) -> T:
        """Have something done in a transaction of its own, when it is its turn."""
        with refusals(refused):
            self._visitors += 1
            try:
                await self._turn.acquire()
            finally:
                self._visitors -= 1
            try:
                return await in_thread(self._transact, work)
            finally:
                self._turn.release()

    def _transact(self, work: Callable[[Connection], T]) -> T:
        with self._metrics.commit.time():
            return transact(self._engine, work)

    async def close(self) -> None:
        """Take no more calls; `run` ends after those that were taken."""
        self._closed = True
        await self._queue.put(None)

    async def run(self) -> None:
        """Commit groups until `close`.  Cancelled: the group in hand may be written."""
        try:
            while (first := await self._queue.get()) is not None:
                group = _Group()
                group.add(first)
                more = self._gather(group)
                await self._commit(group)
                if not more:
                    break
        finally:
            self._closed = self._stopped = True
            self._refuse_rest()

    def _gather(self, group: _Group) -> bool:
        """Add what is waiting; return False once the closing mark was met."""
        while group.size < GROUP_CHANGES:
            try:
                call = self._queue.get_nowait()
            except asyncio.QueueEmpty:
                return True
            if call is None:
                return False
            group.add(call)
        return True

    def _refuse_rest(self) -> None:
        with contextlib.suppress(asyncio.QueueEmpty):
            while True:
                call = self._queue.get_nowait()
                if call is not None and not call.done.done():
                    call.done.set_exception(StoreError("the store is closed"))

    async def _commit(self, group: _Group) -> None:
        try:
            async with self._turn:
                rows, outcomes = await in_thread(self._transact, partial(self._write, group))
        # Nothing ends the writer: nobody else writes, and the next group may be well.
        except Exception as err:  # noqa: BLE001
            if not (isinstance(err, _REFUSALS) or is_exhaustion(err)):
                _log.exception("group.crashed")
            if len(group.calls) > 1 and judge(err) is Verdict.UNSTORABLE:
                # What one call brings cannot be stored; the others must not fail with it.
                for call in group.calls:
                    alone = _Group()
                    alone.add(call)
                    await self._commit(alone)
                return
            failure = refusal("the database refused a group of changes", err)
            failure.__cause__ = err
            _finish(group.calls, [failure] * len(group.calls))
            return
        except BaseException:
            _finish(group.calls, [StoreError("the store was closed") for _ in group.calls])
            raise
        _finish(group.calls, outcomes)
        self._announce(rows.history)

    def _write(
        self, group: _Group, connection: Connection
    ) -> tuple[Rows, list[Written | FogError]]:
        changes = [change for call in group.calls for change in call.changes]
        owner = self._owner()
        # First of all, so that nobody takes over an attempt while it is being changed.
        fenced = owner is not None and bool(changes) and not hold(connection, owner)
        keys = [call.key for call in group.calls if call.key is not None]
        before = _load(connection, Rows(owner, fenced), changes, keys)
        now = self._clock.now()
        rows = before.fork()
        outcomes: list[Written | FogError] = []
        for call in group.calls:
            attempted = rows.fork()
            try:
                if call.new:
                    new_tasks(attempted, call.new, call.key)
                for change in call.changes:
                    apply_change(attempted, change, now)
            except FogError as err:
                outcomes.append(err)
            else:
                outcomes.append(attempted.since(rows))
                rows = attempted
        _save(connection, before, rows, now, now + self._result_ttl)
        return rows, outcomes


def _row_data(report: Reported) -> bytes:
    """Return what the row of a result holds: all of a small one."""
    result = report.result
    return result.data if report.blob is None else result.head_data


def _finish(calls: Sequence[_Call], outcomes: Sequence[Written | FogError]) -> None:
    for call, outcome in zip(calls, outcomes, strict=True):
        if call.done.done():
            continue  # its caller was cancelled
        if isinstance(outcome, Written):
            call.done.set_result(outcome)
        else:
            call.done.set_exception(outcome)


def _load(
    connection: Connection, rows: Rows, changes: Sequence[Change], keys: Sequence[str]
) -> Rows:
    """Add every row that the changes can touch; until the transaction ends, nobody else may.

    Of all of them only the tasks are locked, in one order, so that no two wait for each other: an
    attempt is changed by whoever has locked its task.
    """
    task_ids, handles = names_of(changes)
    tasks, attempts = schema.tasks, schema.attempts
    found = Rows()
    for some in in_parts(handles):
        query = select(attempts).where(attempts.c.handle.in_(some))
        _read(found, found.attempts, "handle", attempt_of, fetch(connection, query))
    task_ids |= {attempt.task_id for attempt in found.attempts.values()}
    for some in in_parts(task_ids):
        locked = select(tasks).where(tasks.c.id.in_(some)).order_by(tasks.c.id)
        locked = locked.with_for_update(key_share=True)
        _read(rows, rows.tasks, "id", task_of, fetch(connection, locked))
    handles |= {task.attempt for task in rows.tasks.values() if task.attempt}
    for some in in_parts(handles):
        query = select(attempts).where(attempts.c.handle.in_(some))
        _read(rows, rows.attempts, "handle", attempt_of, fetch(connection, query))
    for some in in_parts(keys):
        made = select(schema.task_keys).where(schema.task_keys.c.key.in_(some))
        for row in connection.execute(made).mappings():
            rows.keys[row["key"]] = MadeUnder(row["task_id"], row["made"])
    return rows


def _read(
    rows: Rows,
    into: dict[str, T],
    key: str,
    read: Callable[[RowMapping], T],
    found: Sequence[RowMapping],
) -> None:
    """Keep rows by their key; one that is damaged fails who asks for it, and nobody else."""
    for row in found:
        try:
            into[row[key]] = read(row)
        except RowDamaged as error:
            rows.damaged[row[key]] = error


def _save(
    connection: Connection, before: Rows, after: Rows, now: datetime, expires_at: datetime
) -> None:
    """Write the difference, each kind of row in one statement.

    What others may wait for comes last, and in one order.
    """
    made_tasks = [t for i, t in after.tasks.items() if i not in before.tasks]
    if made_tasks:
        connection.execute(insert(schema.tasks), [task_values(t) for t in made_tasks])
        connection.execute(
            insert(schema.task_blobs),
            [{"task_id": t.id, "sha256": b} for t in made_tasks for b in sorted(t.spec.blobs)],
        )
    made_keys = [
        {"key": key, "task_id": made.first, "made": made.count}
        for key, made in sorted(after.keys.items())
        if key not in before.keys
    ]
    if made_keys:
        connection.execute(insert(schema.task_keys), made_keys)
    compare_and_set(
        connection,
        schema.tasks,
        "version",
        [
            {
                "key_id": i,
                "old_version": before.tasks[i].version,
                **renamed(task_changes(t), "new_"),
            }
            for i, t in after.tasks.items()
            if i in before.tasks and t is not before.tasks[i]
        ],
    )
    made = [a for h, a in after.attempts.items() if h not in before.attempts]
    if made:
        connection.execute(insert(schema.attempts), [attempt_values(a) for a in made])
    compare_and_set(
        connection,
        schema.attempts,
        "state",
        [
            {
                "key_handle": h,
                "old_state": before.attempts[h].state.value,
                **renamed(attempt_changes(a), "new_"),
            }
            for h, a in after.attempts.items()
            if h in before.attempts and a is not before.attempts[h]
        ],
    )
    if after.results:
        connection.execute(
            insert(schema.results),
            [
                {
                    "handle": handle,
                    "task_id": after.attempts[handle].task_id,
                    "data": _row_data(report),
                    "blob": report.blob,
                    "receipt": report.receipt,
                    "stored_at": now,
                    "expires_at": expires_at,
                }
                for handle, report in after.results.items()
            ],
        )
    if after.history:
        take_turn(connection, Turn.EVENTS)
        if after.owner is not None:
            notify(connection, CHANNEL, after.owner)
        connection.execute(
            insert(schema.events),
            [
                {
                    "task_id": t.id,
                    "version": t.version,
                    "batch": t.batch,
                    "state": t.state.value,
                    "attempt": t.attempt,
                    "reason": t.reason,
                    "at": t.updated_at,
                }
                for t in after.history
            ],
        )
    for level, delta in sorted(after.statistics.items()):
        columns = schema.level_statistics.c
        connection.execute(
            update(schema.level_statistics)
            .where(columns.level == level.value)
            .values({c: columns[c] + getattr(delta, c) for c in delta.__slots__})
        )
