"""The rows of the backends that share a database, and which attempts each owns.

Everything here is a part of one transaction; what follows from it, and when it is done, is said in
`fog_compute.store.ownership`. A backend's id is drawn anew whenever it joins, so an id that is gone
never comes back.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol, TypeAlias, TypeVar

from sqlalchemy import Connection, Select, and_, delete, insert, or_, select, update

from fog_compute.store import schema
from fog_compute.store.changes import Fenced
from fog_compute.store.dialects import Turn, need_not_last, take_turn
from fog_compute.store.ownership import Sign
from fog_compute.store.reader import in_parts
from fog_compute.tasks.model import OPEN_ATTEMPT_STATES

__all__ = ["Backends", "Taken", "hold"]

T = TypeVar("T")

Ids: TypeAlias = Select[str]

_OPEN: Final = [state.value for state in sorted(OPEN_ATTEMPT_STATES)]


@dataclass(frozen=True, slots=True)
class Taken:
    """What a backend took over.

    Attributes:
        gone: whose rows were deleted.
        attempts: how many open attempts belong to it now that did not before.
    """

    gone: frozenset[str] = frozenset()
    attempts: int = 0


class Do(Protocol):
    """Has something changed in a transaction of its own, when it is its turn."""

    def __call__(self, work: Callable[[Connection], T]) -> Awaitable[T]:
        """Return what ``work`` returns."""
        ...


class Backends:
    """This process, as one of the backends of a database.

    Attributes:
        me: its id; empty before it joins, and once it was taken for dead.
    """

    __slots__ = ("_do", "_home", "me")

    def __init__(self, do: Do, home: str) -> None:
        """Have no row yet; ``home`` names the folder of which one process at a time has a lock."""
        self._do: Final = do
        self._home: Final = home
        self.me = ""

    async def join(self, groups: Collection[str]) -> Taken:
        """Make a row, and take what the home's last run left, and what nobody owns.

        Args:
            groups: those that this backend speaks for.

        Raises:
            StoreError: the database refused.
        """
        me = secrets.token_hex(16)
        taken = await self._do(partial(_join, me=me, home=self._home, groups=groups))
        self.me = me
        return taken

    async def beat(self) -> Sequence[Sign]:
        """Count up; return the rows of the others.

        Raises:
            Fenced: this backend was taken for dead.
            StoreError: the database refused.
        """
        return await self._fenced(_beat)

    async def take_over(self, dead: Sequence[Sign], groups: Collection[str]) -> Taken:
        """Delete the rows of who was taken for dead and did not beat since; take what nobody owns.

        Raises:
            Fenced: this backend was taken for dead itself.
            StoreError: the database refused.
        """
        return await self._fenced(partial(_take_over, dead=dead, groups=groups))

    async def claim(self, waiting: Ids) -> Sequence[str]:
        """Claim those of the tasks that no other backend has claimed, or is changing now.

        Args:
            waiting: a query for their ids.

        Returns:
            The ids of those that nobody else will look for a worker for, as the query orders them.

        Raises:
            StoreError: the database refused.
        """
        return await self._do(partial(_claim, waiting, me=self.me))

    async def release(self, task_ids: Collection[str]) -> None:
        """Let others claim these tasks.

        Raises:
            StoreError: the database refused.
        """
        rows = schema.tasks
        for some in in_parts(task_ids):
            mine = update(rows).where(rows.c.id.in_(some), rows.c.claimed_by == self.me)
            freed = mine.values(claimed_by=None)
            await self._do(partial(Connection.execute, statement=freed))

    async def _fenced(self, work: Callable[[Connection, str], T]) -> T:
        me = self.me
        try:
            return await self._do(lambda connection: work(connection, me))
        except Fenced:
            self.me = ""
            raise


def _join(connection: Connection, me: str, home: str, groups: Collection[str]) -> Taken:
    rows = schema.backends
    take_turn(connection, Turn.OWNERS)
    before = connection.execute(select(rows.c.id).where(rows.c.home == home)).scalars().all()
    connection.execute(delete(rows).where(rows.c.home == home))
    connection.execute(insert(rows).values(id=me, home=home, beat=0))
    return Taken(frozenset(before), _adopt(connection, me, groups))


def _beat(connection: Connection, me: str) -> Sequence[Sign]:
    rows = schema.backends
    counted = update(rows).where(rows.c.id == me).values(beat=rows.c.beat + 1)
    if connection.execute(counted).rowcount != 1:
        raise Fenced
    others = select(rows.c.id, rows.c.beat).where(rows.c.id != me)
    return [Sign(row["id"], row["beat"]) for row in connection.execute(others).mappings()]


def hold(connection: Connection, me: str) -> bool:
    """Keep a backend's row there until the transaction ends; False if it is gone."""
    rows = schema.backends
    mine = select(rows.c.id).where(rows.c.id == me).with_for_update(read=True, key_share=True)
    return connection.execute(mine).first() is not None


def _take_over(
    connection: Connection, me: str, dead: Sequence[Sign], groups: Collection[str]
) -> Taken:
    rows = schema.backends
    take_turn(connection, Turn.OWNERS)
    if not hold(connection, me):
        raise Fenced
    gone = set()
    for sign in sorted(dead, key=lambda one: one.backend):
        same = and_(rows.c.id == sign.backend, rows.c.beat == sign.beat)
        if connection.execute(delete(rows).where(same)).rowcount:
            gone.add(sign.backend)
    return Taken(frozenset(gone), _adopt(connection, me, groups))


def _claim(waiting: Ids, connection: Connection, *, me: str) -> Sequence[str]:
    need_not_last(connection)  # a claim that is forgotten was never acted on
    rows = schema.tasks
    alive = select(schema.backends.c.id).where(schema.backends.c.id != me)
    free = waiting.where(or_(rows.c.claimed_by.is_(None), rows.c.claimed_by.not_in(alive)))
    free = free.with_for_update(skip_locked=True, key_share=True)
    ids = list(connection.scalars(free))
    if ids:
        connection.execute(update(rows).where(rows.c.id.in_(ids)).values(claimed_by=me))
    return ids


def _adopt(connection: Connection, me: str, groups: Collection[str]) -> int:
    """Take the open attempts whose owner has no row; of other groups' tasks we cannot speak."""
    tasks, attempts = schema.tasks, schema.attempts
    alive = select(schema.backends.c.id)
    ours = select(tasks.c.id).where(tasks.c.group_name.in_(sorted(groups)))
    orphans = (
        update(attempts)
        .where(attempts.c.state.in_(_OPEN))
        .where(or_(attempts.c.owner.is_(None), attempts.c.owner.not_in(alive)))
        .where(attempts.c.task_id.in_(ours))
    )
    return connection.execute(orphans.values(owner=me)).rowcount
