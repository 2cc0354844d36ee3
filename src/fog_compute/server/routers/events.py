"""What happens to tasks."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query

from fog_compute.server.dependencies import Services
from fog_compute.server.schemas import EventsOut, TaskEventOut
from fog_compute.store import TaskEventRecord

__all__ = ["router"]

EVENTS_AT_ONCE: Final = 1000

router = APIRouter(tags=["events"])


@router.get("/events")
async def list_events(
    services: Services,
    since: Annotated[int, Query(ge=0, le=2**62, description="Cursor: 0 for the beginning.")] = 0,
    batch: Annotated[str | None, Query(pattern="^[0-9a-z]{1,64}$")] = None,
    wait: Annotated[float, Query(ge=0, description="Seconds to wait for something.")] = 0,
    limit: Annotated[int, Query(ge=1, le=EVENTS_AT_ONCE)] = EVENTS_AT_ONCE,
) -> EventsOut:
    """Say what happened after a cursor, to the tasks of a batch or to all, oldest first."""
    events = services.get_service("store").events
    found: list[TaskEventRecord] = []
    if wait:

        async def waiting() -> None:
            seconds = min(wait, services.settings.max_wait_s)
            found.extend(await events.wait_after(since, limit, seconds, batch=batch))

        await services.unless_stopping(waiting())
    else:
        found += await events.after(since, limit, batch=batch)
    return EventsOut(
        events=[TaskEventOut.of(event) for event in found],
        next=found[-1].seq if found else since,
    )
