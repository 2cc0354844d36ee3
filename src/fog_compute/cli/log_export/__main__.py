"""``python -m fog_compute.cli.log_export --home DIR``: the exporter as a process of its own."""

from __future__ import annotations

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]  # the current folder, from which nothing is to be imported

import argparse
import asyncio
import logging
from pathlib import Path
from typing import Final

from fog_compute.cli.log_export.records import sender
from fog_compute.cli.log_export.sending import keep_sending, read_places
from fog_compute.cli.log_lines import Follower, Wanted
from fog_compute.clock import SystemClock
from fog_compute.config import Settings, load_settings
from fog_compute.descriptors import run_program
from fog_compute.errors import ConfigError
from fog_compute.lifetime import (
    EXIT_UNUSABLE,
    announce,
    die_with_parent,
    keep_files_private,
    stop_event,
    undo_inherited_signals,
)
from fog_compute.observability import configure_logging

MOST_BYTES: Final = 256 * 1024
"""What one look reads of one log: a collector that comes back late finds no flood in memory."""


def main(arguments: list[str] | None = None) -> int:
    """Send until SIGTERM or SIGINT; return the exit code."""
    keep_files_private()
    parser = argparse.ArgumentParser(
        prog="python -m fog_compute.cli.log_export",
        description="Send log lines of a fog to the collector that FOG_OTLP_ENDPOINT names.",
    )
    parser.add_argument("--home", type=Path, required=True, help="the fog's home folder")
    parser.add_argument("--die-with-parent", action="store_true", help="end with the parent")
    options = parser.parse_args(arguments)
    undo_inherited_signals()
    if options.die_with_parent:
        die_with_parent()
    configure_logging(service="fog-log-export", node="log-export", json=True)
    # Of a collector that is away it would tell with each try.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    try:
        settings = load_settings(home=options.home)
        if settings.otlp_endpoint is None:
            raise ConfigError("setting otlp_endpoint (FOG_OTLP_ENDPOINT) names no collector")
        asyncio.run(_serve(settings, settings.otlp_endpoint))
    except ConfigError as error:
        announce("error", message=error.message)
        return EXIT_UNUSABLE
    return 0


async def _serve(settings: Settings, endpoint: str) -> None:
    stop = stop_event()
    file = settings.layout.exported_file
    # Debug lines carry what must not leave this machine.
    follower = Follower(
        settings.layout, (), Wanted("info"), places=read_places(file), most_bytes=MOST_BYTES
    )
    send = sender(endpoint)
    announce("ready")
    await keep_sending(follower, send, file, SystemClock(), stop)


if __name__ == "__main__":
    sys.exit(run_program("log-export", main))
