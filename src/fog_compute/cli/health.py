"""``fog health``: whether a part of a fog is well, for healthchecks and scripts."""

from __future__ import annotations

import contextlib
import http.client
import json as json_module
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Annotated, Final
from urllib.parse import unquote, urlsplit

from cyclopts import Parameter

from fog_compute.cli.common import CommandError, JsonFlag, print_json, whole
from fog_compute.cli.output import write
from fog_compute.descriptors import why
from fog_compute.errors import ConfigError
from fog_compute.hosts import LOOPBACK_4
from fog_compute.text import one_line

__all__ = ["health"]

# Healthchecks run all day: the libraries by which other commands ask are not even imported, unless
# there is a home to look into.

ANSWER_S: Final = 5.0
"""How long to wait for a connection, and for more of an answer."""
ANSWER_BYTES: Final = 64 * 1024
REASONS: Final = 20
REASON_LENGTH: Final = 500
PORTS: Final = range(1, 65536)

_VERDICTS: Final = frozenset({HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE})


@dataclass(frozen=True, slots=True)
class _Asked:
    """Whom to ask.

    Attributes:
        url: without a path.
        key: shown to it, if any.
        trusted: by which certificates it proves itself; None for those of the system.
    """

    url: str
    key: str = field(default="", repr=False)
    trusted: ssl.SSLContext | None = None


def health(
    *,
    url: Annotated[
        str | None,
        Parameter(help="What to ask instead of the backend, such as http://127.0.0.1:3000."),
    ] = None,
    port: Annotated[
        int | None, Parameter(help="Ask what listens at this port here.", converter=whole)
    ] = None,
    ready: Annotated[
        bool, Parameter(negative=(), help="Ask whether it would take a task, not how it is.")
    ] = False,
    json: JsonFlag = False,
) -> int:
    """Say whether the backend is well, or what listens elsewhere: a worker, or the panel.

    The exit code is 0 where it is, 1 where it is not or does not answer within five seconds, and 3
    where no fog runs or nothing listens. No key is needed and none is sent with `--url` or
    `--port`; the backend of this home, or that of `FOG_URL`, is shown one, so that it tells its
    reasons.

    For example: `fog health --ready`
    """
    path = "/ready" if ready else "/health"
    with _whom(url, port) as asked:
        status, answer = _ask(asked, path)
    if status not in _VERDICTS:
        raise CommandError(_odd(status, asked.url, path))
    told = {"url": asked.url, "well": status == HTTPStatus.OK, "reasons": _reasons(answer)}
    if status != HTTPStatus.OK:
        reasons = "; ".join(_reasons(answer)) or "it does not say why"
        would = "would take no task" if ready else "is not well"
        raise CommandError(f"{asked.url} {would}: {reasons}", beside=told)
    if json:
        print_json(told)
    else:
        write("ready\n" if ready else "ok\n")
    return 0


@contextlib.contextmanager
def _whom(url: str | None, port: int | None) -> Iterator[_Asked]:
    """Whom to ask, and how; a home's backend is held to be the one that is asked."""
    if url is not None and port is not None:
        raise ConfigError("give --url or --port, not both")
    if port is not None and port not in PORTS:
        raise ConfigError(f"there is no port {port}: give one from 1 to {PORTS[-1]}")
    if port is not None:
        url = f"http://{LOOPBACK_4}:{port}"
    if url is not None:
        yield _Asked(_checked(url))
        return
    from fog_compute.client.connection import Absent  # slow; see above
    from fog_compute.client.places import place_from_environment

    place = place_from_environment()
    try:
        with contextlib.closing(place.find()) as address:
            address.check()
            trusted = address.trusted if isinstance(address.trusted, ssl.SSLContext) else None
            yield _Asked(str(address.url).rstrip("/"), address.token, trusted)
    except Absent:
        raise place.away() from None


def _checked(url: str) -> str:
    with contextlib.suppress(ValueError):
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        bare = parts.path in ("", "/") and not (parts.query or parts.fragment)
        if known and bare and "@" not in parts.netloc and url.isascii() and url.isprintable():
            return url.rstrip("/")
    raise ConfigError(
        "--url is no address to ask: give one without a path, such as http://127.0.0.1:3000"
    )


def _ask(asked: _Asked, path: str) -> tuple[int, bytes]:
    """Ask once."""
    parts = urlsplit(asked.url)
    host, port = unquote(parts.hostname or ""), parts.port
    connection = (
        http.client.HTTPConnection(host, port, timeout=ANSWER_S)
        if parts.scheme == "http"
        else http.client.HTTPSConnection(host, port, timeout=ANSWER_S, context=asked.trusted)
    )
    key = {"authorization": f"Bearer {asked.key}"} if asked.key else {}
    until = time.monotonic() + ANSWER_S
    answer = b""
    try:
        with contextlib.closing(connection):
            connection.request("GET", path, headers=key)
            response = connection.getresponse()
            while len(answer) < ANSWER_BYTES and time.monotonic() < until:
                piece = response.read1(ANSWER_BYTES)
                if not piece:
                    break
                answer += piece
            return response.status, answer
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = why(error) if isinstance(error, OSError) else "what answers speaks no HTTP"
        raise CommandError(f"nothing answers at {asked.url}: {reason}") from None


def _reasons(answer: bytes) -> list[str]:
    """Why something is not well, as far as it says."""
    try:
        said = json_module.loads(answer)
    except (ValueError, RecursionError):
        return []
    reasons = said.get("reasons") if isinstance(said, dict) else None
    if not isinstance(reasons, list):
        return []
    return [
        one_line(reason, REASON_LENGTH) for reason in reasons[:REASONS] if isinstance(reason, str)
    ]


def _odd(status: int, asked: str, path: str) -> str:
    if status == HTTPStatus.UNAUTHORIZED:
        return f"{asked} wants a key for {path}: name it by FOG_URL and FOG_KEY, without --url"
    if status == HTTPStatus.NOT_FOUND:
        return f"{asked} has no {path}: is it a backend, a worker or the panel?"
    return f"{asked} answered {path} with {status}"
