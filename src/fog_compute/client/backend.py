"""The backend that is asked, for whoever may wait: HTTP, repeated where that is safe."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self, TypeVar

import httpx2

from fog_compute.client import asking
from fog_compute.client.answers import Blob, parse
from fog_compute.client.asking import PIECE_BYTES, Asking, Once, Take
from fog_compute.client.connection import Absent, Address
from fog_compute.client.places import Place
from fog_compute.client.sources import Source
from fog_compute.errors import FogError
from fog_compute.layout import HomeLayout
from fog_compute.tasks.model import MAX_OUTPUT_BYTES

__all__ = ["Backend"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Body:
    """The body of a request, read anew each time it is sent."""

    source: Source

    def __iter__(self) -> Iterator[bytes]:
        return self.source.pieces()


@dataclass(frozen=True, slots=True)
class _Connection:
    """HTTP to one life of a backend."""

    address: Address
    http: httpx2.Client

    def close(self) -> None:
        self.http.close()
        self.address.close()


class Backend:
    """A running backend.

    Attributes:
        place: where it is looked for.
        on_lost: called with what is waited for, in one line, when a wait begins.
    """

    def __init__(self, place: Place) -> None:
        """Find the backend.

        Raises:
            NotRunning: no fog runs there.
            NotReady: one does, and its backend is not up yet.
            HomeUnusable: that cannot be seen; the text names the path and the reason.
        """
        self.place: Final = place
        self._connection = self._connect()
        self.on_lost: Callable[[str], None] = lambda _: None

    @property
    def layout(self) -> HomeLayout:
        """The home folder of whoever asks."""
        return self.place.layout

    def __enter__(self) -> Self:
        """Return the backend itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close the connections."""
        if self._connection is not None:
            self._connection.close()

    def get(self, path: str, shape: type[T], **query: str | float) -> T:
        """GET a JSON object of a shape."""
        return parse(self._send("GET", path, params=query).content, shape)

    def post(
        self,
        path: str,
        shape: type[T],
        body: Mapping[str, object] | None = None,
        *,
        key: str | None = None,
    ) -> T:
        """POST JSON and get a JSON object of a shape.

        What a body describes is made once: for all calls with one ``key``, or for this call.
        """
        options = asking.made_once(body, key)
        return parse(self._send("POST", path, repeatable=bool(options), **options).content, shape)

    def delete(self, path: str, shape: type[T]) -> T:
        """DELETE what is there, and get what became of it."""
        return parse(self._send("DELETE", path).content, shape)

    def whole(self, path: str) -> bytes:
        """GET bytes, all of them."""
        data = bytearray()
        self.stream(path, data.extend)
        return bytes(data)

    def stream(self, path: str, take: Take, most: int = MAX_OUTPUT_BYTES) -> None:
        """GET ``most`` bytes at most and hand them on as they come.

        Each is handed on once, also where a connection breaks and the backend is asked again.
        """
        self._send("GET", path, take=Once(take, most))

    def upload(self, data: bytes | Source) -> str:
        """Upload a blob piece by piece and return its SHA-256."""
        source = data if isinstance(data, Source) else Source.of("a blob", data)
        answer = self._send(
            "POST", "/api/v1/blobs", content=_Body(source), **asking.uploading(source)
        )
        return parse(answer.content, Blob)["sha256"]

    def _connect(self) -> _Connection | None:
        """Find the backend; None while a fog runs whose backend has ended, and comes back."""
        try:
            address = self.place.find()
        except Absent as absent:
            if absent.gone and self.place.tended():
                return None
            raise self.place.away() from None
        return _Connection(address, httpx2.Client(**address.options()))

    def _send(
        self, method: str, path: str, *, repeatable: bool = True, **options: Any
    ) -> httpx2.Response:
        """Ask; while a fog runs whose backend is away, wait for the backend to come back."""
        request = Asking(self.place, lambda what: self.on_lost(what), repeatable=repeatable)
        while True:
            if self._connection is not None and not self._connection.address.alive():
                self._reconnect()  # it may be back, or prove itself by something new
            try:
                answer = self._ask(method, path, **options)
            except (Absent, httpx2.TransportError) as error:
                request.failed(error, self._url())
            else:
                if request.answered(answer):
                    return answer
            time.sleep(request.wait(time.monotonic()))
            self._reconnect()

    def _ask(
        self, method: str, path: str, take: Once | None = None, **options: Any
    ) -> httpx2.Response:
        """Ask once, and read what fits of the answer, or hand it on if it is what was asked for."""
        if self._connection is None:
            raise Absent(gone=True)
        self._connection.address.check()
        data = bytearray()
        with self._connection.http.stream(method, path, **options) as answer:
            if take is not None and not answer.is_error:
                take.begin()
                for piece in answer.iter_bytes(PIECE_BYTES):
                    take.add(piece)
                return asking.brief(answer)
            for piece in answer.iter_bytes():
                data += piece
                if len(data) > asking.ANSWER_BYTES:
                    raise asking.too_much(asking.ANSWER_BYTES)
        return asking.brief(answer, bytes(data))

    def _reconnect(self) -> None:
        with contextlib.suppress(FogError):
            fresh = self._connect()
            if self._connection is not None:
                self._connection.close()
            self._connection = fresh

    def _url(self) -> str:
        return "" if self._connection is None else str(self._connection.address.url)
