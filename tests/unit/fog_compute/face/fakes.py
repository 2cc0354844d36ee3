"""A backend in memory, behind the very client that asks real ones."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx2

from fog_compute.client.connection import Address
from fog_compute.client.places import Home
from fog_compute.layout import HomeLayout

ENDED = ("accepted", "failed", "cancelled")
RESULT: dict[str, Any] = {
    "exit_code": 0,
    "fault": None,
    "fuel_used": 5,
    "wall_ms": 250,
    "peak_memory": 65_536,
    "compile_ms": 0,
    "receipt": "",
}


@dataclass
class Made:
    """A task of the fake."""

    id: str
    body: dict[str, Any]
    batch: str = ""
    state: str = "queued"
    reason: str = ""
    version: int = 1
    stdout: bytes = b""
    stderr: bytes = b""
    files: dict[str, bytes] = field(default_factory=dict)
    result: dict[str, Any] | None = None

    def answer(self) -> dict[str, Any]:
        """As the backend shows it."""
        result = (
            None
            if self.result is None
            else {
                **RESULT,
                **self.result,
                "stdout_bytes": len(self.stdout),
                "stderr_bytes": len(self.stderr),
                "files": [{"path": path, "size": len(data)} for path, data in self.files.items()],
            }
        )
        return {
            "id": self.id,
            "state": self.state,
            "privacy": self.body["privacy"],
            "kind": self.body["kind"],
            "tries": 0,
            "max_attempts": 3,
            "created_at": "2026-01-01T00:00:00Z",
            "reason": self.reason,
            "final": self.state in ENDED,
            "version": self.version,
            "hops": 3,
            "argv": self.body["argv"],
            "seed": "",
            "stage": None,
            "result": result,
            "log_tail": self.stderr.decode(),
            "attempts": [],
        }


class FakeFog:
    """A backend that runs tasks by a function, at once unless it is told to wait.

    Attributes:
        program: what becomes of a task: it sets its output and result.
        waits: whether tasks stay queued until `finish`.
        asked: method and path of every request.
        bodies: bytes of every request that made a batch.
        refuses: answers to the next questions, in place of the true ones.
        refused: methods of requests that are questions in this.
        held: until it is set, a batch is made and its answer is on the way.
        lost: how many tasks of a batch, from its begin, are left out of its answer.
        nodes: of the network, in the order of their ids.
    """

    def __init__(self, home: Path) -> None:
        self.place = FakePlace(self, home)
        self.program: Callable[[Made], None] = lambda task: None
        self.waits = False
        self.asked: list[str] = []
        self.bodies: list[int] = []
        self.held: asyncio.Event | None = None
        self.lost = 0
        self.nodes: list[dict[str, Any]] = []
        self.blobs: dict[str, bytes] = {}
        self.tasks: dict[str, Made] = {}
        self.keys: dict[str, tuple[Any, list[Made]]] = {}
        self.events: list[tuple[str, str]] = []
        self.news = asyncio.Event()
        self.most_open = 0
        self.refuses: list[httpx2.Response] = []
        self.refused = {"GET"}

    def finish(self, task: Made, state: str = "accepted") -> None:
        """Let a task end."""
        if task.state in ENDED:
            return
        if state == "accepted":
            task.result = {}
            self.program(task)
            if task.state in ENDED:
                state = task.state
        self.come_to(task, state)

    def come_to(self, task: Made, state: str) -> None:
        """Let a task come to a state."""
        task.state = state
        task.version += 1
        self.events.append((task.id, state))
        self.news.set()
        self.news = asyncio.Event()

    @property
    def open_tasks(self) -> list[Made]:
        """Those that are not over."""
        return [task for task in self.tasks.values() if task.state not in ENDED]

    async def answer(self, request: httpx2.Request) -> httpx2.Response:
        """Answer one request."""
        path = unquote(request.url.path)
        self.asked.append(f"{request.method} {path}")
        body = await request.aread()
        if self.refuses and request.method in self.refused:
            return self.refuses.pop(0)
        match path.removeprefix("/api/v1/").split("/", 2):
            case ["blobs"]:
                sha256 = hashlib.sha256(body).hexdigest()
                self.blobs[sha256] = body
                return httpx2.Response(201, json={"sha256": sha256, "size": len(body)})
            case ["tasks"] if request.method == "POST":
                return self._make(request, [json.loads(body)])
            case ["tasks", "batch"]:
                batch = json.loads(body)
                self.bodies.append(len(body))
                made = self._make(request, batch["tasks"], batch["batch"])
                if self.held is not None:
                    await self.held.wait()
                return made
            case ["tasks"]:
                rows = [task.answer() for task in reversed(self.tasks.values())]
                return httpx2.Response(200, json={"tasks": rows})
            case ["events"]:
                return await self._events(request)
            case ["nodes"]:
                return self._nodes(request)
            case ["tasks", task_id, *more]:
                return await self._task(request, task_id, "/".join(more))
        return problem(404, "not-found", "nothing there")

    def _make(
        self, request: httpx2.Request, bodies: list[dict[str, Any]], batch: str = ""
    ) -> httpx2.Response:
        key = request.headers["idempotency-key"]
        if key in self.keys:
            before, made = self.keys[key]
            if before != bodies:
                return problem(409, "conflict", "something else was made under this key")
        else:
            made = [
                Made(f"{len(self.tasks) + at:026}", body, batch) for at, body in enumerate(bodies)
            ]
            self.keys[key] = (bodies, made)
            for task in made:
                self.tasks[task.id] = task
                self.come_to(task, "queued")
                self.most_open = max(self.most_open, len(self.open_tasks))
                if not self.waits:
                    self.finish(task)
        if batch:
            ids = [task.id for task in made[self.lost :]]
            return httpx2.Response(201, json={"batch": batch, "tasks": ids, "warning": ""})
        return httpx2.Response(201, json={**made[0].answer(), "warning": ""})

    async def _task(self, request: httpx2.Request, task_id: str, what: str) -> httpx2.Response:
        task = self.tasks.get(task_id)
        if task is None:
            return problem(404, "not-found", f"there is no task {task_id}")
        if what == "cancel":
            if task.state in ENDED:
                return problem(409, "conflict", "it is over")
            self.finish(task, "cancelled")
        elif what == "files":
            return httpx2.Response(200, json={"files": (task.answer()["result"] or {})["files"]})
        elif what.startswith("files/"):
            return httpx2.Response(200, content=task.files[what.removeprefix("files/")])
        elif what in ("stdout", "stderr"):
            return httpx2.Response(200, content=getattr(task, what))
        while "wait" in request.url.params and int(request.url.params["since"]) >= task.version:
            await self.news.wait()
        return httpx2.Response(200, json=task.answer())

    def _nodes(self, request: httpx2.Request) -> httpx2.Response:
        """One node to a page, whatever page is asked for."""
        role, after = request.url.params.get("role"), request.url.params.get("after", "")
        left = [one for one in self.nodes if one["id"] > after and role in (None, one["role"])]
        head = {"network": "n", "epoch": 3, "revision": 0, "valid_until": "", "in_force": True}
        more = left[0]["id"] if left[1:] else None
        body = {**head, "roles": {}, "one_operator": True, "nodes": left[:1], "next": more}
        return httpx2.Response(200, json=body)

    async def _events(self, request: httpx2.Request) -> httpx2.Response:
        since = int(request.url.params["since"])
        while len(self.events) <= since:
            await self.news.wait()
        batch = request.url.params["batch"]
        events = [
            {"task": task, "state": state}
            for task, state in self.events[since:]
            if self.tasks[task].batch == batch
        ]
        return httpx2.Response(200, json={"events": events, "next": len(self.events)})


def problem(status: int, kind: str, detail: str) -> httpx2.Response:
    """A refusal as the backend tells it."""
    body = {"type": f"urn:fog-compute:problem:{kind}", "detail": detail}
    return httpx2.Response(status, json=body)


class FakeAddress(Address):
    """Leads to a fake."""

    fake: FakeFog

    def options(self) -> dict[str, Any]:
        """No socket is opened."""
        return {
            "base_url": "http://fog",
            "transport": httpx2.MockTransport(self.fake.answer),
        }


class FakePlace(Home):
    """Where a fake is."""

    def __init__(self, fake: FakeFog, home: Path) -> None:
        super().__init__(HomeLayout(home))
        self._fake = fake

    def find(self) -> Address:
        """Find it at once."""
        found = FakeAddress(httpx2.URL("http://fog"), "t" * 40)
        object.__setattr__(found, "fake", self._fake)
        return found
