"""Who may ask what: the name asked for, the key, the route, and the size of the body.

All of it is decided before anything of the body is read, and for who has no key in one way: the
answer tells nothing of what there is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fog_compute.hosts import is_loopback, may_ask
from fog_compute.scopes import allows
from fog_compute.server import access
from fog_compute.server.auth import csrf_token, same
from fog_compute.server.bodies import NO_BODY, BodyLimit, Pace, too_large, too_slow
from fog_compute.server.callers import LOCAL, Caller, Callers
from fog_compute.server.problem_types import FORBIDDEN, RATE_LIMITED, UNAUTHORISED
from fog_compute.server.problems import Refused, problem
from fog_compute.server.rates import Rates

__all__ = [
    "Gate",
    "cookie_name",
    "cookie_of",
    "refuse_try",
    "unauthorised",
]

_CLOSE: Final = {"connection": "close"}  # or the rest of the body would be read, and thrown away
_ASK_FOR_KEY: Final = {"www-authenticate": "Bearer", **_CLOSE}
_NO_KEY: Final = "this needs a key: send an API key as a bearer token"
_NO_KEY_HERE: Final = (
    "this needs a key: send the token that is in daemon/token below FOG_HOME, or an API key, as a"
    " bearer token"
)
MAY_NO_MORE: Final = 1008
"""With this code a WebSocket is closed whose key was revoked."""

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


def cookie_name(scheme: str) -> str:
    """The name of a login's cookie; under TLS one that browsers take from nobody else."""
    return access.COOKIE_UNDER_TLS if scheme == "https" else access.COOKIE


def unauthorised(scope: Scope) -> Refused:
    """The one refusal of whoever has no key, whatever was asked.

    Where the token lies is told on this machine alone: elsewhere nobody can read it.
    """
    client = scope.get("client")
    here = client is not None and is_loopback(client[0])
    return Refused(UNAUTHORISED, _NO_KEY_HERE if here else _NO_KEY, headers=_ASK_FOR_KEY)


async def refuse_try(scope: Scope, rates: Rates) -> JSONResponse | None:
    """Count a wrong key; return what is answered where too many came from its address."""
    client = scope.get("client")
    wait = await rates.failed(client[0] if client else "")
    return _later("too many wrong keys came from this address", wait) if wait else None


