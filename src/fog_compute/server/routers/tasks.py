"""Blobs, tasks and their results."""

from __future__ import annotations

from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from fog_compute.errors import NotFound
from fog_compute.levels import PrivacyLevel
from fog_compute.server.bodies import BYTES
from fog_compute.server.dependencies import IdempotencyKey, Services, TaskDetails
from fog_compute.server.details import Details
from fog_compute.server.forms import SMALL
from fog_compute.server.openapi import GIVES_BYTES, answers
from fog_compute.server.services import ServiceManager
from fog_compute.server.task_schemas import (
    BatchIn,
    BatchOut,
    BlobOut,
    OutputFilesOut,
    TaskDetailOut,
    TaskIn,
    TaskListOut,
    TaskMadeOut,
    TaskNamedOut,
    TaskOut,
    Until,
)
from fog_compute.store import Conflict, StoredResult
from fog_compute.tasks import Task, TaskState
from fog_compute.tasks.ids import NAME_PATTERN, SHOWN_IDS, place_of, several
from fog_compute.units import MIB
from fog_compute.vpn.network import check_level

__all__ = ["router"]

PIECE_BYTES: Final = MIB
"""What is read of a result at once."""

router = APIRouter(tags=["tasks"])

_FILE: Final = {**GIVES_BYTES, **answers(404)}

TaskId = Annotated[str, Path(pattern=SMALL, description="The id of a task.")]


