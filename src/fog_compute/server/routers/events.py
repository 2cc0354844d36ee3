"""What happens to tasks: asked for by a cursor, or listened to."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from fog_compute.server.dependencies import Listening, Services
from fog_compute.server.forms import SMALL
from fog_compute.server.task_schemas import EventsOut, TaskEventOut
from fog_compute.store import TaskEventRecord

__all__ = ["router"]

EVENTS_AT_ONCE: Final = 1000
LAST_EVENT: Final = 2**62
STREAM: Final = "text/event-stream"

router = APIRouter(tags=["events"])

Cursor = Annotated[
    int | None,
    Query(
        ge=0,
        le=LAST_EVENT,
        description="The last event that is known, 0 for the beginning. A stream begins by default"
        " with what happens next, else it is 0.",
    ),
]


@router.get(
    "/events",
    response_model=EventsOut,
    responses={200: {"content": {STREAM: {"schema": {"type": "string"}}}}},
)
async def list_events(
    request: Request,
    services: Services,
    feed: Listening,
    since: Cursor = None,
    batch: Annotated[str | None, Query(pattern=SMALL)] = None,
    wait: Annotated[float, Query(ge=0, description="Seconds to wait for something.")] = 0,
    limit: Annotated[int, Query(ge=1, le=EVENTS_AT_ONCE)] = EVENTS_AT_ONCE,
    last_event_id: Annotated[
        int | None,
        Header(ge=0, le=LAST_EVENT, description="Instead of since, as browsers send it."),
    ] = None,
) -> EventsOut | Response:
    """Say what happened after a cursor, to the tasks of a batch or to all, oldest first.

    With `accept: text/event-stream` the answer goes on with what happens next: each event has its
    number as id, the kind `task`, and as data the JSON of an item of `events`. A listener that
    comes back with `last-event-id` misses nothing.
    """
    if STREAM in request.headers.get("accept", ""):
        feed.check_room()
        return StreamingResponse(
            feed.follow(since if last_event_id is None else last_event_id, batch),
            media_type=STREAM,
            headers={"x-accel-buffering": "no"},  # or a proxy would keep it until it is much
        )
    events = services.get_service("store").events
    known = since or 0
    found: list[TaskEventRecord] = []
    if wait:

        async def waiting() -> None:
            seconds = min(wait, services.settings.max_wait_s)
            found.extend(await events.wait_after(known, limit, seconds, batch=batch))

        await services.unless_stopping(waiting())
    else:
        found += await events.after(known, limit, batch=batch)
    return EventsOut(
        events=[TaskEventOut.of(event) for event in found],
        next=found[-1].seq if found else known,
    )
