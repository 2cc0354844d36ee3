"""What the panel's server answers: its files, its health and its metrics."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from http import HTTPStatus
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

import fog_compute
from fog_compute.hosts import asked_host, may_ask
from fog_compute.observability.metrics import CONTENT_TYPE, PanelMetrics
from fog_compute.server.middleware import Counting, SafeHeaders
from fog_compute.server.panel.files import StaticFile

__all__ = ["panel_app"]

_POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS: Final = {
    "content-security-policy": _POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
_READS: Final = frozenset({"GET", "HEAD"})
_ASSETS: Final = "/assets"
_HERE: Final = b"http://localhost:"
"""How links to other parts begin in a page: they are on the machine under whose name it is read."""


@dataclass(frozen=True, slots=True)
class _Named:
    """The route as `Counting` names it: from a closed set."""

    path: str


def panel_app(files: Mapping[str, StaticFile], *, bound: str, metrics: PanelMetrics) -> ASGIApp:
    """The application that serves ``files`` at what is ``bound``, and counts into ``metrics``."""
    return SafeHeaders(Counting(_Panel(files, bound, metrics), metrics=metrics.http))


class _Panel:
    """Answers one request after the other from memory."""

    def __init__(self, files: Mapping[str, StaticFile], bound: str, metrics: PanelMetrics) -> None:
        self._files: Final = files
        self._bound: Final = bound
        self._metrics: Final = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; there is nothing else, because uvicorn is told so."""
        await self._answer(scope)(scope, receive, send)

    def _answer(self, scope: Scope) -> Response:
        headers = Headers(scope=scope)
        path = scope["path"]
        host = headers.get("host", "")
        if not may_ask(host, self._bound):
            # A page in a browser must not reach this one under a name of its own.
            return _refused(HTTPStatus.BAD_REQUEST, "this host name is not served here")
        known = self._files.get(path)
        if known is None and path not in ("/health", "/metrics"):
            return _refused(HTTPStatus.NOT_FOUND, "there is no such page")
        scope["route"] = _Named(_ASSETS if path.startswith(f"{_ASSETS}/") else path)
        if scope["method"] not in _READS:
            refused = _refused(HTTPStatus.METHOD_NOT_ALLOWED, "ask with GET")
            refused.headers["allow"] = "GET, HEAD"
            return refused
        if path == "/metrics":
            return Response(self._metrics.registry.render(), media_type=CONTENT_TYPE)
        if known is None:
            told = {"status": "ok", "version": fog_compute.__version__, "reasons": []}
            return Response(json.dumps(told), media_type="application/json")
        return _file(known, headers, asked_host(host))


def _file(known: StaticFile, headers: Headers, host: str) -> Response:
    if known.kind.startswith("text/html"):
        here = f"http://{escape(host)}:".encode()
        known = StaticFile.of(known.body.replace(_HERE, here), ".html")
    more = {**_HEADERS, "cache-control": "no-cache", "etag": known.tag, "vary": "accept-encoding"}
    if known.tag in (tag.strip() for tag in headers.get("if-none-match", "").split(",")):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=more)
    body = known.body
    if known.zipped and "gzip" in headers.get("accept-encoding", ""):
        body, more["content-encoding"] = known.zipped, "gzip"
    return Response(body, headers=more, media_type=known.kind)


def _refused(status: HTTPStatus, text: str) -> Response:
    return PlainTextResponse(f"{text}\n", status_code=status)
