"""Batches of tasks over HTTP, and following what happens to them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fog_compute.tasks import TaskResult
from tests.unit.fog_compute.modules import COMMAND
from tests.unit.fog_compute.server.conftest import Api

pytestmark = pytest.mark.asyncio

OK = TaskResult(0, b"out", b"err", 10, 5, 65536)


async def batch_of(api: Api, count: int, **more: object) -> dict[str, Any]:
    blob = await api.http.post("/api/v1/blobs", content=COMMAND)
    module = blob.json()["sha256"]
    tasks = [{"module": module, "argv": [str(number)], **more} for number in range(count)]
    return {"tasks": tasks}


async def test_batch_is_followed_from_one_cursor_to_its_end(api: Api) -> None:
    """INV-TASK-64, INV-TASK-65."""
    worker = api.add_worker("a")
    other = await api.create()
    made = await api.http.post("/api/v1/tasks/batch", json=await batch_of(api, 11))
    assert made.status_code == 201, made.text
    ids = made.json()["tasks"]
    cursor = 0
    accepted: set[str] = set()
    seen: list[dict[str, Any]] = []

    async def all_over() -> bool:
        nonlocal cursor
        for handle in worker.attempts:
            if handle not in worker.results:
                worker.finish(OK, handle)
        answer = await api.http.get(
            "/api/v1/events",
            params={"since": cursor, "batch": made.json()["batch"], "wait": 0.1, "limit": 5},
        )
        body = answer.json()
        assert len(body["events"]) <= 5
        seen.extend(body["events"])
        cursor = body["next"]
        accepted.update(one["task"] for one in body["events"] if one["final"])
        return len(accepted) == len(ids)

    await api.until(all_over)

    assert len(ids) == len(set(ids)) == 11
    assert accepted == set(ids)
    assert other["id"] not in {one["task"] for one in seen}
    numbers = [one["seq"] for one in seen]
    assert numbers == sorted(set(numbers))


async def test_one_key_makes_one_batch_however_often_it_is_asked_for(api: Api) -> None:
    """INV-TASK-24, INV-TASK-65."""
    body = await batch_of(api, 3)
    answers = await asyncio.gather(
        *(
            api.http.post("/api/v1/tasks/batch", json=body, headers={"idempotency-key": "k"})
            for _ in range(4)
        )
    )
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    listed = (await api.http.get("/api/v1/tasks")).json()["tasks"]
    assert [one["id"] for one in reversed(listed)] == answers[0].json()["tasks"]


@pytest.mark.parametrize("batch", [None, "0" * 25 + "b"])
async def test_another_batch_under_a_key_is_refused_also_where_one_begins_like_the_other(
    api: Api, batch: str | None
) -> None:
    """INV-TASK-150."""
    key = {"idempotency-key": "k"}
    named = {} if batch is None else {"batch": batch}
    body = {**await batch_of(api, 5), **named}
    made = await api.http.post("/api/v1/tasks/batch", json=body, headers=key)
    longer = {**await batch_of(api, 7), **named}
    if batch is not None:  # what would make the first request's tasks longer stands behind them
        await api.http.post("/api/v1/tasks/batch", json={**longer, "tasks": longer["tasks"][5:]})

    for count in (1, 4, 6, 7):
        other = {**longer, "tasks": longer["tasks"][:count]}
        refused = await api.http.post("/api/v1/tasks/batch", json=other, headers=key)
        assert refused.status_code == 409
        assert "something else was made under this idempotency key" in refused.json()["detail"]
    alone = await api.http.post("/api/v1/tasks", json=body["tasks"][0], headers=key)
    assert alone.status_code == 409

    again = await api.http.post("/api/v1/tasks/batch", json=body, headers=key)
    assert again.json() == made.json()


async def test_batch_of_one_is_not_the_task_that_was_made_alone_under_its_key(api: Api) -> None:
    """INV-TASK-150."""
    key = {"idempotency-key": "k"}
    body = await batch_of(api, 1)
    await api.http.post("/api/v1/tasks", json=body["tasks"][0], headers=key)

    refused = await api.http.post("/api/v1/tasks/batch", json=body, headers=key)

    assert refused.status_code == 409


@pytest.mark.parametrize("count", [0, 1001])
async def test_batch_of_no_or_too_many_tasks_is_refused(api: Api, count: int) -> None:
    answer = await api.http.post("/api/v1/tasks/batch", json=await batch_of(api, count))

    assert answer.status_code == 422
    assert (await api.http.get("/api/v1/tasks")).json()["tasks"] == []


async def test_batch_with_a_task_that_can_never_run_is_refused_whole(api: Api) -> None:
    """INV-TASK-65."""
    body = await batch_of(api, 3)
    body["tasks"][1]["argv"] = ["x" * 70_000]

    answer = await api.http.post("/api/v1/tasks/batch", json=body)

    assert answer.status_code == 422
    assert (await api.http.get("/api/v1/tasks")).json()["tasks"] == []


async def test_events_of_nothing_leave_the_cursor_where_it_was(api: Api) -> None:
    answer = await api.http.get("/api/v1/events", params={"since": 7, "wait": 0.02})

    assert answer.json() == {"events": [], "next": 7}


async def test_tasks_of_a_batch_are_listed_in_pages(api: Api) -> None:
    """INV-API-45."""
    alone = await api.create()
    task = {"module": alone["module"]}
    made = (await api.http.post("/api/v1/tasks/batch", json={"tasks": [task] * 3})).json()

    async def page(**more: str) -> tuple[list[str], str | None]:
        query = {"batch": made["batch"], "limit": "2", **more}
        found = (await api.http.get("/api/v1/tasks", params=query)).json()
        return [one["id"] for one in found["tasks"]], found["next"]

    first, then = await page()
    assert then is not None
    second, end = await page(before=then)

    assert first + second == made["tasks"][::-1]
    assert end is None
    assert await page(state="accepted") == ([], None)


async def test_several_requests_add_to_one_batch(api: Api) -> None:
    """INV-TASK-65."""
    body = {**await batch_of(api, 2), "batch": "0" * 25 + "b"}
    answers = [
        await api.http.post("/api/v1/tasks/batch", json=body, headers={"idempotency-key": key})
        for key in ("k", "l", "k")
    ]
    assert {answer.json()["batch"] for answer in answers} == {body["batch"]}
    ids = [answer.json()["tasks"] for answer in answers]
    assert ids[0] == ids[2]
    assert not set(ids[0]) & set(ids[1])
    events = await api.http.get("/api/v1/events", params={"batch": str(body["batch"])})
    assert {one["task"] for one in events.json()["events"]} == {*ids[0], *ids[1]}
