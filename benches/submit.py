"""Measure what a backend takes by HTTP: tasks one by one, tasks in batches, listeners to events.

The backend is a process of its own with a store of its own and no network, so that tasks wait and
nothing but taking them is counted. Beside it in the same run stands a bare FastAPI application that
checks the same body and gives it back, and keeps nothing. Prints JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import psutil

SECONDS = 5.0
TURNS = 3
CONNECTIONS = 32
BATCH = 500
BATCHES_AT_ONCE = 2
LISTENERS = 1000
EVENTS = 300
EVENTS_AT_ONCE = 10
START_S = 60.0
MIB = 1024 * 1024

PEER = """
import json, socket, uvicorn
from fastapi import FastAPI
from fog_compute.server.task_schemas import TaskIn
app = FastAPI()
@app.post("/api/v1/tasks", status_code=201)
async def echo(task: TaskIn) -> TaskIn:
    return task
listening = socket.create_server(("127.0.0.1", 0))
print(json.dumps({"event": "ready", "url": f":{listening.getsockname()[1]}"}), flush=True)
uvicorn.run(app, fd=listening.fileno(), log_level="error", access_log=False)
"""


class Connection:
    """One connection that is kept, and what is asked over it."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, token: str
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._token = token

    @classmethod
    async def open(cls, port: int, token: str) -> Connection:
        """Connect."""
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=MIB), token)

    async def ask(self, method: str, path: str, body: bytes = b"", kind: str = "json") -> bytes:
        """Ask and return the body of a good answer."""
        await self.send(method, path, f"content-type: application/{kind}\r\n", body)
        head = await self._reader.readuntil(b"\r\n\r\n")
        status, length = int(head[9:12]), 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        answer = await self._reader.readexactly(length)
        if status not in (200, 201):
            sys.exit(f"{method} {path}: status {status}: {answer[:500]!r}")
        return answer

    async def send(self, method: str, path: str, more: str = "", body: bytes = b"") -> None:
        """Send a request."""
        head = (
            f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n"
            f"authorization: Bearer {self._token}\r\n"
            f"{more}content-length: {len(body)}\r\n\r\n"
        )
        self._writer.write(head.encode() + body)
        await self._writer.drain()

    async def chunk(self) -> bytes:
        """The next piece of an answer that comes in pieces."""
        size = int(await self._reader.readuntil(b"\r\n"), 16)
        return (await self._reader.readexactly(size + 2))[:-2]

    async def head(self) -> bytes:
        """The head of an answer."""
        return await self._reader.readuntil(b"\r\n\r\n")

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


@contextmanager
def started(*command: str, **settings: str) -> Iterator[tuple[int, int]]:
    """A server of its own, once it says where it listens; its port, and its process."""
    environment = {name: text for name, text in os.environ.items() if not name.startswith("FOG_")}
    environment |= settings
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    ) as process:
        try:
            if process.stdout is None:
                raise RuntimeError("a pipe was asked for")
            ready = next((line for line in process.stdout if b'"ready"' in line), None)
            if ready is None:
                sys.exit(f"{' '.join(command[:3])} does not start")
            yield int(json.loads(ready)["url"].rpartition(":")[2]), process.pid
        finally:
            process.terminate()


async def rate(port: int, token: str, path: str, body: bytes, at_once: int, each: int) -> float:
    """Things that are taken a second, ``each`` with one request, over connections that are kept."""
    connections = [await Connection.open(port, token) for _ in range(at_once)]
    found = []
    for turn in range(TURNS + 1):
        done = 0
        # The first turn warms up and is not counted.
        until = (begun := time.perf_counter()) + (SECONDS if turn else 1.0)

        async def again(connection: Connection, until: float = until) -> None:
            nonlocal done
            while time.perf_counter() < until:
                await connection.ask("POST", path, body)
                done += each

        await asyncio.gather(*map(again, connections))
        if turn:
            found.append(done / (time.perf_counter() - begun))
    for connection in connections:
        connection.close()
    return statistics.median(found)


