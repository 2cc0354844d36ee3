"""A Postgres that dies, is silent, lets nobody in, or is held up by another process."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
from sqlalchemy import Connection, Engine, event, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection

from fog_compute.errors import StoreAway, StoreError, StoreUnusable
from fog_compute.store import Cancelled, Leased, Store, Written, schema
from fog_compute.store.care import vacuum
from fog_compute.store.dialects import postgres as dialect
from fog_compute.store.failures import refusal
from fog_compute.tasks import Task, TaskSpec, TaskState, new_handle
from tests.postgres import LOCKED, PASSWORD, PrivatePostgres

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def store(postgres_url: str) -> AsyncIterator[Store]:
    async with await Store.open(postgres_url) as opened:
        yield opened


async def queued(store: Store) -> Task:
    return await store.tasks.create(TaskSpec(module=await store.blobs.put(b"module")))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGQUIT])
async def test_server_that_dies_and_comes_back_costs_calls_and_no_task(
    postgres: PrivatePostgres, store: Store, how: signal.Signals
) -> None:
    """INV-STORE-07."""
    task = await queued(store)
    confirmed: list[str] = []
    refused = asyncio.Event()

    async def make() -> None:
        while not refused.is_set():
            try:
                confirmed.append((await store.tasks.create(task.spec)).id)
            except StoreError:
                refused.set()

    making = [asyncio.create_task(make()) for _ in range(4)]
    while len(confirmed) < 20:
        await asyncio.sleep(0)
        await store.tasks.get(task.id)
    postgres.kill(how)
    await asyncio.gather(*making)
    for asked in (
        store.apply([Cancelled(task.id)]),
        store.tasks.get(task.id),
        store.blobs.put(b"other"),
        store.touch(),
        store.sweep(),
    ):
        with pytest.raises(StoreAway, match="away"):
            await asked

    postgres.start()

    await store.apply([Cancelled(task.id)])
    assert (await store.tasks.get(task.id)).state is TaskState.CANCELLED
    assert {found.id for found in await store.tasks.of_ids(confirmed)} == set(confirmed)
    assert await store.blobs.get(await store.blobs.put(b"other")) == b"other"


async def test_connections_that_are_all_taken_are_a_database_that_is_away() -> None:
    """INV-STORE-07."""
    assert isinstance(refusal("no", NoConnection("QueuePool limit reached")), StoreAway)
    assert not isinstance(refusal("no", OperationalError("", {}, Exception())), StoreAway)


async def test_connections_that_the_server_ended_are_replaced(
    postgres: PrivatePostgres, store: Store
) -> None:
    """INV-STORE-07."""
    task = await queued(store)
    with store._engines.visiting.begin() as connection:
        others = "FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname IS NOT NULL"
        connection.execute(text(f"SELECT pg_terminate_backend(pid, 5000) {others}"))
    assert await store.tasks.get(task.id) == task
    await store.apply([Cancelled(task.id)])


async def test_what_may_take_minutes_is_waited_for(
    postgres: PrivatePostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-STORE-54: a migration, and a vacuum, of which nothing is heard for long."""
    limits: dict[str, float | None] = {}

    def note(connection: Connection, _: object, statement: str, *__: object) -> None:
        driver: Any = connection.connection.driver_connection
        limits[statement.split()[0]] = driver._usock.gettimeout()

    event.listen(Engine, "before_cursor_execute", note)
    try:
        with postgres.database("template1") as url:
            async with await Store.open(url) as store:
                assert (limits["CREATE"], limits["ALTER"]) == (None, None)
                limits.clear()
                await store.touch()
                assert limits["UPDATE"] == dialect.ANSWER_S
            vacuum(url)
            assert limits["VACUUM"] is None
            assert limits["SELECT"] == dialect.ANSWER_S
    finally:
        event.remove(Engine, "before_cursor_execute", note)


