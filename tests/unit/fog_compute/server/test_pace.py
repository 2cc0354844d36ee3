"""Bodies that come too slowly, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from starlette.types import Message, Scope

from fog_compute.server import bodies
from fog_compute.server.bodies import GRACE_S, LEAST_RATE, SILENCE_S, Pace

from .conftest import Api


def test_silence_is_waited_for_so_long_however_much_came() -> None:
    """INV-API-61."""
    pace = Pace()
    assert pace.patience_s == GRACE_S
    pace.came(LEAST_RATE * 10_000, 3.0)
    assert pace.patience_s == SILENCE_S


def test_a_body_that_drips_is_over_and_one_at_the_least_rate_is_not() -> None:
    """INV-API-61."""
    drips, honest = Pace(), Pace()
    waited = 0.0
    while drips.patience_s > 0:
        drips.came(1, 0.5)
        waited += 0.5
    assert GRACE_S <= waited < GRACE_S + 1
    for _ in range(5000):
        assert honest.patience_s >= 0.5
        honest.came(LEAST_RATE // 2, 0.5)


async def _ask(
    api: Api, method: str, path: str, key: str | None, came: Callable[[], Awaitable[Message]]
) -> AsyncIterator[Message]:
    """Ask with a body that comes so; give what is answered, as it comes."""
    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/octet-stream")]
    headers.append((b"accept", b"text/event-stream"))
    if key is not None:
        headers.append((b"authorization", f"Bearer {key}".encode()))
    scope: Scope = {
        "type": "http",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    said = asyncio.Queue[Message | None]()

    async def ask() -> None:
        try:
            await api.app(scope, came, said.put)
        finally:
            said.put_nowait(None)

    asking = asyncio.create_task(ask())
    while (message := await said.get()) is not None:
        yield message
    await asking


def _token(api: Api) -> str:
    return api.services.settings.layout.token_file.read_text()


def _half() -> Callable[[], Awaitable[Message]]:
    came = asyncio.Queue[Message]()
    came.put_nowait({"type": "http.request", "body": b"half", "more_body": True})
    return came.get


@pytest.mark.asyncio
async def test_half_a_body_is_refused_and_leaves_nothing(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-API-61, and INV-API-03: a stranger does not learn even that."""
    monkeypatch.setattr(bodies, "SILENCE_S", 0.01)
    begins, body, *_ = [
        one async for one in _ask(api, "POST", "/api/v1/blobs", _token(api), _half())
    ]
    assert begins["status"] == 408
    assert b"urn:fog-compute:problem:too-slow" in body["body"]
    assert (b"connection", b"close") in begins["headers"]
    assert await api.services.get_service("store").blobs.total() == 0
    begins, *_ = [one async for one in _ask(api, "POST", "/api/v1/login", None, _half())]
    assert begins["status"] == 401


@pytest.mark.asyncio
async def test_an_upload_that_drips_is_refused(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """INV-API-61: none of its silences is long, and together they are."""
    monkeypatch.setattr(bodies, "GRACE_S", 0.5)
    left = 1000

    async def drip() -> Message:
        nonlocal left
        left -= 1
        await asyncio.sleep(0.002)  # what is tried
        return {"type": "http.request", "body": b".", "more_body": left > 0}

    begins, *_ = [one async for one in _ask(api, "POST", "/api/v1/blobs", _token(api), drip)]
    assert begins["status"] == 408
    assert left > 0


@pytest.mark.asyncio
async def test_an_answer_that_takes_long_is_not_cut(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-API-61: only the body is waited for so."""
    monkeypatch.setattr(bodies, "SILENCE_S", 0.0)
    whole: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]
    waited_for, gone = asyncio.Event(), asyncio.Event()

    async def come() -> Message:
        if whole:
            return whole.pop()
        waited_for.set()
        await gone.wait()
        return {"type": "http.disconnect"}

    async with asyncio.timeout(30):
        answer = _ask(api, "GET", "/api/v1/events", _token(api), come)
        assert (await anext(answer))["status"] == 200
        await waited_for.wait()
        gone.set()
        assert not [one async for one in answer if one["type"] != "http.response.body"]
