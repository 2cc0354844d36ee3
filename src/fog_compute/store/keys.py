"""API keys and logins: what of them is kept, none of which lets anybody in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    RowMapping,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from fog_compute.errors import NotFound
from fog_compute.scopes import Scope
from fog_compute.store import schema
from fog_compute.store.changes import Conflict
from fog_compute.store.damage import Damaged, Damages, RowDamaged
from fog_compute.store.reader import Reader
from fog_compute.store.writer import Writer

__all__ = ["MOST_KEYS", "MOST_LOGINS", "ApiKey", "Keys", "LiveKeys", "Login", "key_of"]

MOST_KEYS: Final = 1000
"""Keys that can be used at one time: a backend has all of them in memory."""
MOST_LOGINS: Final = 16
"""Logins of one key at one time; the oldest goes for the next."""
HASH_LENGTH: Final = 64
KEPT: Final = timedelta(days=90)
"""How long a key is still listed that can be used no more."""

_ROW: Final = tuple(c for c in schema.api_keys.c)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key, without what proves it.

    Attributes:
        id: public; 12 hex digits with which the key's text begins.
        sha256: of the key's text; hex.
        used_at: about when it was used for the last time.
    """

    id: str
    name: str
    sha256: str = field(repr=False)
    scopes: frozenset[Scope]
    created_at: datetime
    expires_at: datetime | None = None
    used_at: datetime | None = None
    revoked_at: datetime | None = None

    def live(self, now: datetime) -> bool:
        """Whether it can be used."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True, slots=True)
class Login:
    """A browser session, without the cookie that proves it; it ends with its key at the latest.

    Attributes:
        sha256: of the cookie's value; hex.
        key_sha256: of the key with which it was opened; hex.
    """

    sha256: str = field(repr=False)
    key_id: str
    key_sha256: str = field(repr=False)
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class LiveKeys:
    """Everything that lets somebody in at one time: keys by id, logins by their hash."""

    keys: Mapping[str, ApiKey]
    logins: Mapping[str, Login]


class Keys(Reader):
    """API keys and the logins that came of them."""

    __slots__ = ("_writer",)

    def __init__(self, engine: Engine, damages: Damages, writer: Writer) -> None:
        """Read from ``engine``, write through ``writer``."""
        super().__init__(engine, damages)
        self._writer = writer

    async def all(self) -> Sequence[ApiKey]:
        """Return the keys, oldest first, those too that were revoked or expired of late."""
        columns = schema.api_keys.c
        query = select(*_ROW).order_by(columns.created_at, columns.id)
        return self._damages.whole(await self.rows(query), key_of)

    async def live(self, now: datetime) -> LiveKeys:
        """Return what can be used now."""
        logins = schema.logins
        keys = await self.rows(select(*_ROW).where(_can_be_used(now)))
        opened = await self.rows(select(*logins.c).where(logins.c.expires_at > now))
        return LiveKeys(
            {key.id: key for key in self._damages.whole(keys, key_of)},
            {row["sha256"]: Login(**row) for row in opened},
        )

    async def add(self, key: ApiKey, *, again: bool = False) -> ApiKey:
        """Keep a new key, and forget those that ended long ago; return it as it is kept.

        ``again``: one that has its id and nobody used yet is the same, under another hash.

        Raises:
            Conflict: there are as many as there may be, or one with its id that is another, or was
                used or revoked.
            StoreError: the database refused.
        """
        table = schema.api_keys

        def work(connection: Connection) -> ApiKey:
            if again and (found := _row_of(connection, key.id)) is not None:
                there = _remade(key_of(found), key)
                one = update(table).where(table.c.id == key.id).values(sha256=key.sha256)
                connection.execute(one)
                return there
            before = key.created_at - KEPT
            ended = or_(table.c.revoked_at < before, table.c.expires_at < before)
            connection.execute(delete(table).where(ended))
            live = select(func.count()).select_from(table).where(_can_be_used(key.created_at))
            if connection.execute(live).scalar_one() >= MOST_KEYS:
                raise Conflict(
                    f"there are {MOST_KEYS} keys already, as many as there may be: revoke one with"
                    " `fog key revoke`"
                )
            connection.execute(
                insert(table).values(
                    id=key.id,
                    name=key.name,
                    sha256=key.sha256,
                    scopes=",".join(sorted(key.scopes)),
                    created_at=key.created_at,
                    expires_at=key.expires_at,
                )
            )
            return key

        return await self._writer.do(work)

    async def revoke(self, key_id: str, at: datetime) -> ApiKey:
        """Let nobody use a key any more, nor the logins of it; again, it stays as it is.

        Raises:
            NotFound: there is none of this id.
            StoreError: the database refused.
        """
        table, logins = schema.api_keys, schema.logins
        one = table.c.id == key_id

        def work(connection: Connection) -> ApiKey:
            if _row_of(connection, key_id) is None:
                raise NotFound(f"there is no key {key_id}")
            connection.execute(delete(logins).where(logins.c.key_id == key_id))
            fresh = update(table).where(one, table.c.revoked_at.is_(None)).values(revoked_at=at)
            connection.execute(fresh)
            return key_of(connection.execute(select(*_ROW).where(one)).mappings().one())

        return await self._writer.do(work)

    async def used(self, times: Mapping[str, datetime]) -> None:
        """Note when keys were used for the last time.

        Raises:
            StoreError: the database refused.
        """
        table = schema.api_keys
        change = (
            update(table)
            .where(table.c.id == bindparam("key_id"))
            .values(used_at=bindparam("new_used_at"))
        )
        values = [{"key_id": i, "new_used_at": at} for i, at in times.items()]
        if values:
            await self._writer.do(lambda one: one.execute(change, values))

    async def log_in(self, login: Login) -> None:
        """Keep a new login; expired ones are forgotten, and the oldest of too many of its key.

        Raises:
            StoreError: the database refused.
        """
        table = schema.logins

        def work(connection: Connection) -> None:
            connection.execute(delete(table).where(table.c.expires_at <= login.created_at))
            newest = (
                select(table.c.sha256)
                .where(table.c.key_id == login.key_id)
                .order_by(table.c.created_at.desc(), table.c.sha256)
                .offset(MOST_LOGINS - 1)
            )
            surplus = connection.execute(newest).scalars().all()
            connection.execute(delete(table).where(table.c.sha256.in_(surplus)))
            connection.execute(
                insert(table).values(
                    sha256=login.sha256,
                    key_id=login.key_id,
                    key_sha256=login.key_sha256,
                    created_at=login.created_at,
                    expires_at=login.expires_at,
                )
            )

        await self._writer.do(work)

    async def log_out(self, sha256: str) -> None:
        """Forget a login, if there is one with this hash.

        Raises:
            StoreError: the database refused.
        """
        table = schema.logins
        change = delete(table).where(table.c.sha256 == sha256)
        await self._writer.do(lambda one: one.execute(change))


def _row_of(connection: Connection, key_id: str) -> RowMapping | None:
    query = select(*_ROW).where(schema.api_keys.c.id == key_id).with_for_update()
    return connection.execute(query).mappings().first()


def _remade(there: ApiKey, key: ApiKey) -> ApiKey:
    """The key that is there, with the hash of one that was asked for by the same request."""
    ends = key.expires_at and there.created_at + (key.expires_at - key.created_at)
    if (there.name, there.scopes, there.expires_at) != (key.name, key.scopes, ends):
        raise Conflict(
            f"another key, {key.id}, was made under this idempotency key: send what was sent with"
            " it, or use a new one"
        )
    if there.used_at is not None or there.revoked_at is not None:
        raise Conflict(
            f"the key {key.id} was made under this idempotency key, and is in use or revoked: its"
            " text was in the answer that made it, and nowhere else"
        )
    return replace(there, sha256=key.sha256)


def _can_be_used(now: datetime) -> ColumnElement[bool]:
    columns = schema.api_keys.c
    return columns.revoked_at.is_(None) & or_(
        columns.expires_at.is_(None), columns.expires_at > now
    )


def key_of(row: RowMapping) -> ApiKey:
    """Return the key of a row.

    Raises:
        RowDamaged: it cannot be read.
    """
    known = {str(scope) for scope in Scope}
    try:
        # A scope of a newer version allows nothing here.
        scopes = frozenset(Scope(text) for text in row["scopes"].split(",") if text in known)
        if len(row["sha256"]) != HASH_LENGTH:
            raise ValueError("its hash is none")
    except (AttributeError, TypeError, ValueError) as error:
        raise RowDamaged(Damaged.of("api_keys", row["id"], error)) from None
    return ApiKey(**{**row, "scopes": scopes})