@router.post(
    "/blobs",
    status_code=HTTPStatus.CREATED,
    responses=answers(507),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {BYTES: {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def upload_blob(request: Request, services: Services) -> BlobOut:
    """Upload a module, a standard input or an input file; the same bytes are kept once."""
    sha256, size = await services.get_service("store").blobs.take(request.stream())
    return BlobOut(sha256=sha256, size=size)


@router.post("/tasks", status_code=HTTPStatus.CREATED, responses=answers(404, 409))
async def submit_task(
    task: TaskIn, services: Services, response: Response, idempotency_key: IdempotencyKey = None
) -> TaskMadeOut:
    """Queue a task; it survives restarts from the moment of the answer."""
    spec = task.to_spec()
    _check_level(services, spec.privacy)
    await services.admission.check(spec, services.get_service("store").blobs)
    coordinator = services.get_service("fog_coordinator")
    made = await coordinator.submit(spec, idempotency_key, wait_for_worker=task.wait_for_worker)
    response.headers["location"] = f"/api/v1/tasks/{made.id}"
    short = next(coordinator.shortfalls([made.spec]), None)
    return TaskMadeOut.of_made(made, "" if short is None else short.text)


@router.post("/tasks/batch", status_code=HTTPStatus.CREATED, responses=answers(404, 409))
async def submit_batch(
    batch: BatchIn, services: Services, idempotency_key: IdempotencyKey = None
) -> BatchOut:
    """Queue up to 1000 tasks together: all of them, or none; they survive restarts from now on."""
    specs = batch.to_specs()
    for level in {spec.privacy for spec in specs}:
        _check_level(services, level)
    blobs = services.get_service("store").blobs
    differing = {(spec.module, spec.kind, spec.limits.memory_bytes): spec for spec in specs}
    for spec in differing.values():
        await services.admission.check(spec, blobs)
    coordinator = services.get_service("fog_coordinator")
    at_once = {at for at, task in enumerate(batch.tasks) if not task.wait_for_worker}
    made = await coordinator.submit_batch(specs, idempotency_key, batch.batch, at_once=at_once)
    short = next(coordinator.shortfalls(task.spec for task in made), None)
    return BatchOut(
        batch=made[0].batch or "",
        tasks=[task.id for task in made],
        warning="" if short is None else short.text,
    )


@router.get("/tasks")
async def list_tasks(
    services: Services,
    state: TaskState | None = None,
    batch: Annotated[str | None, Query(pattern=SMALL, description="The id of a batch.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    before: Annotated[
        str | None,
        Query(pattern=SMALL, description="What the page before calls next."),
    ] = None,
) -> TaskListOut:
    """List tasks, newest first: all, or those of a state or a batch."""
    store, coordinator = services.get_service("store"), services.get_service("fog_coordinator")
    tasks = await store.tasks.list(state=state, batch=batch, limit=limit, before=before)
    return TaskListOut(
        tasks=[TaskOut.of(task, coordinator.waiting_reason(task)) for task in tasks],
        next=tasks[-1].id if len(tasks) == limit else None,
    )


@router.get("/tasks/named/{name}", responses=answers(404, 409))
async def find_task(
    name: Annotated[
        str,
        Path(
            pattern=NAME_PATTERN,
            description="`@last`, `@2` for the last but one, an id, or its begin or end.",
        ),
    ],
    services: Services,
) -> TaskNamedOut:
    """Say which task a name means."""
    found = await services.get_service("store").tasks.named(name, SHOWN_IDS + 1)
    if not found:
        raise NotFound(
            f"there are not so many tasks as {name} says: `fog task ls` shows those that are"
            if place_of(name) is not None
            else f"no task's id begins or ends with {name}: `fog task ls` shows those that are"
        )
    if len(found) > 1:
        raise Conflict(several("tasks", name, found))
    return TaskNamedOut(id=found[0])


@router.get("/tasks/{task_id}", responses=answers(404))
async def get_task(
    task_id: TaskId,
    services: Services,
    details: TaskDetails,
    wait: Annotated[float, Query(ge=0, description="Seconds to wait for a change.")] = 0,
    since: Annotated[int, Query(ge=0, description="Version that the caller has.")] = 0,
    until: Annotated[
        Until, Query(description="What to wait for: any change, or the end of the task.")
    ] = Until.CHANGE,
) -> TaskDetailOut:
    """Show one task; with `wait`, once its version is above `since`, or once it is over."""
    store, coordinator = services.get_service("store"), services.get_service("fog_coordinator")
    found: list[Task] = []
    if wait:

        async def waiting() -> None:
            found.append(
                await coordinator.follow(
                    task_id,
                    since,
                    min(wait, services.settings.max_wait_s),
                    final=until is Until.END,
                )
            )

        await services.unless_stopping(waiting())
    task = found[0] if found else await store.tasks.get(task_id)
    return await _detail(services, details, task)


@router.post("/tasks/{task_id}/cancel", responses=answers(404, 409))
async def cancel_task(task_id: TaskId, services: Services, details: TaskDetails) -> TaskDetailOut:
    """Cancel a task that is not over; its worker is told to stop."""
    task = await services.get_service("fog_coordinator").cancel(task_id)
    return await _detail(services, details, task)


@router.get("/tasks/{task_id}/stdout", response_class=Response, responses=_FILE)
async def get_task_stdout(task_id: TaskId, services: Services) -> Response:
    """Give the standard output of the task's result."""
    result = await _result(services, task_id)
    return await _streamed(result, result.head.stdout_at)


@router.get("/tasks/{task_id}/stderr", response_class=Response, responses=_FILE)
async def get_task_stderr(task_id: TaskId, services: Services) -> Response:
    """Give the standard error of the task's result."""
    result = await _result(services, task_id)
    return await _streamed(result, result.head.stderr_at)


@router.get("/tasks/{task_id}/files", responses=answers(404))
async def list_task_files(task_id: TaskId, services: Services) -> OutputFilesOut:
    """List the files that the task left, by the bytes of their paths."""
    return OutputFilesOut.of((await _result(services, task_id)).head)


@router.get("/tasks/{task_id}/files/{path:path}", response_class=Response, responses=_FILE)
async def get_task_file(
    task_id: TaskId,
    path: Annotated[str, Path(description="A path of the list.")],
    services: Services,
) -> Response:
    """Give a file that the task left."""
    result = await _result(services, task_id)
    return await _streamed(result, result.head.file_at(path))


def _check_level(services: ServiceManager, level: PrivacyLevel) -> None:
    """Refuse at once what the network cannot give; an unknown network is waited for."""
    view = services.net_status
    if view is not None:
        check_level(view.shortages, level)


async def _detail(services: ServiceManager, details: Details, task: Task) -> TaskDetailOut:
    store, coordinator = services.get_service("store"), services.get_service("fog_coordinator")
    detail = await details.of(task, store, coordinator)
    return TaskDetailOut.of_all(
        task,
        coordinator.waiting_reason(task, detail.attempts),
        coordinator.log_tail(task),
        coordinator.stage(task),
        detail.result,
        detail.attempts,
        detail.history,
    )


async def _result(services: ServiceManager, task_id: str) -> StoredResult:
    store = services.get_service("store")
    task = await store.tasks.get(task_id)
    if not task.state.final:
        raise NotFound(f"task {task_id} has no result yet: {task.state.said}")
    return await store.results.get(task_id)


async def _streamed(result: StoredResult, at: range) -> Response:
    """Give a part of a result piece by piece; what keeps it from being read at all is told."""
    starts = range(at.start, at.stop, PIECE_BYTES)
    parts = [range(start, min(start + PIECE_BYTES, at.stop)) for start in starts]
    first = await result.read(parts[0]) if parts else b""

    async def pieces() -> AsyncIterator[bytes]:
        yield first
        for part in parts[1:]:
            yield await result.read(part)

    return StreamingResponse(
        pieces(),
        media_type=BYTES,
        headers={"content-length": str(len(at))},
    )
