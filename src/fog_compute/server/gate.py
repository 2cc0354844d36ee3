"""Who may ask what: the name asked for, the token, and the size of the body, before it is read."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fog_compute.hosts import may_ask
from fog_compute.server.auth import is_authorised
from fog_compute.server.bodies import NO_BODY, BodyLimit, too_large
from fog_compute.server.problems import Refused, problem

__all__ = ["Gate"]

_CLOSE: Final = {"connection": "close"}  # or the rest of the body would be read, and thrown away


class Gate:
    """Refuses what need not be read: foreign names, requests without the token, large bodies.

    ``app.state.token`` of the application in the scope is the token.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        bound: str,
        open_paths: frozenset[str],
        bodies: Mapping[tuple[str, str], BodyLimit],
    ) -> None:
        """Guard ``app``.

        Args:
            app: what is guarded.
            bound: the host that was bound, which is asked under its own name.
            open_paths: paths that need no token.
            bodies: the bound of each route that reads a body, by method and path.
        """
        self._app: Final = app
        self._bound: Final = bound
        self._open: Final = open_paths
        self._bodies: Final = bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a counting ``receive``, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if not may_ask(headers.get("host", ""), self._bound):
            # A page in a browser must not reach the interface under a name of its own.
            text = "this host name is not served here: ask for an address of this machine"
            await problem(HTTPStatus.BAD_REQUEST, text, headers=_CLOSE)(scope, receive, send)
            return
        token: str = scope["app"].state.token
        if scope["path"] not in self._open and not is_authorised(headers, token):
            await problem(
                HTTPStatus.UNAUTHORIZED,
                "this needs the bearer token that is in daemon/token below FOG_HOME",
                headers={"www-authenticate": "Bearer", **_CLOSE},
            )(scope, receive, send)
            return
        limit = self._bodies.get((scope["method"], scope["path"]), NO_BODY)

        def refusal() -> Refused:
            route = f"{scope['method']} {scope['path']}"
            return too_large(limit, route, headers.get("content-type", ""))

        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > limit.most:
            await refusal().answer(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit.most:
                raise refusal()
            return message

        await self._app(scope, counted, send)
