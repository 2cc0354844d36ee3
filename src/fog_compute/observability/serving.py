"""Pages that a process shows to whoever watches it: HTTP/1 on asyncio, GET and HEAD, no more.

For processes that have no web framework and need none, such as a worker. A page is made in one
go from what the process has in memory; each connection is asked once and closed. Connections,
bytes and time are bounded, and nothing that was sent is repeated, neither in answers nor in logs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from fog_compute.hosts import may_ask, url_of

__all__ = ["Bounds", "Page", "Shown", "as_json", "show_pages"]

BACKLOG: Final = 64

_END: Final = b"\r\n\r\n"
_ASKED: Final = re.compile(rb"([!-~]{1,32}) (/[!-~]*) HTTP/1\.[01]")
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*)")
_HEADERS: Final = (
    "connection: close\r\n"
    "cache-control: no-store\r\n"
    "x-content-type-options: nosniff\r\n"
    "content-security-policy: default-src 'none'; frame-ancestors 'none'\r\n"
)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What those who ask may take.

    Attributes:
        connections: so many at once; who has been here for longest gives way to who comes.
        head_bytes: of a request, until the empty line.
        seconds: from the connection to the last byte of the answer.
    """

    connections: int = 32
    head_bytes: int = 8192
    seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class Shown:
    """A page as it is now.

    Attributes:
        body: its bytes.
        kind: their content type.
        status: how the answer begins.
    """

    body: bytes
    kind: str = "text/plain; charset=utf-8"
    status: HTTPStatus = HTTPStatus.OK


Page = Callable[[], Shown]
"""Makes a page, at once and from memory."""


def as_json(value: object, status: HTTPStatus = HTTPStatus.OK) -> Shown:
    """A page that is one JSON document."""
    return Shown(json.dumps(value).encode(), "application/json", status)


@contextlib.asynccontextmanager
async def show_pages(
    listening: socket.socket, pages: Mapping[str, Page], bounds: Bounds | None = None
) -> AsyncIterator[str]:
    """Show ``pages``, by their paths, on a bound socket while the context lasts; give its URL.

    Raises:
        OSError: the socket cannot listen.
    """
    host, port = listening.getsockname()[:2]
    house = _House(pages, host, bounds or Bounds())
    server = await asyncio.get_running_loop().create_server(
        lambda: _Visit(house), sock=listening, backlog=BACKLOG
    )
    try:
        yield url_of(host, port)
    finally:
        server.close()
        house.close()
        await server.wait_closed()


class _House:
    """What all visits share: the pages, and who is here."""

    def __init__(self, pages: Mapping[str, Page], bound: str, bounds: Bounds) -> None:
        self.bounds: Final = bounds
        self._pages: Final = pages
        self._bound: Final = bound
        self._here: Final[dict[_Visit, None]] = {}

    def came(self, visit: _Visit) -> None:
        while len(self._here) >= self.bounds.connections:
            longest = next(iter(self._here))
            self.left(longest)
            longest.leave()
        self._here[visit] = None

    def left(self, visit: _Visit) -> None:
        self._here.pop(visit, None)

    def close(self) -> None:
        for visit in tuple(self._here):
            visit.leave()

    def answer(self, head: bytes) -> bytes:
        """The answer to the head of a request, as it goes out."""
        first, *rest = head.split(b"\r\n")
        asked = _ASKED.fullmatch(first)
        fields = [_FIELD.fullmatch(line) for line in rest]
        hosts = [field[2] for field in fields if field and field[1].lower() == b"host"]
        if asked is None or None in fields or len(hosts) != 1:
            return _refusal(HTTPStatus.BAD_REQUEST, "this is no HTTP/1.1 request")
        if not may_ask(hosts[0].decode("latin-1"), self._bound):
            # A page in a browser must not look in under a name of its own.
            return _refusal(HTTPStatus.BAD_REQUEST, "this host name is not served here")
        page = self._pages.get(asked[2].partition(b"?")[0].decode("ascii"))
        if page is None:
            return _refusal(HTTPStatus.NOT_FOUND, f"there is {', '.join(self._pages)}")
        if asked[1] not in (b"GET", b"HEAD"):
            return _refusal(HTTPStatus.METHOD_NOT_ALLOWED, "ask with GET", "allow: GET, HEAD\r\n")
        return _encoded(page(), body=asked[1] == b"GET")


class _Visit(asyncio.Protocol):
    """One connection: a head, an answer, and the end."""

    def __init__(self, house: _House) -> None:
        self._house: Final = house
        self._head = bytearray()
        self._answered = False
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # of a stream it is one
        self._transport = transport
        self._house.came(self)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._house.bounds.seconds, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self._timer is not None:
            self._timer.cancel()
        self._house.left(self)

    def data_received(self, data: bytes) -> None:
        if self._answered:
            return  # read and dropped, so that who still sends can read the answer
        self._head += data
        end = self._head.find(_END)
        if max(end, len(self._head) if end < 0 else 0) > self._house.bounds.head_bytes:
            self._say(_refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "ask in fewer words"))
        elif end >= 0:
            self._say(self._house.answer(bytes(self._head[:end])))

    def eof_received(self) -> None:
        """Who ends in the middle of a head is told so; then the connection is closed."""
        if not self._answered:
            self._say(_refusal(HTTPStatus.BAD_REQUEST, "this is no whole request"))

    def leave(self) -> None:
        """Go at once."""
        if self._transport is not None:
            self._transport.abort()

    def _say(self, answer: bytes) -> None:
        """Answer; the other side closes once it has read that, or the time is up."""
        self._answered = True
        self._head.clear()
        if self._transport is not None:
            self._transport.write(answer)
            self._transport.write_eof()


def _refusal(status: HTTPStatus, text: str, more: str = "") -> bytes:
    """An answer without a page, as it goes out."""
    return _encoded(Shown(f"{text}\n".encode(), status=status), more=more)


def _encoded(shown: Shown, *, body: bool = True, more: str = "") -> bytes:
    head = (
        f"HTTP/1.1 {shown.status.value} {shown.status.phrase}\r\n"
        f"content-type: {shown.kind}\r\n"
        f"content-length: {len(shown.body)}\r\n"
        f"{_HEADERS}{more}\r\n"
    )
    return head.encode("latin-1") + (shown.body if body else b"")
