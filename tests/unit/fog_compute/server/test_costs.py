"""What a question costs: the statements that the store runs for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine, event

from fog_compute.server.details import Details
from fog_compute.tasks import Task, TaskResult, TaskState

from .conftest import Api


@contextmanager
def statements(about: str) -> Iterator[list[str]]:
    """Collect the statements that have these words, or a parameter with them."""
    found: list[str] = []

    def note(_: Any, __: Any, statement: str, parameters: Any, *more: Any) -> None:
        if about in statement or about in str(parameters):
            found.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(Engine, "before_cursor_execute", note)


@pytest.mark.asyncio
async def test_waiting_for_events_in_vain_asks_the_store_once(api: Api) -> None:
    """INV-API-30."""
    await api.create()
    with statements("FROM events") as asked:
        answer = await api.http.get("/api/v1/events", params={"since": 1, "wait": 0.2})

    assert answer.json() == {"events": [], "next": 1}
    assert len(asked) == 1


@pytest.mark.asyncio
async def test_waiting_for_a_task_in_vain_asks_the_store_once(api: Api) -> None:
    """INV-API-33."""
    worker = api.add_worker("a")
    task = await api.create()
    path = f"/api/v1/tasks/{task['id']}"
    body: dict[str, Any] = {}

    async def running() -> bool:
        nonlocal body
        body = (await api.http.get(path)).json()
        return bool(body["state"] == "running")

    await api.until(running)
    with statements(str(task["id"])) as asked:
        answer = await api.http.get(path, params={"since": body["version"], "wait": 0.2})
    held, last = answer.json(), next(iter(worker.attempts))

    assert len(asked) == 1
    assert {**held, "stage": None} == {**body, "stage": None}
    assert held["attempts"][0]["state"] == "running"
    worker.finish(TaskResult(0, b"", b"", 10, 5, 65536), last)
    seen = await api.http.get(path, params={"since": body["version"], "wait": 20})
    assert seen.json()["version"] > body["version"]


@pytest.mark.asyncio
async def test_what_is_remembered_of_tasks_is_what_the_store_has(api: Api) -> None:
    """INV-API-33."""
    store, coordinator = (
        api.services.get_service("store"),
        api.services.get_service("fog_coordinator"),
    )
    made = [str((await api.create())["id"]) for _ in range(4)]
    tasks = [await store.tasks.get(one) for one in made]
    details = Details(3)

    async def reads(task: Task) -> int:
        with statements(task.id) as asked:
            detail = await details.of(task, store, coordinator)
        assert detail.history == tuple(await store.events.history(task.id))
        assert detail.attempts == tuple(await store.attempts.of_task(task.id))
        return len(asked)

    assert [await reads(task) for task in tasks] == [2, 2, 2, 2]
    assert [await reads(task) for task in reversed(tasks)] == [0, 0, 0, 2]
    assert await reads(replace(tasks[0], version=7)) == 2
    over = await coordinator.cancel(tasks[1].id)
    assert [await reads(over) for _ in range(2)] == [2, 2]
    elsewhere = replace(tasks[2], attempt="00" * 16, state=TaskState.RUNNING)
    assert [await reads(elsewhere) for _ in range(2)] == [2, 2]
