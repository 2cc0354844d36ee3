"""What wraps every answer: safe headers, and counting."""

from __future__ import annotations

import time
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fog_compute.observability.metrics import HttpMetrics

__all__ = ["Counting", "SafeHeaders", "safe_headers"]

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_BEGINS: Final = frozenset({"http.response.start", "websocket.http.response.start"})
HSTS_S: Final = 365 * 86400
_SAFE_HEADERS: Final = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}


def safe_headers(*, secure: bool) -> Iterable[tuple[str, str]]:
    """Return what every answer tells browsers; ``secure`` over TLS."""
    yield from _SAFE_HEADERS.items()
    if secure:
        yield "strict-transport-security", f"max-age={HSTS_S}"


class SafeHeaders:
    """Adds headers that tell browsers to be careful with every answer."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap ``app``."""
        self._app: Final = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and add the headers that the answer does not set itself."""

        async def with_headers(message: Message) -> None:
            if message["type"] in _BEGINS:
                headers = MutableHeaders(scope=message)
                secure = scope.get("scheme") in {"https", "wss"}
                for name, value in safe_headers(secure=secure):
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send if scope["type"] == "lifespan" else with_headers)


class Counting:
    """Counts requests and times them by the route as it is written in the code."""

    def __init__(self, app: ASGIApp, *, metrics: HttpMetrics) -> None:
        """Count into ``metrics``."""
        self._app: Final = app
        self._metrics: Final = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and note how it ended."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        status = 500
        streams = False
        begun = time.perf_counter()

        async def noted(message: Message) -> None:
            nonlocal status, streams
            if message["type"] == "websocket.accept":
                status, streams = HTTPStatus.SWITCHING_PROTOCOLS, True
            elif message["type"] == "websocket.close" and status == 500:
                status = HTTPStatus.FORBIDDEN
            elif message["type"] in _BEGINS:
                status = message["status"]
                kind = Headers(raw=message["headers"]).get("content-type", "")
                streams = kind.startswith("text/event-stream")
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            method = scope.get("method", "GET")
            method = method if method in _METHODS else "other"
            route = getattr(scope.get("route"), "path", "unmatched")
            self._metrics.requests.labels(method, route, str(int(status))).inc()
            waited = "wait" in parse_qs(scope.get("query_string", b"").decode("latin-1"))
            if not (waited or streams):
                self._metrics.duration.labels(method, route).observe(time.perf_counter() - begun)
