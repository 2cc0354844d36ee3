"""Logins of browsers: a key is given for a cookie, which has no more than its key."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from fog_compute.server.auth import csrf_token
from fog_compute.server.callers import Caller
from fog_compute.server.dependencies import TheCallers, TheRates
from fog_compute.server.gate import cookie_name, cookie_of, refuse_try, unauthorised
from fog_compute.server.key_schemas import LoginIn, LoginOut

__all__ = ["router"]

router = APIRouter(tags=["login"])

_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": LoginIn.model_json_schema()}},
    }
}


@router.post("/login", openapi_extra=_BODY, response_model=LoginOut)
async def log_in(request: Request, callers: TheCallers, rates: TheRates) -> Response:
    """Give a key for a cookie; whoever has none is told what every stranger is told."""
    # Read here: what FastAPI says of a body would tell a stranger what there is.
    opened = None
    try:
        wanted = LoginIn.model_validate_json(await request.body())
    except ValidationError:
        pass
    else:
        opened = await callers.log_in(wanted.key.get_secret_value())
    if opened is None:
        return await refuse_try(request.scope, rates) or unauthorised(request.scope).answer
    cookie, caller = opened
    answer = Response(
        LoginOut.of(caller, csrf_token(cookie)).model_dump_json(), media_type="application/json"
    )
    _set_cookie(request, answer, cookie, caller)
    return answer


@router.get("/login")
async def show_login(request: Request) -> LoginOut:
    """Say who asks, and what the cookie needs beside it."""
    caller: Caller = request.state.caller
    cookie = cookie_of(request.scope) if caller.login else None
    return LoginOut.of(caller, csrf_token(cookie) if cookie else None)


@router.delete("/login", status_code=HTTPStatus.NO_CONTENT)
async def log_out(request: Request, callers: TheCallers) -> Response:
    """End the login; its cookie is worth nothing from now on, whoever has a copy."""
    await callers.log_out(request.state.caller)
    answer = Response(status_code=HTTPStatus.NO_CONTENT)
    _set_cookie(request, answer, "", None)
    return answer


def _set_cookie(request: Request, answer: Response, value: str, caller: Caller | None) -> None:
    scheme = request.scope["scheme"]
    answer.set_cookie(
        cookie_name(scheme),
        value,
        max_age=0 if caller is None else None,
        expires=None if caller is None else caller.expires_at,
        path="/",
        secure=scheme == "https",
        httponly=True,
        samesite="strict",
    )
