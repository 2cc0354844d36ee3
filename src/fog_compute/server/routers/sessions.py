"""Sessions: opened with a token that is shown once, looked at, closed."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Header, Path

from fog_compute.errors import NotFound
from fog_compute.server.circuit_schemas import (
    SessionIn,
    SessionListOut,
    SessionOpenedOut,
    SessionOut,
)
from fog_compute.server.dependencies import Services
from fog_compute.server.openapi import answers

__all__ = ["router"]

router = APIRouter(tags=["network"])

SessionId = Annotated[str, Path(pattern="^[0-9a-f]{1,64}$", description="The id of a session.")]
Token = Annotated[
    str, Header(pattern="^[!-~]{1,200}$", description="What opening the session gave.")
]


@router.get("/sessions")
async def list_sessions(services: Services) -> SessionListOut:
    """Show the sessions that were opened with a token, and what each has used."""
    sessions = services.get_service("sessions").sessions()
    return SessionListOut(sessions=[SessionOut.of(session) for session in sessions])


@router.post("/sessions", status_code=HTTPStatus.CREATED, responses=answers(409, 502, 504))
async def open_session(session: SessionIn, services: Services) -> SessionOpenedOut:
    """Open a session of one level; its token is shown now and never again."""
    sessions = services.get_service("sessions")
    token = await sessions.open(session.level, apart=session.apart, quota_bytes=session.quota_bytes)
    return SessionOpenedOut.of_opened(sessions.show(token), token)


@router.get("/sessions/{session_id}", responses=answers(404))
async def get_session(session_id: SessionId, services: Services) -> SessionOut:
    """Show one session and what it has used."""
    for session in services.get_service("sessions").sessions():
        if session.id == session_id:
            return SessionOut.of(session)
    raise NotFound(f"there is no session {session_id}: it was closed, or its time is over")


@router.delete("/sessions/{session_id}", status_code=HTTPStatus.NO_CONTENT, responses=answers(404))
async def close_session(session_id: SessionId, session_token: Token, services: Services) -> None:
    """Close a session, as who opened it; what it has under way goes on."""
    sessions = services.get_service("sessions")
    if sessions.show(session_token).id != session_id:
        raise NotFound(f"the token is not that of session {session_id}")
    await sessions.close(session_token)