def cookie_of(scope: Scope) -> str | None:
    """The cookie of a login in a request, as browsers write it."""
    name = cookie_name(scope.get("scheme", "http"))
    for line in Headers(scope=scope).getlist("cookie"):
        for part in line.split(";"):
            key, _, value = part.strip().partition("=")
            if key == name:
                return value
    return None


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request, as far as it is read before it is judged.

    Attributes:
        route: the method, and the path as the table has it; or as it came.
        caller: whose key or cookie came with it.
        cookie: the cookie, if it was one that proved who asks.
        tried: something came that was to prove it.
    """

    scope: Scope
    headers: Headers
    route: access.Route
    caller: Caller | None
    cookie: str | None
    tried: bool

    @property
    def socket(self) -> str | None:
        """The path of a WebSocket; None of a request."""
        return self.route[1] if self.scope["type"] == "websocket" else None

    @property
    def changes(self) -> bool:
        """Whether it may change something."""
        return self.route[0] not in _SAFE

    @property
    def from_elsewhere(self) -> bool:
        """Whether a browser says that a page of another origin sent it."""
        if self.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
            return True
        origin = self.headers.get("origin")
        if origin is None:
            return False
        try:
            return urlsplit(origin).netloc != self.headers.get("host")
        except ValueError:  # no browser wrote it
            return True


class Gate:
    """Refuses what need not be read: foreign names, requests without a key, large bodies.

    ``app.state`` of the application in the scope has the ``callers``. Who asks is in the request's
    state as ``caller``, None for strangers.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        bound: str,
        names: Callable[[], frozenset[str]],
        rates: Rates,
        bodies: Mapping[access.Route, BodyLimit],
    ) -> None:
        """Guard ``app``.

        Args:
            app: what is guarded.
            bound: the host that was bound, which is asked under its own name.
            names: gives the other names under which it is asked: those of its certificate.
            rates: how often who may ask.
            bodies: the bound of each route that reads a body, by method and path.
        """
        self._app: Final = app
        self._bound: Final = bound
        self._names: Final = names
        self._rates: Final = rates
        self._bodies: Final = bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a counting ``receive``, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if not may_ask(headers.get("host", ""), self._bound, self._names()):
            # A page in a browser must not reach the interface under a name of its own.
            text = "this host name is not served here: ask for an address of this machine"
            await problem(HTTPStatus.BAD_REQUEST, text, headers=_CLOSE)(scope, receive, send)
            return
        callers: Callers = scope["app"].state.callers
        caller, cookie, tried = await _who(scope, headers, callers)
        path = scope["path"]
        if scope["type"] == "websocket":
            asked = _Asked(scope, headers, ("GET", path), caller, cookie, tried)
            await self._open(asked, receive, send)
        else:
            route = (scope["method"], access.find(path) or path)
            asked = _Asked(scope, headers, route, caller, cookie, tried)
            await self._answer(asked, receive, send)

    async def _open(self, asked: _Asked, receive: Receive, send: Send) -> None:
        """Let a WebSocket be opened, or refuse it."""
        caller = asked.caller
        refusal = await self._judge(asked)
        if refusal is not None or caller is None:
            await (refusal or unauthorised(asked.scope).answer)(asked.scope, receive, send)
            return
        callers: Callers = asked.scope["app"].state.callers
        receive, send = _while_open(lambda: callers.still(caller), receive, send)
        await self._app(asked.scope, receive, send)

    async def _answer(self, asked: _Asked, receive: Receive, send: Send) -> None:
        """Let a request be answered, or refuse it."""
        scope, caller, route, headers = asked.scope, asked.caller, asked.route, asked.headers
        callers: Callers = scope["app"].state.callers
        limit = self._bodies.get(route, NO_BODY)

        def over() -> Refused:
            if caller is None:  # who learns no limit
                return unauthorised(scope)
            return too_large(limit, " ".join(route), headers.get("content-type", ""))

        refusal = await self._judge(asked)
        length = headers.get("content-length", "")
        if refusal is None and length.isdigit() and int(length) > limit.most:
            refusal = over().answer
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = caller
        if caller is not None:
            receive, send = _while(lambda: callers.still(caller), scope, receive, send)
        seen, whole, pace = 0, False, Pace()
        now = asyncio.get_running_loop().time

        async def counted() -> Message:
            nonlocal seen, whole
            if whole:  # what may come now is that the other side leaves
                return await receive()
            began = now()
            try:
                async with asyncio.timeout(pace.patience_s):
                    message = await receive()
            except TimeoutError:
                raise (unauthorised(scope) if caller is None else too_slow()) from None
            size = len(message.get("body", b""))
            pace.came(size, now() - began)
            whole = not message.get("more_body")
            seen += size
            if seen > limit.most:
                raise over()
            return message

        await self._app(scope, counted, send)

    async def _judge(self, asked: _Asked) -> JSONResponse | None:
        """Say why a request is refused before its body matters, or None."""
        caller = asked.caller
        tried = caller is None and asked.tried
        if tried and (refusal := await refuse_try(asked.scope, self._rates)):
            return refusal
        if asked.socket is None and asked.route in access.OPEN:
            if asked.changes and asked.from_elsewhere:
                return _forbidden("a page of another origin sent this")
            return None
        if caller is None:
            return unauthorised(asked.scope).answer
        if asked.socket is None:
            refusal = _forged(asked) or _beyond(asked.route, caller)
        else:
            refusal = _from_page_elsewhere(asked) or _beyond_socket(asked.socket, caller)
        if refusal is not None:
            return refusal
        if caller.id != LOCAL and (wait := await self._rates.asked(caller.id)):
            return _later(f"the key {caller.id} may ask no more in this minute", wait)
        return None


def _while(
    may: Callable[[], bool], scope: Scope, receive: Receive, send: Send
) -> tuple[Receive, Send]:
    """End what goes on, an upload or a stream of events, once who asked for it may no more.

    What answers is told what it is told when the other side has left.
    """
    whole = begun = False
    over = asyncio.Event()

    async def heard() -> Message:
        nonlocal whole
        if not whole:
            message = await receive()
            whole = not message.get("more_body")
            if not whole and not may():
                raise unauthorised(scope)
            return message
        # All that can come is that the other side leaves, which is waited for beside an answer.
        waits = {asyncio.ensure_future(receive()), asyncio.ensure_future(over.wait())}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return {"type": "http.disconnect"}

    async def said(message: Message) -> None:
        nonlocal begun
        if over.is_set():
            return
        if message.get("more_body") and begun and not may():
            over.set()
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        begun = True
        await send(message)

    return heard, said


