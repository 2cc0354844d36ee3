"""Sessions and the counts of circuits over a restart, through the store."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Collection, Sequence
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import select, text

from fog_compute.errors import SessionError, StoreError
from fog_compute.levels import PrivacyLevel
from fog_compute.store import Store, schema
from fog_compute.store.circuits import Sessions
from fog_compute.testing import ManualClock
from fog_compute.vpn.channel import REPLY_PACKET_BYTES
from fog_compute.vpn.onion import OnionCircuitService
from fog_compute.vpn.session_records import SessionPolicy, SessionRecord
from fog_compute.vpn.sessions import AHEAD_BYTES, SessionManager
from fog_compute.vpn.totals import TotalsKeeper
from tests.unit.fog_compute.vpn.sources import Source

pytestmark = pytest.mark.asyncio

PRIVATE, SECRET = PrivacyLevel.PRIVATE, PrivacyLevel.SECRET
POLICY = SessionPolicy(idle_s=300, lifetime_s=1000, most=5, most_apart=2, circuits=3)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


class Run:
    """One run of a backend, as far as sessions see it."""

    def __init__(self, store: Store, clock: ManualClock) -> None:
        self.source = Source()
        self.other = self.source.network.channel("other")
        self.onion = OnionCircuitService(self.source, clock=clock, rng=Random(5))
        self.manager = SessionManager(self.onion, policy=POLICY, clock=clock, book=store.sessions)
        self.totals = TotalsKeeper(self.onion, store.circuit_totals, clock)

    async def restored(self) -> Run:
        await self.totals.restore()
        await self.manager.restore()
        return self


async def test_session_goes_on_after_a_restart(database_url: str, clock: ManualClock) -> None:
    """INV-STORE-50."""
    async with await Store.open(database_url, clock=clock) as store:
        run = await Run(store, clock).restored()
        kept, apart, closed = [
            await run.manager.open(level, apart=apart, quota_bytes=quota)
            for level, apart, quota in ((SECRET, False, 70_000), (PRIVATE, True, None)) * 2
        ][:3]
        await run.manager.send(kept, b"x" * 13)
        await run.manager.close(closed)
        await clock.advance(130)
        await run.manager.settle()
        rows = await store.sessions.rows(select(schema.sessions))
        secret = kept.partition(".")[2]
        assert secret not in repr([dict(row) for row in rows])
        assert hashlib.sha256(secret.encode()).digest() in {row["digest"] for row in rows}
    async with await Store.open(database_url, clock=clock) as store:
        run = await Run(store, clock).restored()
        assert run.source.opened == []  # the network may not be there yet
        shown = run.manager.show(kept)
        assert (shown.level, shown.apart, shown.quota_bytes) == (SECRET, False, 70_000)
        assert (shown.bytes_sent, shown.bytes_received) == (13, 0)
        assert 129 <= shown.age_s <= 131
        await run.manager.send(kept, b"y")
        await run.manager.send(apart, b"z")
        assert run.manager.show(kept).bytes_sent == 14
        assert len(run.source.opened) == 2
        owners = {owner for _, owner in run.source.opened}
        assert len(owners) == 2  # one of them a client of its own, with a new name
        for token in (closed, f"{kept.partition('.')[0]}.{secret}x"):
            with pytest.raises(SessionError):
                run.manager.show(token)


async def test_time_goes_on_for_sessions_while_no_backend_runs(
    database_url: str, clock: ManualClock
) -> None:
    """INV-STORE-50."""
    async with await Store.open(database_url, clock=clock) as store:
        run = await Run(store, clock).restored()
        token = await run.manager.open(PRIVATE)
    await clock.advance(POLICY.idle_s + 61)
    async with await Store.open(database_url, clock=clock) as store:
        run = await Run(store, clock).restored()
        with pytest.raises(SessionError):
            run.manager.show(token)
        assert await store.sessions.load() == []


async def test_quota_holds_over_a_crash(database_url: str, clock: ManualClock) -> None:
    """INV-STORE-51."""
    quota = 3 * AHEAD_BYTES
    async with await Store.open(database_url, clock=clock) as store:
        run = await Run(store, clock).restored()
        token = await run.manager.open(PRIVATE, quota_bytes=quota)
        sent = 0
        for size in (10, AHEAD_BYTES - 1000, 500, AHEAD_BYTES // 2):
            await run.manager.send(token, b"x" * size)
            sent += size
    async with await Store.open(database_url, clock=clock) as store:
        run = await Run(store, clock).restored()  # nothing was settled
        shown = run.manager.show(token)
        assert sent <= shown.bytes_sent <= sent + AHEAD_BYTES
        left = quota - shown.bytes_sent
        with pytest.raises(SessionError, match="quota"):
            await run.manager.send(token, b"x" * (left + 1))
        await run.manager.send(token, b"x" * left)


class Refusing:
    """A book that takes nothing for a while."""

    def __init__(self, book: Sessions) -> None:
        self.book = book
        self.away = False

    async def load(self) -> Sequence[SessionRecord]:
        return await self.book.load()

    async def keep(self, records: Sequence[SessionRecord]) -> None:
        if self.away:
            raise StoreError("the disk is full")
        await self.book.keep(records)

    async def forget(self, ids: Collection[str]) -> None:
        if self.away:
            raise StoreError("the disk is full")
        await self.book.forget(ids)


async def test_store_that_is_away_ends_no_session_and_lets_no_quota_be_passed(
    tmp_path: Path, clock: ManualClock
) -> None:
    """INV-STORE-51."""
    async with await Store.open(tmp_path / "fog.db", clock=clock) as store:
        run = Run(store, clock)
        book = Refusing(store.sessions)
        manager = SessionManager(run.onion, policy=POLICY, clock=clock, book=book)
        bound = await manager.open(PRIVATE, quota_bytes=9_000)
        book.away = True
        free = await manager.open(PRIVATE)
        await manager.send(free, b"x")
        with pytest.raises(StoreError, match="the disk is full"):
            await manager.send(bound, b"x" * 77)
        assert manager.show(bound).bytes_sent == 0
        await manager.close(bound)
        book.away = False
        await manager.sweep()
        assert [record.id for record in await store.sessions.load()] == [free.partition(".")[0]]


async def test_sessions_of_another_home_are_left_alone(
    postgres_url: str, clock: ManualClock
) -> None:
    """INV-STORE-50."""
    async with (
        await Store.open(postgres_url, clock=clock, home="a" * 32) as store,
        await Store.open(postgres_url, clock=clock, home="b" * 32) as other,
    ):
        mine = await Run(store, clock).restored()
        token = await mine.manager.open(PRIVATE)
        theirs = await Run(other, clock).restored()
        assert len(theirs.manager) == 0
        await other.sessions.forget([token.partition(".")[0]])
        assert len(await store.sessions.load()) == 1


async def test_answers_count_in_the_account_that_is_kept(
    tmp_path: Path, clock: ManualClock
) -> None:
    """INV-STORE-50."""
    async with await Store.open(tmp_path / "fog.db", clock=clock) as store:
        run = Run(store, clock)
        token = await run.manager.open(PRIVATE, quota_bytes=9 * REPLY_PACKET_BYTES)
        asking = asyncio.create_task(
            run.manager.request(token, b"q" * 7, to="other", reply_packets=2, timeout=1000)
        )
        asked = await run.other.receive()
        await run.other.reply(asked, b"answer")
        assert await asking == b"answer"
        await run.manager.settle()
        (record,) = await store.sessions.load()
        assert (record.bytes_sent, record.bytes_received) == (7, 6)
        assert record.used_at - clock.now() < timedelta(minutes=1)


async def test_counts_of_circuits_go_on_after_a_restart(
    database_url: str, clock: ManualClock
) -> None:
    """INV-STORE-52."""
    for runs in range(1, 4):
        async with await Store.open(database_url, clock=clock) as store:
            run = await Run(store, clock).restored()
            token = await run.manager.open(SECRET)
            await run.manager.send(token, b"x" * 11)
            await run.totals.keep()
            await run.totals.keep()  # nothing more
            assert run.onion.status(SECRET).totals.bytes_sent == 11 * runs
    async with await Store.open(database_url, clock=clock) as store:
        kept = await store.circuit_totals.load()

    assert set(kept) == {SECRET}
    assert kept[SECRET].bytes_sent == 33
    assert kept[SECRET].circuits == 9


async def test_damaged_session_hides_no_other(tmp_path: Path, clock: ManualClock) -> None:
    """INV-STORE-40."""
    async with await Store.open(tmp_path / "fog.db", clock=clock) as store:
        run = Run(store, clock)
        first, second = [await run.manager.open(PRIVATE) for _ in range(2)]
        with store._engines.writing.begin() as connection:
            name = {"id": first.partition(".")[0]}
            connection.execute(text("UPDATE sessions SET level = 'none' WHERE id = :id"), name)
        again = await Run(store, clock).restored()

        assert again.manager.show(second).level is PRIVATE
        assert [row.table for row in store.damages.found()] == ["sessions"]
        assert await store.circuit_totals.load() == {}
