"""The pages of processes without a web framework, asked over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from http import HTTPStatus

import pytest

from fog_compute.hosts import bind
from fog_compute.observability.serving import Bounds, Shown, as_json, show_pages

DEADLINE_S = 20.0
BOUNDS = Bounds(connections=3, head_bytes=700, seconds=30.0)
PAGES = {
    "/health": lambda: as_json({"status": "ok"}, HTTPStatus.SERVICE_UNAVAILABLE),
    "/metrics": lambda: Shown(b"one 1\n" * 5, "text/plain; version=0.0.4"),
}
CLOSED = asyncio.IncompleteReadError, ConnectionError


@contextlib.asynccontextmanager
async def shown(bounds: Bounds = BOUNDS, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """Show the pages; give the port."""
    listening = bind(host, 0)
    async with show_pages(listening, PAGES, bounds) as url:
        port = listening.getsockname()[1]
        assert url == f"http://127.0.0.1:{port}"
        yield port


async def say(port: int, data: bytes) -> bytes:
    """Send, and read until the other side closes."""
    async with asyncio.timeout(DEADLINE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(data)
        try:
            return await reader.read()
        finally:
            writer.close()


async def ask(
    port: int, path: str = "/metrics", method: str = "GET", host: str = "localhost"
) -> tuple[int, dict[str, str], bytes]:
    answer = await say(port, f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.split(": ", 1) for line in rest), body


@pytest.mark.asyncio
async def test_page_is_shown_with_its_status_kind_and_length() -> None:
    """INV-MON-01."""
    async with shown() as port:
        status, headers, body = await ask(port)
        assert (status, body) == (200, b"one 1\n" * 5)
        assert headers["content-type"] == "text/plain; version=0.0.4"
        assert headers["content-length"] == str(len(body))
        assert headers["x-content-type-options"] == "nosniff"
        status, headers, body = await ask(port, "/health?verbose=1")
        assert (status, json.loads(body)) == (503, {"status": "ok"})
        assert headers["content-type"] == "application/json"


@pytest.mark.asyncio
async def test_head_has_all_but_the_body() -> None:
    async with shown() as port:
        whole = await ask(port)
        status, headers, body = await ask(port, method="HEAD")
        assert (status, headers, body) == (whole[0], whole[1], b"")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("POST /metrics HTTP/1.1", 405),
        ("DELETE /health HTTP/1.0", 405),
        ("GET /metrics/ HTTP/1.1", 404),
        ("GET /../metrics HTTP/1.1", 404),
        ("GET /%6detrics HTTP/1.1", 404),
        ("GET http://localhost/metrics HTTP/1.1", 400),
        ("GET /metrics HTTP/2.0", 400),
        ("GET /metrics", 400),
        ("GET  /metrics HTTP/1.1", 400),
        ("GET /\x1b[31mred HTTP/1.1", 400),
        ("", 400),
        ("\x16\x03\x01\x02\x00\x01", 400),
    ],
)
async def test_all_else_is_refused_without_a_word_of_it(request_line: str, status: int) -> None:
    """INV-MON-01."""
    async with shown() as port:
        answer = await say(port, f"{request_line}\r\nHost: localhost\r\n\r\n".encode())
        assert answer.startswith(f"HTTP/1.1 {status} ".encode())
        assert b"\x1b" not in answer
        assert b"red" not in answer.partition(b"\r\n\r\n")[2]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "fields",
    [
        "",
        "Host: evil.example",
        "Host: localhost\r\nHost: localhost",
        "Host: localhost\r\n folded: on",
        "Host: localhost\r\nno colon",
        "Host : localhost",
    ],
)
async def test_request_says_once_for_whom_it_is(fields: str) -> None:
    """INV-MON-01: a page in a browser cannot look in under a name of its own."""
    async with shown() as port:
        answer = await say(port, f"GET /metrics HTTP/1.1\r\n{fields}\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 400 ")


@pytest.mark.asyncio
async def test_containers_may_call_each_other_by_name() -> None:
    async with shown(host="0.0.0.0") as port:
        assert (await ask(port, host="worker:9010"))[0] == 200
        assert (await ask(port, host="worker.evil.example"))[0] == 400


@pytest.mark.asyncio
async def test_long_head_is_refused_while_it_still_comes() -> None:
    """INV-MON-01."""
    async with shown() as port:
        begun = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nx: "
        answer = await say(port, begun + b"y" * BOUNDS.head_bytes)
        assert answer.startswith(b"HTTP/1.1 431 ")
        whole = begun + b"y" * BOUNDS.head_bytes + b"\r\n\r\n"
        assert (await say(port, whole)).startswith(b"HTTP/1.1 431 ")


@pytest.mark.asyncio
async def test_head_may_come_in_pieces_and_a_second_request_is_not_answered() -> None:
    async with shown() as port, asyncio.timeout(DEADLINE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for piece in (b"GET /metr", b"ics HTTP/1.1\r\nhost:localhost\r", b"\n\r\nGET /health "):
            writer.write(piece)
            await writer.drain()
        answer = await reader.read()
        assert answer.count(b"HTTP/1.1") == 1
        assert answer.endswith(b"one 1\n")
        writer.close()


@pytest.mark.asyncio
async def test_who_ends_in_the_middle_of_a_head_is_told() -> None:
    async with shown() as port, asyncio.timeout(DEADLINE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /metrics HTTP/1.1\r\n")
        writer.write_eof()
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        writer.close()


@pytest.mark.asyncio
async def test_who_is_here_for_longest_gives_way() -> None:
    """INV-MON-01: silent connections keep nobody out."""
    async with shown() as port, asyncio.timeout(DEADLINE_S):
        silent = []
        for _ in range(BOUNDS.connections + 1):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET ")
            silent.append((reader, writer))
        with contextlib.suppress(*CLOSED):
            assert await silent[0][0].read() == b""
        assert (await ask(port))[0] == 200
        for _, writer in silent:
            writer.close()


@pytest.mark.asyncio
async def test_silence_ends_when_the_time_is_up() -> None:
    """INV-MON-01."""
    async with shown(Bounds(seconds=0.01)) as port:
        with contextlib.suppress(*CLOSED):
            assert await say(port, b"GET /metrics HTTP/1.1\r\n") == b""


@pytest.mark.asyncio
async def test_end_does_not_wait_for_who_is_here(caplog: pytest.LogCaptureFixture) -> None:
    async with asyncio.timeout(DEADLINE_S):
        async with shown() as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /metrics HTTP/1.1\r\n")
            await ask(port)
        with contextlib.suppress(*CLOSED):
            assert await reader.read() == b""
        writer.close()
        with pytest.raises(OSError, match="Connect call failed"):
            await asyncio.open_connection("127.0.0.1", port)
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]
