"""Errors as ``application/problem+json`` (RFC 9457): one shape, one line meant for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from fog_compute.errors import (
    EXHAUSTED,
    FogError,
    PrivacyUnavailable,
    QuotaExceeded,
    StoreAway,
    is_exhaustion,
)
from fog_compute.observability import get_logger
from fog_compute.server import problem_types
from fog_compute.server.invalid import said_of
from fog_compute.server.problem_types import Kind, kind_of_error, kind_of_status
from fog_compute.text import one_line

__all__ = ["MEDIA_TYPE", "Refused", "install_problems", "problem"]

MEDIA_TYPE: Final = "application/problem+json"
DETAIL_LENGTH: Final = 1000
"""Characters of a problem's detail, which may repeat what the request said."""

AWAY_S: Final = 2
"""After how many seconds a database that is away is worth another question."""

_LATER: Final = {"retry-after": str(AWAY_S)}
_log = get_logger("fog_compute.server")


class Refused(HTTPException):
    """A refusal from where nothing can be answered, such as while a body is read."""

    def __init__(
        self,
        kind: Kind,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        **more: int | str | None,
    ) -> None:
        super().__init__(kind.status, detail, headers)
        self.answer: Final = problem(kind, detail, headers=headers, **more)


def problem(
    what: Kind | int,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    **more: int | str | None,
) -> JSONResponse:
    """Build one problem answer.

    Args:
        what: its kind, or a status, of which it is the first kind.
        detail: what happened to what, and what to do.
        headers: what to answer beside it.
        more: the members of the kind; those that are None are left out.
    """
    kind = what if isinstance(what, Kind) else kind_of_status(what)
    body: dict[str, str | int] = {
        "type": kind.uri,
        "title": kind.title,
        "status": kind.status,
        "detail": one_line(detail, DETAIL_LENGTH),
    }
    body.update({name: value for name, value in more.items() if value is not None})
    return JSONResponse(
        body,
        status_code=kind.status,
        media_type=MEDIA_TYPE,
        headers=None if headers is None else dict(headers),
    )


def install_problems(app: FastAPI) -> None:
    """Let every error of ``app`` answer as a problem."""

    @app.exception_handler(FogError)
    async def fog_error(request: Request, error: FogError) -> Response:
        del request
        privacy = error if isinstance(error, PrivacyUnavailable) else None
        return problem(
            kind_of_error(error),
            error.message,
            headers=_LATER if isinstance(error, StoreAway) else None,
            needed=privacy.needed if privacy else None,
            available=privacy.available if privacy else None,
        )

    @app.exception_handler(QuotaExceeded)
    async def no_room(request: Request, error: QuotaExceeded) -> Response:
        del request
        return problem(
            problem_types.QUOTA_EXCEEDED,
            error.message,
            headers={"connection": "close"},  # or the rest of the body would be read
            limit_bytes=error.limit_bytes,
            used_bytes=error.used_bytes,
        )

    @app.exception_handler(RequestValidationError)
    async def invalid_request(request: Request, error: RequestValidationError) -> Response:
        del request
        return problem(problem_types.INVALID_REQUEST, said_of(error.errors()))

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:
        del request
        return error.answer

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        del request
        return problem(error.status_code, str(error.detail), headers=error.headers)

    @app.exception_handler(ClientDisconnect)
    async def client_left(request: Request, error: ClientDisconnect) -> Response:
        del request, error
        return problem(problem_types.MALFORMED, "the body ended early: send it again")

    @app.exception_handler(MemoryError)
    @app.exception_handler(RuntimeError)
    async def machine_refused(request: Request, error: MemoryError | RuntimeError) -> Response:
        del request
        if not is_exhaustion(error):
            raise error
        _log.warning("machine.refused", reason=str(error) or "no memory")
        return problem(problem_types.EXHAUSTED, f"the backend: {EXHAUSTED}")

    @app.exception_handler(Exception)
    async def crash(request: Request, error: Exception) -> Response:
        del request
        _log.error("request.crashed", exc_info=error)
        return problem(
            problem_types.INTERNAL,
            "the backend met an error that it did not expect: its log says more",
        )
