"""Connections that say nothing take no place from those that ask."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from fog_compute.server.listener import (
    FEWEST_PLACES,
    MOST_PLACES,
    Connection,
    Listener,
    Places,
    places_for,
)
from tests.unit.fog_compute.modules import COMMAND

LIMIT = 200
SILENT = 450
DEADLINE_S = 60


class Socket:
    def __init__(self) -> None:
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


class Said:
    """A connection as `Places` sees it."""

    def __init__(self) -> None:
        self.transport = Socket()

    def leave(self) -> None:
        self.transport.abort()


def test_who_has_been_silent_for_longest_gives_way() -> None:
    places = Places(3)
    first, busy, third = Said(), Said(), Said()
    for one in (first, busy, third):
        assert places.room()
        places.came(one)
    places.asked(busy)
    places.asked(first)
    places.answered(first)  # and is silent since

    assert places.room()

    assert [one.transport.aborted for one in (first, busy, third)] == [False, False, True]


def test_nobody_who_is_served_gives_way_and_a_place_that_is_left_is_told() -> None:
    places = Places(1)
    busy = Said()
    free: list[bool] = []
    places.on_free = lambda: free.append(True)
    assert places.room()
    places.came(busy)
    places.asked(busy)

    assert not places.room()
    places.left(busy)
    places.left(busy)

    assert free == [True]
    assert places.room()


def test_places_leave_descriptors_for_all_else() -> None:
    assert places_for(10) == FEWEST_PLACES
    assert places_for(10_000_000) == MOST_PLACES
    for limit in range(160, 2000, 7):
        assert places_for(limit) < limit - 64


@dataclass
class Backend:
    process: subprocess.Popen[str]
    url: str
    host: tuple[str, int]
    token: str
    log: Path

    def open_files(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Backend]:
    """A backend that may open few files and cannot get more."""
    log = tmp_path / "log"
    home = tmp_path / "home"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "fog_compute.server", "--home", home, "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT - 50, LIMIT)),
        )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] == "ready":
                break
        else:
            raise AssertionError(log.read_text())
        url = httpx2.URL(event["url"])
        token = (home / "daemon" / "token").read_text()
        yield Backend(process, str(url), (url.host, url.port or 0), token, log)
    finally:
        process.kill()
        process.wait(DEADLINE_S)
        assert process.stdout is not None
        process.stdout.close()


def test_silent_connections_keep_nobody_out_and_fill_no_log(backend: Backend) -> None:
    """INV-TASK-38, INV-TASK-41."""
    headers = {"authorization": f"Bearer {backend.token}"}
    with (
        contextlib.ExitStack() as stack,
        httpx2.Client(
            base_url=backend.url, headers=headers, timeout=DEADLINE_S, trust_env=False
        ) as http,
    ):
        for number in range(SILENT):
            silent = stack.enter_context(socket.create_connection(backend.host, DEADLINE_S))
            if number % 3 == 0:
                with contextlib.suppress(OSError):  # it may have given way already
                    silent.sendall(b"GET /health HT")

        assert http.get("/health").status_code in (200, 503)
        blob = http.post("/api/v1/blobs", content=COMMAND).json()["sha256"]
        task = http.post("/api/v1/tasks", json={"module": blob}).json()
        assert backend.open_files() < LIMIT

        # Who waits when it stops gets an answer all the same.
        waiting = stack.enter_context(socket.create_connection(backend.host, DEADLINE_S))
        waiting.sendall(
            f"GET /api/v1/tasks/{task['id']}?wait=50&since=99 HTTP/1.1\r\nhost: localhost\r\n"
            f"authorization: {headers['authorization']}\r\n\r\n".encode()
        )
        for _ in range(2):  # what was sent before them is read before they are answered
            assert http.get("/api/v1/status").status_code == 200
        backend.process.send_signal(signal.SIGTERM)
        with waiting.makefile("rb") as answer:
            told = answer.read()
        assert backend.process.wait(DEADLINE_S) == 0

    assert told.startswith(b"HTTP/1.1 200")
    assert b'"state":"queued"' in told
    assert backend.log.stat().st_size < 4096, backend.log.read_text()


class Short(socket.socket):
    """A listening socket that the machine gives no connections for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.refusals = [errno.EMFILE, errno.EPERM, errno.EMFILE]

    def accept(self) -> tuple[socket.socket, object]:
        if self.refusals:
            number = self.refusals.pop()
            raise OSError(number, os.strerror(number))
        return super().accept()


@contextlib.asynccontextmanager
async def listening(app: ASGIApp, places: Places) -> AsyncIterator[tuple[Short, tuple[str, int]]]:
    """Serve ``app`` on a socket that is short at first."""
    config = uvicorn.Config(app, log_config=None, lifespan="off")
    config.load()
    state = ServerState()
    with Short() as bound:
        bound.bind(("127.0.0.1", 0))
        bound.listen()
        listener = Listener(
            bound,
            places,
            lambda: Connection(places, config=config, server_state=state, app_state={}),
        )
        try:
            yield bound, bound.getsockname()
        finally:
            listener.close()
            await listener.wait_closed()
            for connection in list(state.connections):
                connection.shutdown()


async def ask(address: tuple[str, int], text: bytes) -> bytes:
    """Send something and return all that comes until the connection ends."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(text)
        async with asyncio.timeout(DEADLINE_S):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


@pytest.mark.asyncio
async def test_connections_that_the_machine_refuses_are_told_once_and_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fog_compute.server.listener.REFUSED_PAUSE_S", 0.01)
    async with listening(PlainTextResponse("served"), Places(5)) as (short, address):
        answer = await ask(address, b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")

    assert answer.endswith(b"served")
    assert not short.refusals
    (line,) = capsys.readouterr().out.splitlines()
    assert "Too many open files" in line


@pytest.mark.asyncio
async def test_half_a_head_is_not_waited_for_and_a_request_has_all_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """INV-TASK-38."""
    monkeypatch.setattr("fog_compute.server.listener.REFUSED_PAUSE_S", 0.01)
    monkeypatch.setattr("fog_compute.server.listener.HEAD_S", 0.05)
    halves_are_over = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await halves_are_over.wait()
        await PlainTextResponse("served")(scope, receive, send)

    async with listening(app, Places(5)) as (_, address):
        whole = asyncio.create_task(
            ask(address, b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        )
        halves = [await ask(address, text) for text in (b"", b"GET / HT", b"GET / HTTP/1.1\r\nh")]
        assert not whole.done()
        halves_are_over.set()

        assert halves == [b"", b"", b""]
        assert (await whole).endswith(b"served")


@pytest.mark.asyncio
async def test_half_a_body_keeps_no_place_from_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """INV-TASK-38."""
    monkeypatch.setattr("fog_compute.server.listener.REFUSED_PAUSE_S", 0.01)

    begun = asyncio.Semaphore(0)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        begun.release()
        while (await receive()).get("more_body"):
            pass
        await PlainTextResponse("served")(scope, receive, send)

    head = b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\n"
    async with listening(app, Places(3)) as (_, address), asyncio.timeout(DEADLINE_S):
        opened = [await asyncio.open_connection(*address) for _ in range(3)]
        for _, writer in opened:
            writer.write(head)
            await begun.acquire()
        assert (await ask(address, head + b"ab")).endswith(b"served")
        assert await opened[0][0].read() == b""  # it was silent for longest
        opened[1][1].write(b"ab")
        assert (await opened[1][0].read()).endswith(b"served")
        for _, writer in opened:
            writer.close()
