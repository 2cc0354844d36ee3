"""The backend as a process: its command line, its socket, its end."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

import uvicorn

from fog_compute.clock import SystemClock
from fog_compute.config import Settings, load_settings
from fog_compute.descriptors import why
from fog_compute.errors import EXHAUSTED, ConfigError, FogError, StoreUnusable, is_exhaustion
from fog_compute.hosts import url_of
from fog_compute.lifetime import (
    EXIT_UNUSABLE,
    announce,
    keep_files_private,
    raise_descriptor_limit,
)
from fog_compute.locking import try_lock
from fog_compute.observability import configure_logging, get_logger
from fog_compute.p2p.mobile.web_links import LONGEST_MESSAGE
from fog_compute.server.app import create_app
from fog_compute.server.auth import load_or_make_token
from fog_compute.server.binding import end_as_asked, listen_at
from fog_compute.server.listener import BoundedServer, places_for
from fog_compute.server.renewal import Renewal
from fog_compute.server.services import ServiceManager
from fog_compute.server.tls import Tls, load_tls

__all__ = ["main", "names_of"]

_log = get_logger("fog_compute.server")

GRACE_S: Final = 2


def main(arguments: list[str] | None = None) -> int:
    """Run the backend until SIGTERM or SIGINT; return the exit code."""
    keep_files_private()
    options = _parse(arguments)
    try:
        settings = load_settings(
            home=options.home, host=options.host, port=options.port, net=options.net
        )
        configure_logging(
            service="fog-backend",
            node="backend",
            level=settings.log_level,
            json=options.json_logs or settings.log_json,
        )
        load_or_make_token(settings.layout.token_file)  # an unusable one ends it here
        tls = _tls(settings)
        listener = listen_at(settings.host, settings.port)
    except ConfigError as error:
        announce("error", message=str(error))
        return EXIT_UNUSABLE
    with listener:
        return asyncio.run(_serve(settings, listener, tls))


async def _serve(settings: Settings, listener: socket.socket, tls: Tls | None) -> int:
    url = url_of(*listener.getsockname()[:2], scheme="http" if tls is None else "https")
    crashed = False
    failure: Exception | None = None
    states: list[int] = []  # the file that says where it is
    renewing: list[asyncio.Task[None]] = []

    def on_crash() -> None:
        nonlocal crashed
        crashed = True
        server.should_exit = True

    def on_failure(error: Exception) -> None:
        nonlocal failure
        failure = error

    def on_ready() -> None:
        # Its warnings are about what strangers send, a line for each.
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        states.append(_write_state(settings, url, tls))
        if renewal is not None:
            renewing.append(asyncio.create_task(renewal.run(), name="renewal"))
        _log.info("server.started")
        announce("ready", url=url, pid=os.getpid())

    def renewed(tls: Tls) -> None:
        # First what may fail: nobody is accepted in between, and the certificate stays if it does.
        states.append(_write_state(settings, url, tls))
        server.renew(tls.context)
        # Without its lock the one before is that of a backend that is gone: who has read it looks
        # again, and finds the certificate that proves this one now.
        os.close(states.pop(0))

    renewal = _renewal(settings, tls, renewed)

    services = ServiceManager(settings, on_crash=on_crash)
    places = places_for(raise_descriptor_limit())
    server = BoundedServer(
        uvicorn.Config(
            create_app(
                services,
                listeners=places * 3 // 4,  # the others are for who asks
                names=lambda: names_of(settings, None if renewal is None else renewal.tls),
                certificate_ends=lambda: None if renewal is None else renewal.tls.ends,
                on_ready=on_ready,
                on_failure=on_failure,
            ),
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # a neighbour on this machine says of nobody else who he is
            ws="websockets-sansio",
            ws_max_size=LONGEST_MESSAGE,
            ws_per_message_deflate=False,  # packets are compressed or sealed already
            timeout_graceful_shutdown=GRACE_S,
        ),
        services.begin_stop,
        places=places,
        tls=None if tls is None else tls.context,
    )
    # Until the services are up, uvicorn would print their one clear line as a traceback.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL + 1)
    end_as_asked()
    try:
        await server.serve(sockets=[listener])
    except SystemExit:
        announce("error", message=_why_not(failure))
        return EXIT_UNUSABLE if isinstance(failure, ConfigError | StoreUnusable) else 1
    finally:
        for task in renewing:
            task.cancel()
    return 1 if crashed else 0


def names_of(settings: Settings, tls: Tls | None) -> frozenset[str]:
    """The names under which it is asked, beside its addresses."""
    given = frozenset(filter(None, settings.names.split(",")))
    return given if tls is None else given | tls.names


def _why_not(failure: Exception | None) -> str:
    """Say in one line what keeps the backend from starting."""
    match failure:
        case FogError():
            return failure.message
        case OSError():
            return f"the backend cannot start: {why(failure)}"
        case Exception() if is_exhaustion(failure):
            return f"the backend cannot start: {EXHAUSTED}"
        case _:
            _log.error("start.crashed", exc_info=failure)
            return f"the backend cannot start: {type(failure).__name__}: {failure}"


def _tls(settings: Settings) -> Tls | None:
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return load_tls(settings.tls_cert, settings.tls_key, SystemClock().now())


def _renewal(settings: Settings, tls: Tls | None, renewed: Callable[[Tls], None]) -> Renewal | None:
    if tls is None or settings.tls_cert is None or settings.tls_key is None:
        return None
    return Renewal(settings.tls_cert, settings.tls_key, tls, SystemClock(), renewed)


def _write_state(settings: Settings, url: str, tls: Tls | None) -> int:
    """Say where the backend is, and how it proves itself; return the file, which is locked.

    Without the lock a client would send its token to whoever has the port next.
    """
    path = settings.layout.server_file
    fresh = path.with_suffix(".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        try_lock(descriptor)  # nobody else knows the file yet
        state = {"url": url, "pid": os.getpid()}
        if tls is not None:
            state["certificate"] = tls.certificate
        data = json.dumps(state).encode()
        while data:
            data = data[os.write(descriptor, data) :]
        fresh.replace(path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m fog_compute.server", description="Run the backend of a fog."
    )
    parser.add_argument("--home", type=Path, help="folder with all state")
    parser.add_argument("--host", help="address to bind")
    parser.add_argument("--port", type=int, help="port to bind; 0 for any free one")
    parser.add_argument("--net", type=Path, help="bootstrap file of the mixnet")
    parser.add_argument("--json-logs", action="store_true", help="write logs as JSON")
    parser.add_argument(
        "--die-with-parent",
        action="store_true",
        help="end when the parent does; standard input must be its pipe",
    )
    return parser.parse_args(arguments)
