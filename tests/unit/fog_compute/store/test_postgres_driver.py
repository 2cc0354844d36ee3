"""A connection to Postgres asks once a statement, and outlives what its server refuses."""

from __future__ import annotations

import gc
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pg8000.exceptions import InterfaceError
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from fog_compute.store.dialects import database_at
from fog_compute.store.dialects.driver import ListeningConnection, PooledConnection
from fog_compute.store.dialects.verdicts import sqlstate


@pytest.fixture
def connection(postgres_url: str) -> Iterator[Connection]:
    engines = database_at(postgres_url).engines()
    with engines.writing.connect() as opened:
        yield opened
    engines.dispose()


def backend(connection: Connection) -> int:
    pid: int = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    return pid


@pytest.mark.parametrize("kind", [PooledConnection, ListeningConnection])
def test_a_server_that_goes_after_the_first_word_leaves_no_socket_open(
    tmp_path: Path, kind: type[PooledConnection | ListeningConnection]
) -> None:
    path = str(tmp_path / ".s.PGSQL.5432")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()

        def go() -> None:
            met, _ = server.accept()
            met.close()  # with the first word unread, which the client is told as a reset

        goer = threading.Thread(target=go)
        goer.start()
        # What the collector found later would fail the test, or another one: warnings are errors.
        with pytest.raises((OSError, InterfaceError)):
            kind.to({"user": "a", "unix_sock": path, "timeout": 5.0, "ssl_context": None})
        goer.join()
        gc.collect()


def test_a_statement_and_its_values_are_one_question(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = 0
    handle = PooledConnection.handle_messages

    def count(self: PooledConnection, context: Any) -> None:
        nonlocal answers
        answers += 1
        handle(self, context)

    backend(connection)  # the transaction has begun
    monkeypatch.setattr(PooledConnection, "handle_messages", count)
    found = connection.execute(
        text("SELECT CAST(:a AS text), CAST(:b AS integer), CAST(:a AS text)"),
        {"a": "x$1 '%s' :b", "b": 7},
    ).one()

    assert tuple(found) == ("x$1 '%s' :b", 7, "x$1 '%s' :b")
    assert answers == 1


@pytest.mark.parametrize(
    ("statement", "value", "state"),
    [
        ("SELECT :value FROM nowhere", "1", "42P01"),  # while it is parsed
        ("SELECT CAST(:value AS integer)", "one", "22P02"),  # while its values are bound
        ("SELECT 1 / CAST(:value AS integer)", "0", "22012"),  # while it is run
    ],
)
def test_a_refused_statement_costs_no_connection(
    connection: Connection, statement: str, value: str, state: str
) -> None:
    before = backend(connection)
    with pytest.raises(DBAPIError) as refused:
        connection.execute(text(statement), {"value": value})
    connection.rollback()

    assert sqlstate(refused.value.orig) == state
    assert backend(connection) == before