async def test_database_that_was_made_anew_says_what_to_do(postgres: PrivatePostgres) -> None:
    """INV-STORE-07."""
    with postgres.database() as url:
        async with await Store.open(url) as store:
            task = await queued(store)
            with store._engines.visiting.begin() as connection:
                connection.execute(text("DROP SCHEMA public CASCADE; CREATE SCHEMA public"))
            for asked in (
                store.tasks.get(task.id),
                store.touch(),
                store.apply([Cancelled(task.id)]),
            ):
                with pytest.raises(StoreError, match="`fog down` and `fog up` make its tables"):
                    await asked
        async with await Store.open(url) as store:
            assert await store.tasks.list() == []


@pytest.mark.parametrize("bad", ["\ud800", "nul\0"])
async def test_text_that_is_none_breaks_no_connection(store: Store, bad: str) -> None:
    task = await queued(store)
    lease = Leased(task.id, new_handle(), bad, "fog1a", task.created_at)
    outcomes = await asyncio.gather(
        store.apply([lease]), store.apply([Cancelled(task.id)]), return_exceptions=True
    )
    # The others of its group are written; what answers then is what was asked then.
    assert [type(outcome) for outcome in outcomes] == [StoreError, Written]
    assert (await store.tasks.get(task.id)).state is TaskState.CANCELLED


async def test_server_that_is_not_there_is_an_error_that_may_pass(tmp_path: Path) -> None:
    """INV-STORE-07."""
    with pytest.raises(StoreError, match="cannot be reached") as caught:
        await Store.open(f"postgresql://fog:hunter2@/fog?host={quote(str(tmp_path))}")
    assert not isinstance(caught.value, StoreUnusable)
    assert "hunter2" not in str(caught.value)


async def test_server_that_is_silent_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-STORE-07."""
    monkeypatch.setattr(dialect, "ANSWER_S", 0.05)
    url = f"postgresql://fog@/fog?sslmode=disable&host={quote(str(tmp_path))}"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / ".s.PGSQL.5432"))
        silent.listen()
        with pytest.raises(StoreError, match="cannot be reached"):
            await Store.open(url)


@pytest.mark.parametrize(
    ("user", "database", "said"),
    [
        (f"{LOCKED}:wrong", "fog_template", "password authentication failed"),
        (LOCKED, "fog_template", "password authentication failed"),
        ("nobody_here", "fog_template", "does not exist"),
        ("fog", "never_made", "does not exist"),
    ],
)
async def test_server_that_lets_nobody_in_is_told_apart_from_one_that_is_away(
    postgres: PrivatePostgres, user: str, database: str, said: str
) -> None:
    """INV-STORE-03."""
    with pytest.raises(StoreUnusable, match=said) as caught:
        await Store.open(postgres.url(database, user))
    assert "wrong" not in str(caught.value)


async def test_password_of_the_url_opens_and_is_shown_nowhere(
    postgres: PrivatePostgres, postgres_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """INV-STORE-03."""
    url = postgres_url.replace("fog@", f"{LOCKED}:{quote(PASSWORD, safe='')}@")
    async with await Store.open(url) as store:
        task = await queued(store)
        assert await store.tasks.get(task.id) == task
        shown = repr(vars(store)) + repr([str(e.url) for e in (store._engines.writing,)])
    out = capfd.readouterr()
    for said in (shown, out.out, out.err):
        assert PASSWORD not in said


async def test_rows_that_another_holds_are_waited_for_a_while(
    store: Store, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-STORE-07."""
    monkeypatch.setattr(dialect, "LOCK_MS", 50)
    task = await queued(store)
    async with await Store.open(postgres_url) as impatient:
        with store._engines.visiting.begin() as connection:
            connection.execute(select(schema.tasks).with_for_update())
            with pytest.raises(StoreError, match="lock timeout"):
                await impatient.apply([Cancelled(task.id)])
        await impatient.apply([Cancelled(task.id)])


async def test_what_a_frozen_process_holds_is_given_free(
    store: Store, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-STORE-07."""
    monkeypatch.setattr(dialect, "IDLE_MS", 50)
    task = await queued(store)
    async with await Store.open(postgres_url) as frozen:
        with contextlib.suppress(Exception), frozen._engines.visiting.begin() as connection:
            connection.execute(select(schema.tasks).with_for_update())
            await store.apply([Cancelled(task.id)])
    assert (await store.tasks.get(task.id)).state is TaskState.CANCELLED
