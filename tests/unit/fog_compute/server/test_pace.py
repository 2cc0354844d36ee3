"""Bodies that come too slowly, or not at all."""

from __future__ import annotations

import asyncio

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


async def _ask(api: Api, path: str, key: str | None) -> list[Message]:
    """POST the half of a body; return what is answered."""
    came = asyncio.Queue[Message]()
    came.put_nowait({"type": "http.request", "body": b"half", "more_body": True})
    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/octet-stream")]
    if key is not None:
        headers.append((b"authorization", f"Bearer {key}".encode()))
    scope: Scope = {
        "type": "http",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    said: list[Message] = []

    async def send(message: Message) -> None:
        said.append(message)

    await api.app(scope, came.get, send)
    return said


@pytest.mark.asyncio
async def test_half_a_body_is_refused_and_leaves_nothing(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-API-61, and INV-API-03: a stranger does not learn even that."""
    monkeypatch.setattr(bodies, "SILENCE_S", 0.01)
    key = api.services.settings.layout.token_file.read_text()
    begins, body, *_ = await _ask(api, "/api/v1/blobs", key)
    assert begins["status"] == 408
    assert b"urn:fog-compute:problem:too-slow" in body["body"]
    assert (b"connection", b"close") in begins["headers"]
    assert await api.services.get_service("store").blobs.total() == 0
    assert (await _ask(api, "/api/v1/login", None))[0]["status"] == 401


@pytest.mark.asyncio
async def test_an_answer_that_takes_long_is_not_cut(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-API-61: only the body is waited for so."""
    monkeypatch.setattr(bodies, "SILENCE_S", 0.0)
    assert (await api.http.get("/api/v1/events", params={"wait": 0.05})).status_code == 200
