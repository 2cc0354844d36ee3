"""What becomes of one request: asked again, answered, or an error. No input or output is here.

The blocking backend and the one for event loops send by the same rules, which are these.
"""

from __future__ import annotations

import json
import re
import secrets
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

import httpx2

from fog_compute.client.answers import ANOTHER_PROGRAM, Problem, parse
from fog_compute.client.connection import Absent
from fog_compute.client.places import Place
from fog_compute.client.sources import Source
from fog_compute.descriptors import LINE_LENGTH
from fog_compute.errors import (
    PROBLEM,
    STOPPING,
    BackendError,
    FogError,
    InvalidTask,
    NotFound,
    NoWorker,
    PrivacyUnavailable,
    ServiceUnavailable,
    StoreAway,
    Unauthorised,
)
from fog_compute.text import one_line
from fog_compute.units import KIB, MIB, format_bytes, format_duration

__all__ = [
    "ANSWER_BYTES",
    "CONFLICT",
    "LATER_S",
    "NO_ANSWER",
    "PIECE_BYTES",
    "RECONNECT_PAUSE_S",
    "WAITING",
    "WAIT_S",
    "Asking",
    "Once",
    "Take",
    "brief",
    "file_of",
    "made_once",
    "too_much",
    "uploading",
]

Take = Callable[[bytes], object]

WAITING: Final = "the backend is away; waiting for it"
UPLOAD_TIMEOUT_S: Final = 120.0
ANSWER_BYTES: Final = 16 * MIB  # of JSON; a page of tasks has the most
PIECE_BYTES: Final = 256 * KIB
RECONNECT_S: Final = 30.0
RECONNECT_PAUSE_S: Final = 0.2
LATER_S: Final = 120.0
"""How long a backend that says when to ask again is asked again, in all, for one request."""
WAIT_S: Final = 20.0
"""How long one question about what comes waits for it."""

NO_ANSWER: Final = (BackendError, ServiceUnavailable, StoreAway)
"""Errors of questions that say nothing of what was asked about."""

CONFLICT: Final = f"{PROBLEM}conflict"
"""The problem of what the present state does not allow."""


_LATER: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
_SECONDS: Final = re.compile(r"[0-9]{1,6}", re.ASCII)


class _Stopping(ServiceUnavailable):
    """The backend is on its way out, and will be away in a moment."""

    @property
    def problem(self) -> str:
        """The type of problem that it is, for programs."""
        return STOPPING


@dataclass(frozen=True, slots=True)
class _Later:
    """A backend's answer that something can be asked again after a pause.

    Attributes:
        pause_s: how long it says to wait.
        problem: what it refused it with.
    """

    pause_s: float
    problem: FogError


class Once:
    """Hands on what comes from its beginning again, and never anything twice."""

    __slots__ = ("_done", "_most", "_skip", "_take")

    def __init__(self, take: Take, most: int) -> None:
        """Hand ``most`` bytes at most to ``take``."""
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
                raise too_much(self._most)
            self._take(new)


class Asking:
    """One request: whether it may be sent again, and until when its backend is waited for."""

    def __init__(self, place: Place, on_lost: Callable[[str], None], *, repeatable: bool) -> None:
        """Nothing is sent yet.

        Args:
            place: where the backend is.
            on_lost: called with what is waited for, in one line, when a wait begins.
            repeatable: whether the request may arrive twice.
        """
        self._place: Final = place
        self._on_lost: Final = on_lost
        self._repeatable: Final = repeatable
        self._deadline: float | None = None
        self._later: _Later | None = None
        self._later_until: float | None = None
        self._maybe_done = False

    def failed(self, error: Absent | httpx2.TransportError, url: str) -> None:
        """Return if it may be sent again.

        Raises:
            BackendError: it may not, or nothing would come of it.
        """
        if isinstance(error, Absent):
            return
        if isinstance(error, httpx2.ConnectTimeout):
            raise self._place.silent(url) from None
        if isinstance(error, httpx2.TimeoutException):
            raise BackendError(
                f"{self._place.backend} did not answer in time at {url}: is it suspended, or the"
                f" machine busy? {self._place.advice} says more"
            ) from None
        if (reason := _distrust(error)) is not None:
            raise BackendError(
                f"{self._place.backend} does not prove itself ({reason}): name the file of the"
                " certificates to trust with FOG_CA"
            ) from None
        if (reason := _no_tls(error)) is not None:
            raise BackendError(
                f"what answers at {url} speaks no TLS ({reason}): is the address right (FOG_URL),"
                " and http where it has no certificate?"
            ) from None
        refused = isinstance(error, httpx2.ConnectError)
        self._maybe_done = self._maybe_done or not refused
        # Only what never arrived, or can arrive twice, may be sent again.
        if not (self._repeatable or refused):
            raise BackendError(
                "the connection to the backend broke, and what was asked may be done or not: see"
                " `fog task ls`"
            ) from None

    def answered(self, answer: httpx2.Response) -> bool:
        """Say whether an answer is one; False if it is to be asked for again after `wait`.

        Raises:
            FogError: it is a problem.
        """
        self._place.answered()
        if not answer.is_error:
            return True
        problem = _error_of(answer)
        if answer.status_code == HTTPStatus.UNAUTHORIZED:  # a stranger is told of no key
            problem = Unauthorised(f"{self._place.backend} does not take {self._place.key}")
        # What came too often was not done.
        may_repeat = self._repeatable or answer.status_code == HTTPStatus.TOO_MANY_REQUESTS
        pause_s = _retry_after(answer)
        if may_repeat and pause_s is not None:
            self._later, self._deadline = _Later(pause_s, problem), None
            return False
        if not (self._repeatable and isinstance(problem, _Stopping)):
            raise problem
        return False

    def wait(self, now: float) -> float:
        """Return how many seconds to wait before it is asked again.

        Raises:
            FogError: nobody brings the backend back, or it was long enough.
        """
        if self._later is not None:
            later, self._later = self._later, None
            return self._put_off(later, now)
        if not self._place.tended():
            raise self._place.away()
        if self._deadline is None:
            self._deadline = now + RECONNECT_S
            self._on_lost(WAITING)
        if now > self._deadline:
            done = ", and may have done what was asked (see `fog task ls` later)"
            raise BackendError(
                f"{self._place.backend} does not come back{done if self._maybe_done else ''}: read"
                f" {self._place.advice}"
            )
        return RECONNECT_PAUSE_S

    def _put_off(self, later: _Later, now: float) -> float:
        begins = self._later_until is None
        until = self._later_until = self._later_until or now + LATER_S
        pause_s = max(later.pause_s, RECONNECT_PAUSE_S)
        if now + pause_s > until:
            if not begins:
                waited = format_duration(round(LATER_S - (until - now)))
                later.problem.args = (f"{later.problem} (asked again for {waited})",)
            raise later.problem
        if begins:
            self._on_lost(f"waiting: {later.problem}")
        return pause_s


