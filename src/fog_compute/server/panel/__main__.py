"""``python -m fog_compute.server.panel``: the control panel's server, a process of its own."""

from __future__ import annotations

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]  # the current folder, from which nothing is to be imported

import argparse
import asyncio
import logging
import os
import socket
from typing import Final

import uvicorn

from fog_compute.descriptors import run_program
from fog_compute.errors import ConfigError
from fog_compute.hosts import LOCALHOST, read_host, to_bind, url_of
from fog_compute.lifetime import (
    EXIT_UNUSABLE,
    announce,
    die_with_parent,
    keep_files_private,
    raise_descriptor_limit,
)
from fog_compute.observability import configure_logging, get_logger
from fog_compute.observability.metrics import PanelMetrics
from fog_compute.server.binding import end_as_asked, listen_at
from fog_compute.server.listener import BoundedServer, places_for
from fog_compute.server.panel.app import panel_app
from fog_compute.server.panel.files import STATIC, StaticFile, load

PORT: Final = 3000
MOST_PORT: Final = 65535
PLACES: Final = 256
GRACE_S: Final = 2

_log = get_logger("fog_compute.panel")


def main(arguments: list[str] | None = None) -> int:
    """Serve the panel until SIGTERM or SIGINT; return the exit code."""
    keep_files_private()
    options = _parser().parse_args(arguments)
    if options.die_with_parent:
        die_with_parent()
    configure_logging(
        service="fog-frontend", node="panel", level=options.log_level, json=options.json_logs
    )
    try:
        host = to_bind(read_host(options.host))
        files = load(STATIC)
        listener = listen_at(host, options.port)
    except ConfigError as error:
        announce("error", message=str(error))
        return EXIT_UNUSABLE
    with listener:
        asyncio.run(_serve(files, host, listener))
    return 0


async def _serve(files: dict[str, StaticFile], host: str, listener: socket.socket) -> None:
    server = BoundedServer(
        uvicorn.Config(
            panel_app(files, bound=host, metrics=PanelMetrics()),
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=GRACE_S,
        ),
        lambda: None,
        places=min(PLACES, places_for(raise_descriptor_limit())),
    )
    # Its warnings are about what strangers send, a line for each.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    end_as_asked()
    url = url_of(*listener.getsockname()[:2])
    _log.info("panel.started")
    announce("ready", url=url, pid=os.getpid())
    await server.serve(sockets=[listener])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fog_compute.server.panel", description="Serve the control panel of a fog."
    )
    parser.add_argument("--host", default=LOCALHOST, help="address to bind, loopback by default")
    parser.add_argument("--port", type=_port, default=PORT, help="port to bind; 0 for any free one")
    parser.add_argument("--json-logs", action="store_true", help="write logs as JSON")
    parser.add_argument(
        "--log-level", choices=("debug", "info", "warning", "error"), default="info"
    )
    parser.add_argument(
        "--die-with-parent",
        action="store_true",
        help="end when the parent does; standard input must be its pipe",
    )
    return parser


def _port(text: str) -> int:
    number = int(text) if text.isdecimal() and len(text) <= len(str(MOST_PORT)) else -1
    if not 0 <= number <= MOST_PORT:
        raise argparse.ArgumentTypeError(f"give a port from 0 to {MOST_PORT}")
    return number


if __name__ == "__main__":
    sys.exit(run_program("panel", main))
