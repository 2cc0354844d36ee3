"""The end of a backend: who waits gets an answer, and no request ends as an error of the server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from fog_compute.errors import STOPPING
from fog_compute.server.stopping import Stopping

from .conftest import Api

DEADLINE_S = 30.0
LONG_POLL_S = 59.0

App = Callable[[Scope, Receive, Send], Awaitable[None]]


@pytest.mark.asyncio
async def test_long_poll_is_answered_when_the_backend_stops(api: Api) -> None:
    """INV-TASK-41."""
    task = await api.create()
    path, since = f"/api/v1/tasks/{task['id']}", str(task["version"])
    events = api.services.get_service("store").events
    waiting = asyncio.create_task(
        api.http.get(path, params={"wait": str(LONG_POLL_S), "since": since})
    )

    async def waited_for() -> bool:
        return events.waited_for

    await api.until(waited_for)
    assert not api.services.stopping
    api.services.begin_stop()
    answer = await asyncio.wait_for(waiting, DEADLINE_S)
    again = await api.http.get(path, params={"wait": str(LONG_POLL_S), "since": since})

    assert (answer.status_code, answer.json()["state"]) == (200, "queued")
    assert again.json() == answer.json()


async def call(app: App, *, stopping: bool) -> list[Message]:
    """Cut a request short and return what was sent."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    wrapped = Stopping(app, stopping=lambda: stopping)
    request = asyncio.create_task(_await(wrapped({"type": "http"}, receive, send)))
    await asyncio.sleep(0)
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    if request.cancelled():
        sent.append({"type": "cancelled"})
    return sent


async def _await(waiting: Awaitable[Any]) -> None:
    await waiting


async def endless(scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.Event().wait()


async def half(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200})
    await asyncio.Event().wait()


@pytest.mark.asyncio
async def test_request_that_the_stop_cuts_short_is_told_so() -> None:
    start, body = await call(endless, stopping=True)

    assert start["status"] == 503
    assert json.loads(body["body"])["type"] == STOPPING


@pytest.mark.asyncio
@pytest.mark.parametrize(("app", "stopping"), [(endless, False), (half, True)])
async def test_only_a_request_without_an_answer_is_told_of_the_stop(
    app: App, stopping: bool
) -> None:
    sent = await call(app, stopping=stopping)

    assert sent[-1] == {"type": "cancelled"}
    assert all(message.get("status") != 503 for message in sent)