def file_of(task_id: str, path: str) -> str:
    """Where a backend has a file that a task left."""
    return f"/api/v1/tasks/{task_id}/files/{quote(path)}"


def made_once(body: Mapping[str, object] | None, key: str | None) -> dict[str, Any]:
    """The options of a POST whose body makes something, once for all calls with one ``key``."""
    if body is None:
        return {}
    name = key or secrets.token_hex(16)
    try:
        content = json.dumps(
            body, ensure_ascii=False, separators=(",", ":"), allow_nan=False
        ).encode()
        name.encode("ascii")
    except UnicodeEncodeError as error:
        said = one_line(repr(error.object[max(0, error.start - 20) : error.end]), 80)
        raise InvalidTask(
            f"{said} cannot be sent: texts are UTF-8, and a key is visible ASCII characters"
        ) from None
    return {
        "content": content,
        "headers": {"idempotency-key": name, "content-type": "application/json"},
    }


def brief(answer: httpx2.Response, content: bytes = b"") -> httpx2.Response:
    """An answer that was read: its status, its content, and when to ask again."""
    headers = {"retry-after": said} if (said := answer.headers.get("retry-after")) else {}
    return httpx2.Response(answer.status_code, headers=headers, content=content)


def uploading(source: Source) -> dict[str, Any]:
    """The options of an upload, but for its content."""
    return {
        "headers": {
            "content-type": "application/octet-stream",
            "content-length": str(source.size),
        },
        "timeout": UPLOAD_TIMEOUT_S,
    }


def too_much(most: int) -> BackendError:
    """The error of an answer that does not end where it must."""
    return BackendError(
        f"the backend's answer has more than {format_bytes(most)}: {ANOTHER_PROGRAM}"
    )


def _distrust(error: BaseException) -> str | None:
    """Why a certificate was not taken, if that is what an error is about."""
    for one in _causes(error):
        if isinstance(one, ssl.SSLCertVerificationError):
            return one_line(one.verify_message, LINE_LENGTH)
    return None


def _no_tls(error: BaseException) -> str | None:
    """What is wrong with the other side's TLS; a connection that only broke is a broken one."""
    for one in _causes(error):
        if isinstance(one, ssl.SSLEOFError | ssl.SSLZeroReturnError | ssl.SSLSyscallError):
            return None
        if isinstance(one, ssl.SSLError):
            return one_line(one.reason or "no reason given", LINE_LENGTH)
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _retry_after(answer: httpx2.Response) -> float | None:
    """After how many seconds a backend says that it can be asked again; None if it does not."""
    if answer.status_code not in _LATER:
        return None
    said = answer.headers.get("retry-after", "")
    # A date (RFC 9110, 10.2.3) comes from no backend of ours.
    return float(said) if _SECONDS.fullmatch(said) else None


def _error_of(answer: httpx2.Response) -> FogError:
    try:
        problem = parse(answer.content, Problem)
        detail = one_line(problem["detail"], LINE_LENGTH)
    except (BackendError, KeyError):
        return BackendError(f"the backend answered with status {answer.status_code}")
    match answer.status_code:
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            return Unauthorised(detail)
        case HTTPStatus.NOT_FOUND:
            return NotFound(detail)
        case HTTPStatus.SERVICE_UNAVAILABLE if problem.get("type") == STOPPING:
            return _Stopping(f"{detail}: see `fog task ls` after the next `fog up`")
        case HTTPStatus.SERVICE_UNAVAILABLE if problem.get("type") == StoreAway("").problem:
            return StoreAway(detail)
        case HTTPStatus.SERVICE_UNAVAILABLE:
            return ServiceUnavailable(detail)
        case HTTPStatus.UNPROCESSABLE_ENTITY:
            return InvalidTask(detail)
        case HTTPStatus.CONFLICT if "needed" in problem:
            needed, available = problem["needed"], problem.get("available")
            return PrivacyUnavailable(detail, needed=needed, available=available)
        case HTTPStatus.CONFLICT if problem.get("type") == NoWorker("").problem:
            return NoWorker(detail)
        case _:
            return BackendError(detail, one_line(problem.get("type", "")))