async def listen(port: int, pid: int, token: str, task: object) -> dict[str, float]:
    """What listeners cost the backend, and whether each gets every event."""
    process = psutil.Process(pid)
    asking = await Connection.open(port, token)
    before = most = process.memory_info().rss
    listeners = [await Connection.open(port, token) for _ in range(LISTENERS)]
    got = [bytearray() for _ in listeners]
    for listener in listeners:
        await listener.send("GET", "/api/v1/events", "accept: text/event-stream\r\n")
    for listener in listeners:
        if b" 200 " not in (head := await listener.head()):
            sys.exit(f"a listener is refused: {head!r}")
        await listener.chunk()  # where it begins

    async def take(listener: Connection, into: bytearray) -> None:
        while into.count(b"\nevent: task\n") < EVENTS:
            into += await listener.chunk()

    taking = [asyncio.create_task(take(*one)) for one in zip(listeners, got, strict=True)]
    most = max(most, process.memory_info().rss)
    batch = json.dumps({"tasks": [task] * EVENTS_AT_ONCE}).encode()
    spent, begun = sum(process.cpu_times()[:2]), time.perf_counter()
    for _ in range(EVENTS // EVENTS_AT_ONCE):
        await asking.ask("POST", "/api/v1/tasks/batch", batch)
        most = max(most, process.memory_info().rss)
    await asyncio.wait(taking, timeout=START_S)
    taken = time.perf_counter() - begun
    most = max(most, process.memory_info().rss)
    spent = sum(process.cpu_times()[:2]) - spent
    lost = sum(EVENTS - one.count(b"\nevent: task\n") for one in got)
    if not lost and len({bytes(one) for one in got}) != 1:
        sys.exit("listeners got different events")
    for each in listeners:
        each.close()
    return {
        "sse_listeners_mib": round((most - before) / MIB, 1),
        "sse_lost": lost,
        "sse_us_per_event": round(spent / (LISTENERS * EVENTS) * 1e6, 1),
        "sse_events_per_s": round(LISTENERS * EVENTS / taken),
    }


async def described(port: int, token: str) -> dict[str, object]:
    """A task whose module the backend has."""
    asking = await Connection.open(port, token)
    module = (files("fog_compute.cli") / "echo.wasm").read_bytes()
    made = await asking.ask("POST", "/api/v1/blobs", module, "octet-stream")
    asking.close()
    return {"module": json.loads(made)["sha256"], "argv": ["a", "b"]}


async def singles(port: int, token: str, task: object) -> float:
    """Tasks a second that are taken one by one."""
    body = json.dumps(task).encode()
    return round(await rate(port, token, "/api/v1/tasks", body, CONNECTIONS, 1), 1)


async def batches(port: int, token: str, task: object) -> float:
    """Tasks a second that are taken in batches."""
    body = json.dumps({"tasks": [task] * BATCH}).encode()
    return round(await rate(port, token, "/api/v1/tasks/batch", body, BATCHES_AT_ONCE, BATCH), 1)


async def measure(port: int, pid: int, token: str) -> dict[str, float]:
    """What one backend does."""
    task = await described(port, token)
    return {
        "submit_single_per_s": await singles(port, token, task),
        **await listen(port, pid, token, task),
        "submit_batch_per_s": await batches(port, token, task),
    }


def main() -> None:
    """Start what is measured, one after another, and print."""
    with tempfile.TemporaryDirectory() as home:
        command = ("-m", "fog_compute.server", "--json-logs", "--port", "0", "--home", home)
        with started(sys.executable, *command) as (port, pid):
            token = Path(home, "daemon/token").read_text("ascii")
            summary = asyncio.run(measure(port, pid, token))
    with started(sys.executable, "-c", PEER) as (port, _):
        body = json.dumps({"module": "0" * 64, "argv": ["a", "b"]}).encode()
        peer = asyncio.run(rate(port, "", "/api/v1/tasks", body, CONNECTIONS, 1))
        summary["submit_peer_echo_per_s"] = round(peer, 1)
    sys.stdout.write(json.dumps({"summary": summary}, indent=2) + "\n")


if __name__ == "__main__":
    main()
