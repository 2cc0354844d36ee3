"""The backend that is asked from an event loop: the same as the blocking one, by the same rules."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import httpx2

from fog_compute.client import asking
from fog_compute.client.answers import Blob, parse
from fog_compute.client.asking import PIECE_BYTES, Asking, Once, Take
from fog_compute.client.connection import Absent, Address
from fog_compute.client.places import Place
from fog_compute.client.sources import Source
from fog_compute.errors import FogError
from fog_compute.tasks.model import MAX_OUTPUT_BYTES

__all__ = ["AsyncBackend"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Body:
    """The body of a request, read anew each time it is sent."""

    source: Source

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.source.pieces():
            yield piece
            await asyncio.sleep(0)  # others have their turn between two pieces


@dataclass(slots=True, eq=False)
class _Connection:
    """HTTP to one life of a backend, or to one certificate of it.

    Attributes:
        asked: how many requests are under way.
        left: nothing new begins on it.
    """

    address: Address
    http: httpx2.AsyncClient
    asked: int = 0
    left: bool = False

    @contextlib.asynccontextmanager
    async def asking(self) -> AsyncGenerator[None]:
        """Be under way; the last one on a connection that is left closes it."""
        self.asked += 1
        try:
            yield
        finally:
            self.asked -= 1
            if self.left and not self.asked:
                await self.close()

    async def leave(self) -> None:
        """Close it once nothing is under way."""
        self.left = True
        if not self.asked:
            await self.close()

    async def close(self) -> None:
        try:
            await self.http.aclose()
        finally:
            self.address.close()


class AsyncBackend:
    """A running backend; requests may be under way together.

    A request that is cancelled may have been done all the same.
    """

    def __init__(self, place: Place) -> None:
        """Ask nothing yet."""
        self._place: Final = place
        self._connection: _Connection | None = None
        self._reconnecting: Final = asyncio.Lock()

    async def open(self) -> None:
        """Find the backend.

        Raises:
            NotRunning: no fog runs there.
            NotReady: one does, and its backend is not up yet.
            HomeUnusable: that cannot be seen; the text names the path and the reason.
        """
        self._connection = self._connect()

    async def close(self) -> None:
        """Close the connections; what is under way fails."""
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def get(self, path: str, shape: type[T], **query: str | float) -> T:
        """GET a JSON object of a shape."""
        return parse((await self._send("GET", path, params=query)).content, shape)

    async def post(
        self,
        path: str,
        shape: type[T],
        body: Mapping[str, object] | None = None,
        *,
        key: str | None = None,
    ) -> T:
        """POST JSON and get a JSON object of a shape, as the blocking one does."""
        options = asking.made_once(body, key)
        answer = await self._send("POST", path, repeatable=bool(options), **options)
        return parse(answer.content, shape)

    async def whole(self, path: str, most: int = MAX_OUTPUT_BYTES) -> bytes:
        """GET ``most`` bytes at most, all of them."""
        data = bytearray()
        await self.stream(path, data.extend, most)
        return bytes(data)

    async def stream(self, path: str, take: Take, most: int = MAX_OUTPUT_BYTES) -> None:
        """GET ``most`` bytes at most and hand each on once, as they come."""
        await self._send("GET", path, take=Once(take, most))

    async def upload(self, source: Source) -> str:
        """Upload a blob piece by piece and return its SHA-256."""
        answer = await self._send(
            "POST", "/api/v1/blobs", content=_Body(source), **asking.uploading(source)
        )
        return parse(answer.content, Blob)["sha256"]

    def _connect(self) -> _Connection | None:
        try:
            address = self._place.find()
        except Absent as absent:
            if absent.gone and self._place.tended():
                return None
            raise self._place.away() from None
        return _Connection(address, httpx2.AsyncClient(**address.options()))

    async def _send(
        self, method: str, path: str, *, repeatable: bool = True, **options: Any
    ) -> httpx2.Response:
        request = Asking(self._place, lambda _: None, repeatable=repeatable)
        while True:
            used = self._connection
            if used is not None and not used.address.alive():
                await self._reconnect(used)  # it may be back, or prove itself by something new
                used = self._connection
            try:
                answer = await self._ask(used, method, path, **options)
            except (Absent, httpx2.TransportError) as error:
                request.failed(error, "" if used is None else str(used.address.url))
            else:
                if request.answered(answer):
                    return answer
            await asyncio.sleep(request.wait(time.monotonic()))
            await self._reconnect(used)

    @staticmethod
    async def _ask(
        connection: _Connection | None,
        method: str,
        path: str,
        take: Once | None = None,
        **options: Any,
    ) -> httpx2.Response:
        if connection is None:
            raise Absent(gone=True)
        connection.address.check()
        data = bytearray()
        async with connection.asking(), connection.http.stream(method, path, **options) as answer:
            if take is not None and not answer.is_error:
                take.begin()
                async for piece in answer.aiter_bytes(PIECE_BYTES):
                    take.add(piece)
                return asking.brief(answer)
            async for piece in answer.aiter_bytes():
                data += piece
                if len(data) > asking.ANSWER_BYTES:
                    raise asking.too_much(asking.ANSWER_BYTES)
        return asking.brief(answer, bytes(data))

    async def _reconnect(self, used: _Connection | None) -> None:
        """Find the backend again, unless it is the same, or another request has done so."""
        async with self._reconnecting:
            if self._connection is not used or (used is not None and used.address.alive()):
                return
            with contextlib.suppress(FogError):
                self._connection = self._connect()
                if used is not None:
                    await used.leave()
