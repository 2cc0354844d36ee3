"""The backend as commands see it: HTTP on loopback, problems as errors with one line."""

from __future__ import annotations

import contextlib
import fcntl
import json
import secrets
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final, NoReturn, Self

import httpx2

from fog_compute.cli.codes import USAGE
from fog_compute.cli.common import CommandError, NotRunningError
from fog_compute.cli.lock import Free, HomeLock, where
from fog_compute.errors import STOPPING, NotFound, PrivacyUnavailable, ServiceUnavailable
from fog_compute.kernel import try_lock
from fog_compute.layout import HomeLayout, home_from_environment
from fog_compute.reading import STATE_BYTES, open_state, read_descriptor, read_state
from fog_compute.units import MIB, format_bytes

__all__ = ["Backend"]

TIMEOUT_S: Final = 30.0
UPLOAD_TIMEOUT_S: Final = 120.0
ANSWER_BYTES: Final = 80 * MIB  # a task's output may have 64
RECONNECT_S: Final = 30.0
RECONNECT_PAUSE_S: Final = 0.2


class Body(dict[str, Any]):
    """JSON as it comes; each command picks its fields."""

    def __missing__(self, key: str) -> NoReturn:
        """Say whose fault a missing field is."""
        raise CommandError(f"the backend's answer has no {key!r}: is it another program?")


class _Stopping(ServiceUnavailable):
    """The backend is on its way out, and will be away in a moment."""


class NotReadyError(CommandError):
    """A fog runs, and its backend is not there yet."""


