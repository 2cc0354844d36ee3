"""What every HTTP server of this package does before it serves: it listens, and takes its end."""

from __future__ import annotations

import signal
import socket
from typing import Final

from fog_compute.errors import ConfigError
from fog_compute.hosts import bind
from fog_compute.lifetime import end_on_hangup, port_problem

__all__ = ["end_as_asked", "listen_at"]

BACKLOG: Final = 128


def listen_at(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        ConfigError: nobody can listen there; the text says why, and what to do.
    """
    try:
        listener = bind(host, port)
        try:
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise ConfigError(port_problem(host, port, error)) from error
    return listener


def end_as_asked() -> None:
    """Take the signal that uvicorn raises again at its end for no failure: it was asked for."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    end_on_hangup()
