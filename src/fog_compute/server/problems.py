"""Errors as ``application/problem+json`` (RFC 9457): one shape, one line meant for a person."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from fog_compute.errors import (
    EXHAUSTED,
    PROBLEM,
    ChannelError,
    ChannelTimeout,
    ConfigError,
    FogError,
    InvalidTask,
    NotFound,
    PrivacyUnavailable,
    ServiceUnavailable,
    StoreError,
    is_exhaustion,
)
from fog_compute.observability import get_logger
from fog_compute.store import Conflict
from fog_compute.text import one_line

__all__ = ["install_problems", "problem"]

DETAIL_LENGTH: Final = 1000
"""Characters of a problem's detail, which may repeat what the request said."""

_log = get_logger("fog_compute.server")

# The first class that matches decides.
_STATUS: Final[tuple[tuple[type[FogError], HTTPStatus], ...]] = (
    (NotFound, HTTPStatus.NOT_FOUND),
    (InvalidTask, HTTPStatus.UNPROCESSABLE_ENTITY),
    (ConfigError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (Conflict, HTTPStatus.CONFLICT),
    (PrivacyUnavailable, HTTPStatus.CONFLICT),
    (ServiceUnavailable, HTTPStatus.SERVICE_UNAVAILABLE),
    (ChannelTimeout, HTTPStatus.GATEWAY_TIMEOUT),
    (ChannelError, HTTPStatus.BAD_GATEWAY),
    (StoreError, HTTPStatus.SERVICE_UNAVAILABLE),
)


def problem(
    status: int,
    detail: str,
    *,
    kind: str = "about:blank",
    headers: Mapping[str, str] | None = None,
    **more: int | None,
) -> JSONResponse:
    """Build one problem answer; members of ``more`` that are None are left out."""
    body: dict[str, str | int] = {
        "type": kind,
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": one_line(detail, DETAIL_LENGTH),
    }
    body.update({name: value for name, value in more.items() if value is not None})
    return JSONResponse(
        body,
        status_code=status,
        media_type="application/problem+json",
        headers=None if headers is None else dict(headers),
    )


def install_problems(app: FastAPI) -> None:
    """Let every error of ``app`` answer as a problem."""

    @app.exception_handler(FogError)
    async def fog_error(request: Request, error: FogError) -> Response:
        del request
        status = next(
            (status for kind, status in _STATUS if isinstance(error, kind)),
            HTTPStatus.INTERNAL_SERVER_ERROR,
        )
        privacy = error if isinstance(error, PrivacyUnavailable) else None
        return problem(
            status,
            error.message,
            kind=error.problem,
            needed=privacy.needed if privacy else None,
            available=privacy.available if privacy else None,
        )

    @app.exception_handler(RequestValidationError)
    async def invalid_request(request: Request, error: RequestValidationError) -> Response:
        del request
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return problem(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            f"{where}: {first['msg']}",
            kind=f"{PROBLEM}invalid-request",
        )

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        del request
        return problem(error.status_code, str(error.detail), headers=error.headers)

    @app.exception_handler(ClientDisconnect)
    async def client_left(request: Request, error: ClientDisconnect) -> Response:
        del request, error
        return problem(HTTPStatus.BAD_REQUEST, "the body ended early: send it again")

    @app.exception_handler(MemoryError)
    @app.exception_handler(RuntimeError)
    async def machine_refused(request: Request, error: MemoryError | RuntimeError) -> Response:
        del request
        if not is_exhaustion(error):
            raise error
        _log.warning("machine.refused", reason=str(error) or "no memory")
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, f"the backend: {EXHAUSTED}")

    @app.exception_handler(Exception)
    async def crash(request: Request, error: Exception) -> Response:
        del request
        _log.error("request.crashed", exc_info=error)
        return problem(
            HTTPStatus.INTERNAL_SERVER_ERROR,
            "the backend met an error that it did not expect: its log says more",
        )