class Backend:
    """The running backend of one home folder.

    Attributes:
        on_lost: called when the backend is missed for the first time and waited for.
    """

    def __init__(self, layout: HomeLayout | None = None) -> None:
        """Find the backend.

        Raises:
            NotRunningError: no fog runs there.
            NotReadyError: one does, and its backend is not up yet.
            CommandError: that cannot be seen; the text names the path and the reason.
        """
        self._layout: Final = HomeLayout(home_from_environment()) if layout is None else layout
        self._lock: Final = HomeLock(self._layout)
        self._http = self._connect()
        self.on_lost: Callable[[], None] = lambda: None

    def __enter__(self) -> Self:
        """Return the backend itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, path: str, **query: str | float) -> Body:
        """GET a JSON object."""
        return self._json(self._send("GET", path, params=query))

    def post(self, path: str, body: Mapping[str, object] | None = None) -> Body:
        """POST JSON and get a JSON object; what a body describes is made once."""
        headers = {} if body is None else {"idempotency-key": secrets.token_hex(16)}
        once = bool(headers)
        return self._json(self._send("POST", path, repeatable=once, json=body, headers=headers))

    def read(self, path: str) -> bytes:
        """GET bytes."""
        return self._send("GET", path).content

    def upload(self, data: bytes) -> str:
        """Upload a blob and return its SHA-256."""
        answer = self._send(
            "POST",
            "/api/v1/blobs",
            content=data,
            headers={"content-type": "application/octet-stream"},
            timeout=UPLOAD_TIMEOUT_S,
        )
        return str(self._json(answer)["sha256"])

    def _connect(self) -> httpx2.Client:
        try:
            with open_state(self._layout.server_file) as descriptor:
                # A fog brings its backend back to the same port; without one, anybody may be there.
                if _is_unlocked(descriptor) and isinstance(self._lock.holder(), Free):
                    raise self._away()
                name = str(self._layout.server_file)
                url = str(json.loads(read_descriptor(descriptor, STATE_BYTES, name))["url"])
            token = read_state(self._layout.token_file).decode().strip()
        except FileNotFoundError:
            raise self._away() from None
        except OSError as error:
            raise CommandError(f"{error.filename} cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, RecursionError):
            raise self._away() from None
        try:
            return httpx2.Client(
                base_url=url,
                headers={"authorization": f"Bearer {token}", "accept-encoding": "identity"},
                timeout=TIMEOUT_S,
                trust_env=False,
            )
        except httpx2.InvalidURL:
            raise self._away() from None

    def _send(
        self, method: str, path: str, *, repeatable: bool = True, **options: Any
    ) -> httpx2.Response:
        """Ask; while a fog runs whose backend is away, wait for the backend to come back."""
        deadline: float | None = None
        while True:
            try:
                answer = self._ask(method, path, **options)
            except httpx2.TimeoutException:
                raise CommandError("the backend did not answer in time: see `fog status`") from None
            except httpx2.TransportError as error:
                # Only what never arrived, or can arrive twice, may be sent again.
                if not (repeatable or isinstance(error, httpx2.ConnectError)):
                    raise CommandError(
                        "the connection to the backend broke, and what was asked may be done"
                        " or not: see `fog task ls`"
                    ) from None
            else:
                if not answer.is_error:
                    return answer
                problem = _error_of(answer)
                if not (repeatable and isinstance(problem, _Stopping)):
                    raise problem
            deadline = self._wait_for_backend(deadline)

    def _ask(self, method: str, path: str, **options: Any) -> httpx2.Response:
        """Ask once, and read what fits of the answer."""
        data = bytearray()
        with self._http.stream(method, path, **options) as answer:
            for piece in answer.iter_bytes():
                data += piece
                if len(data) > ANSWER_BYTES:
                    raise CommandError(
                        f"the backend's answer has more than {format_bytes(ANSWER_BYTES)}: is it"
                        " another program?"
                    )
        return httpx2.Response(answer.status_code, content=bytes(data))

    def _wait_for_backend(self, deadline: float | None) -> float:
        """Wait a moment for a backend that is away, and look for it again; return until when."""
        if isinstance(self._lock.holder(), Free):
            raise self._away()
        now = time.monotonic()
        if deadline is None:
            deadline = now + RECONNECT_S
            self.on_lost()
        if now > deadline:
            raise CommandError(
                f"the backend of the fog in {self._layout.root} does not come back, and"
                " may have done what was asked: read logs/backend.log there, and see"
                " `fog task ls` later"
            )
        time.sleep(RECONNECT_PAUSE_S)
        self._reconnect()
        return deadline

    def _reconnect(self) -> None:
        with contextlib.suppress(NotRunningError, NotReadyError):
            fresh = self._connect()
            self._http.close()
            self._http = fresh

    def _json(self, answer: httpx2.Response) -> Body:
        try:
            body = answer.json(object_hook=Body)
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, Body):
            raise CommandError("the backend's answer cannot be read: is it another program?")
        return body

    def _away(self) -> CommandError:
        """Why there is no backend: no fog, or one that has not brought it up yet."""
        holder = self._lock.holder()
        if isinstance(holder, Free):
            return NotRunningError(
                f"no fog is running in {self._layout.root}: start one with `fog up`"
            )
        return NotReadyError(
            f"a fog runs in {self._layout.root} ({where(holder)}), but its backend does not answer"
            " yet: ask again in a moment, or read logs/backend.log there"
        )


def _is_unlocked(descriptor: int) -> bool:
    """Say whether no process holds a file's lock: the backend that wrote it is gone."""
    return try_lock(descriptor, fcntl.LOCK_SH)


def _error_of(answer: httpx2.Response) -> Exception:
    try:
        body = answer.json()
        detail = str(body["detail"])
    except (ValueError, KeyError, TypeError):
        return CommandError(f"the backend answered with status {answer.status_code}")
    match answer.status_code:
        case HTTPStatus.NOT_FOUND:
            return NotFound(detail)
        case HTTPStatus.SERVICE_UNAVAILABLE if body.get("type") == STOPPING:
            return _Stopping(f"{detail}: see `fog task ls` after the next `fog up`")
        case HTTPStatus.SERVICE_UNAVAILABLE:
            return ServiceUnavailable(detail)
        case HTTPStatus.UNPROCESSABLE_ENTITY:
            return CommandError(detail, USAGE)
        case HTTPStatus.CONFLICT if "needed" in body:
            return PrivacyUnavailable(
                detail, needed=body["needed"], available=body.get("available")
            )
        case _:
            return CommandError(detail)