def _while_open(may: Callable[[], bool], receive: Receive, send: Send) -> tuple[Receive, Send]:
    """Close a WebSocket once who opened it may no more, whoever says something next."""
    over = False

    async def end() -> None:
        nonlocal over
        over = True
        reason = "the key is no longer valid"
        await send({"type": "websocket.close", "code": MAY_NO_MORE, "reason": reason})

    async def heard() -> Message:
        message = await receive()
        if message["type"] == "websocket.receive" and not may():
            if not over:
                await end()
            return {"type": "websocket.disconnect", "code": MAY_NO_MORE}
        return message

    async def said(message: Message) -> None:
        if over:
            return
        if message["type"] == "websocket.send" and not may():
            await end()
        else:
            await send(message)

    return heard, said


async def _who(
    scope: Scope, headers: Headers, callers: Callers
) -> tuple[Caller | None, str | None, bool]:
    """Return who asks, the cookie that proves it, and whether anything came that was to prove it.

    Where a key came, the cookie says nothing.
    """
    if given := headers.get("authorization"):
        scheme, _, key = given.partition(" ")
        caller = await callers.by_key(key.strip()) if scheme.lower() == "bearer" else None
        return caller, None, True
    offered = [
        one.removeprefix(access.TOKEN_PREFIX)
        for one in scope.get("subprotocols", ())
        if one.startswith(access.TOKEN_PREFIX)
    ]
    if offered:
        return await callers.by_key(offered[0]), None, True
    cookie = cookie_of(scope)
    if cookie is None:
        return None, None, False
    caller = await callers.by_cookie(cookie)
    return caller, cookie if caller else None, True


def _forged(asked: _Asked) -> JSONResponse | None:
    """Refuse what a page of somebody else may have sent, for browsers add the cookie."""
    if asked.cookie is None or not asked.changes:
        return None
    if asked.from_elsewhere:
        return _forbidden("a page of another origin sent this")
    if not same(asked.headers.get(access.CSRF_HEADER, ""), csrf_token(asked.cookie)):
        return _forbidden(
            f"beside its cookie this needs the header {access.CSRF_HEADER}: GET {access.LOGIN}"
            " tells its value"
        )
    return None


def _from_page_elsewhere(asked: _Asked) -> JSONResponse | None:
    """Refuse a WebSocket of a page that is not ours, nor from this machine with a key of its own.

    A browser adds the cookie for any page, and asks nobody first; so with it, the page must say
    that it is ours.
    """
    origin = asked.headers.get("origin")
    if origin is None:
        refused = asked.cookie is not None
    else:
        try:
            where = urlsplit(origin)
            ours = where.netloc == asked.headers.get("host")
            near = where.hostname is not None and (
                where.hostname == "localhost" or is_loopback(where.hostname)
            )
        except ValueError:  # no browser wrote it
            ours = near = False
        refused = not (ours or (near and asked.cookie is None))
    return _forbidden("a page of another origin opens this") if refused else None


def _beyond_socket(path: str, caller: Caller) -> JSONResponse | None:
    """Refuse a WebSocket that there is not, or that the caller's scopes do not allow."""
    needed = access.SOCKETS.get(path)
    if needed is None:
        return problem(HTTPStatus.NOT_FOUND, HTTPStatus.NOT_FOUND.phrase, headers=_CLOSE)
    if allows(caller.scopes, needed):
        return None
    held = ", ".join(sorted(caller.scopes)) or "none"
    return _forbidden(f"{path} needs the scope {needed}, and this key has {held}")


def _beyond(route: access.Route, caller: Caller) -> JSONResponse | None:
    """Refuse what a caller's scopes do not allow."""
    needed = access.scope_of(route)
    if needed is None or allows(caller.scopes, needed):
        return None
    method, path = route
    if route not in access.ROUTES:  # whatever may be behind it
        methods = access.methods_of(path)
        status = HTTPStatus.METHOD_NOT_ALLOWED if methods else HTTPStatus.NOT_FOUND
        allow = {"allow": ", ".join(sorted(methods)), **_CLOSE} if methods else _CLOSE
        return problem(status, status.phrase, headers=allow)
    held = ", ".join(sorted(caller.scopes)) or "none"
    return _forbidden(f"{method} {path} needs the scope {needed}, and this key has {held}")


def _forbidden(text: str) -> JSONResponse:
    return problem(FORBIDDEN, text, headers=_CLOSE)


def _later(text: str, seconds: int) -> JSONResponse:
    return problem(
        RATE_LIMITED,
        f"{text}: try again in {seconds} s",
        headers={"retry-after": str(seconds), **_CLOSE},
    )
