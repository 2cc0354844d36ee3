"""How often a command asks the backend."""

from __future__ import annotations

import asyncio
import fcntl
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from fog_compute.cli.run import run
from fog_compute.server.listener import BoundedServer
from fog_compute.tasks import TaskResult

from .conftest import DEADLINE_S, Api

WORDCOUNT = Path(__file__).parents[4] / "examples/wordcount/wordcount.wasm"
RESULT = TaskResult(3, b"out\n", b"err\n", 10, 5, 65536)


class Noting:
    """An application, and what it was asked."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.asked: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.asked.append(f"{scope['method']} {scope['path']}")
        await self._app(scope, receive, send)


@pytest_asyncio.fixture
async def noting(api: Api) -> AsyncIterator[Noting]:
    """The backend of ``api``, where commands find it."""
    noting = Noting(api.app)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(noting, lifespan="off", log_config=None, access_log=False)
        server = BoundedServer(config, lambda: None, places=9)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        with api.services.settings.layout.server_file.open("w") as state:
            fcntl.flock(state, fcntl.LOCK_EX)  # a backend that lives
            json.dump({"url": f"http://127.0.0.1:{listener.getsockname()[1]}", "pid": 1}, state)
            state.flush()
            yield noting
        server.should_exit = True
        await serving


@pytest.mark.asyncio
async def test_run_of_a_short_task_asks_six_times_at_most(
    api: Api,
    noting: Noting,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """INV-API-34."""
    worker = api.add_worker("a")
    given = tmp_path / "given"
    given.write_text("words\n")
    monkeypatch.setenv("FOG_HOME", str(api.services.settings.home))

    async def finish() -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not worker.attempts:
                await asyncio.sleep(0.005)
        worker.finish(RESULT)

    code, _ = await asyncio.gather(
        asyncio.to_thread(run, str(WORDCOUNT), stdin=str(given)), finish()
    )

    assert code == RESULT.exit_code
    assert capfd.readouterr().out.endswith("\nout\n")  # behind what the backend logs
    task = f"/api/v1/tasks/{(await api.http.get('/api/v1/tasks')).json()['tasks'][0]['id']}"
    assert noting.asked == [
        "POST /api/v1/blobs",
        "POST /api/v1/blobs",
        "POST /api/v1/tasks",
        f"GET {task}",
        f"GET {task}/stdout",
        f"GET {task}/stderr",
    ]
