"""The backend that is asked: HTTP, repeated where it is safe, problems as errors."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Self, TypeVar

import httpx2

from fog_compute.client.answers import ANOTHER_PROGRAM, Blob, Problem, parse
from fog_compute.client.connection import Absent, Connection
from fog_compute.client.lock import Free, HomeLock, where
from fog_compute.client.sources import Source
from fog_compute.descriptors import LINE_LENGTH
from fog_compute.errors import (
    STOPPING,
    BackendError,
    FogError,
    InvalidTask,
    NotFound,
    NotReady,
    NotRunning,
    PrivacyUnavailable,
    ServiceUnavailable,
)
from fog_compute.layout import HomeLayout, home_from_environment
from fog_compute.tasks.model import MAX_OUTPUT_BYTES
from fog_compute.text import one_line
from fog_compute.units import KIB, MIB, format_bytes

__all__ = ["WAITING", "Backend"]

T = TypeVar("T")
Take = Callable[[bytes], object]

WAITING: Final = "the backend is away; waiting for it"
UPLOAD_TIMEOUT_S: Final = 120.0
ANSWER_BYTES: Final = 16 * MIB  # of JSON; a page of tasks has the most
PIECE_BYTES: Final = 256 * KIB
RECONNECT_S: Final = 30.0
RECONNECT_PAUSE_S: Final = 0.2


class _Stopping(ServiceUnavailable):
    """The backend is on its way out, and will be away in a moment."""

    @property
    def problem(self) -> str:
        """The type of problem that it is, for programs."""
        return STOPPING


@dataclass(frozen=True, slots=True)
class _Body:
    """The body of a request, read anew each time it is sent."""

    source: Source

    def __iter__(self) -> Iterator[bytes]:
        return self.source.pieces()


class _Once:
    """Hands on what comes from its beginning again, and never anything twice."""

    __slots__ = ("_done", "_most", "_skip", "_take")

    def __init__(self, take: Take, most: int) -> None:
        self._take: Final = take
        self._most: Final = most
        self._done = 0
        self._skip = 0

    def begin(self) -> None:
        """What comes now begins anew."""
        self._skip = self._done

    def add(self, piece: bytes) -> None:
        """Hand on what of a piece has not been."""
        new = piece[self._skip :]
        self._skip -= len(piece) - len(new)
        if new:
            self._done += len(new)
            if self._done > self._most:
                raise _too_much(self._most)
            self._take(new)


class Backend:
    """The running backend of one home folder.

    Attributes:
        layout: the home folder.
        on_lost: called when the backend is missed for the first time and waited for.
    """

    def __init__(self, layout: HomeLayout | None = None) -> None:
        """Find the backend.

        Raises:
            NotRunning: no fog runs there.
            NotReady: one does, and its backend is not up yet.
            HomeUnusable: that cannot be seen; the text names the path and the reason.
        """
        self.layout: Final = HomeLayout(home_from_environment()) if layout is None else layout
        self._lock: Final = HomeLock(self.layout)
        self._connection = self._connect()
        self.on_lost: Callable[[], None] = lambda: None

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
        headers = {} if body is None else {"idempotency-key": key or secrets.token_hex(16)}
        once = bool(headers)
        answer = self._send("POST", path, repeatable=once, json=body, headers=headers)
        return parse(answer.content, shape)

    def read(self, path: str) -> bytes:
        """GET bytes, all of them."""
        data = bytearray()
        self.stream(path, data.extend)
        return bytes(data)

    def stream(self, path: str, take: Take, most: int = MAX_OUTPUT_BYTES) -> None:
        """GET ``most`` bytes at most and hand them on as they come.

        Each is handed on once, also where a connection breaks and the backend is asked again.
        """
        self._send("GET", path, take=_Once(take, most))

    def upload(self, data: bytes | Source) -> str:
        """Upload a blob piece by piece and return its SHA-256."""
        source = data if isinstance(data, Source) else Source.of("a blob", data)
        answer = self._send(
            "POST",
            "/api/v1/blobs",
            content=_Body(source),
            headers={
                "content-type": "application/octet-stream",
                "content-length": str(source.size),
            },
            timeout=UPLOAD_TIMEOUT_S,
        )
        return parse(answer.content, Blob)["sha256"]

    def _connect(self) -> Connection | None:
        """Find the backend; None while a fog runs whose backend has ended, and comes back."""
        try:
            return Connection.open(self.layout)
        except Absent as absent:
            if absent.gone and not isinstance(self._lock.holder(), Free):
                return None
            raise self._away() from None

    def _send(
        self, method: str, path: str, *, repeatable: bool = True, **options: Any
    ) -> httpx2.Response:
        """Ask; while a fog runs whose backend is away, wait for the backend to come back."""
        deadline: float | None = None
        maybe_done = False
        while True:
            try:
                answer = self._ask(method, path, **options)
            except Absent:
                pass
            except httpx2.ConnectTimeout:
                raise BackendError(
                    f"nothing answers at {self._url()}, where the backend of the fog in"
                    f" {self.layout.root} listens: is the loopback interface down"
                    " (`ip link set lo up`)?"
                ) from None
            except httpx2.TimeoutException:
                raise BackendError(
                    f"the backend at {self._url()} did not answer in time: is it suspended, or the"
                    f" machine busy? logs/backend.log in {self.layout.root} says more"
                ) from None
            except httpx2.TransportError as error:
                maybe_done = maybe_done or not isinstance(error, httpx2.ConnectError)
                # Only what never arrived, or can arrive twice, may be sent again.
                if not (repeatable or isinstance(error, httpx2.ConnectError)):
                    raise BackendError(
                        "the connection to the backend broke, and what was asked may be done"
                        " or not: see `fog task ls`"
                    ) from None
            else:
                if not answer.is_error:
                    return answer
                problem = _error_of(answer)
                if not (repeatable and isinstance(problem, _Stopping)):
                    raise problem
            deadline = self._wait_for_backend(deadline, maybe_done=maybe_done)

    def _ask(
        self, method: str, path: str, take: _Once | None = None, **options: Any
    ) -> httpx2.Response:
        """Ask once, and read what fits of the answer, or hand it on if it is what was asked for."""
        if self._connection is None:
            raise Absent(gone=True)
        data = bytearray()
        with self._connection.http.stream(method, path, **options) as answer:
            if take is not None and not answer.is_error:
                take.begin()
                for piece in answer.iter_bytes(PIECE_BYTES):
                    take.add(piece)
                return httpx2.Response(answer.status_code)
            for piece in answer.iter_bytes():
                data += piece
                if len(data) > ANSWER_BYTES:
                    raise _too_much(ANSWER_BYTES)
        return httpx2.Response(answer.status_code, content=bytes(data))

    def _wait_for_backend(self, deadline: float | None, *, maybe_done: bool) -> float:
        """Wait a moment for a backend that is away, and look for it again; return until when."""
        if isinstance(self._lock.holder(), Free):
            raise self._away()
        now = time.monotonic()
        if deadline is None:
            deadline = now + RECONNECT_S
            self.on_lost()
        if now > deadline:
            done = ", and may have done what was asked (see `fog task ls` later)"
            raise BackendError(
                f"the backend of the fog in {self.layout.root} does not come back"
                f"{done if maybe_done else ''}: read logs/backend.log there"
            )
        time.sleep(RECONNECT_PAUSE_S)
        self._reconnect()
        return deadline

    def _reconnect(self) -> None:
        with contextlib.suppress(NotRunning, NotReady):
            fresh = self._connect()
            if self._connection is not None:
                self._connection.close()
            self._connection = fresh

    def _url(self) -> str:
        return "" if self._connection is None else self._connection.url

    def _away(self) -> FogError:
        """Why there is no backend: no fog, or one that has not brought it up yet."""
        holder = self._lock.holder()
        if isinstance(holder, Free):
            return NotRunning(f"no fog is running in {self.layout.root}: start one with `fog up`")
        return NotReady(
            f"a fog runs in {self.layout.root} ({where(holder)}), but its backend does not answer"
            " yet: ask again in a moment, or read logs/backend.log there"
        )


def _too_much(most: int) -> BackendError:
    return BackendError(
        f"the backend's answer has more than {format_bytes(most)}: {ANOTHER_PROGRAM}"
    )


def _error_of(answer: httpx2.Response) -> Exception:
    try:
        problem = parse(answer.content, Problem)
        detail = one_line(problem["detail"], LINE_LENGTH)
    except (BackendError, KeyError):
        return BackendError(f"the backend answered with status {answer.status_code}")
    match answer.status_code:
        case HTTPStatus.NOT_FOUND:
            return NotFound(detail)
        case HTTPStatus.SERVICE_UNAVAILABLE if problem.get("type") == STOPPING:
            return _Stopping(f"{detail}: see `fog task ls` after the next `fog up`")
        case HTTPStatus.SERVICE_UNAVAILABLE:
            return ServiceUnavailable(detail)
        case HTTPStatus.UNPROCESSABLE_ENTITY:
            return InvalidTask(detail)
        case HTTPStatus.CONFLICT if "needed" in problem:
            needed, available = problem["needed"], problem.get("available")
            return PrivacyUnavailable(detail, needed=needed, available=available)
        case _:
            return BackendError(detail, one_line(problem.get("type", "")))
