"""Connections of pg8000 that end: they let go of their socket, and say no more than that.

The driver says good-bye to its server first. Where that is gone already, it would raise that in
place of what ended the connection, and would leave the socket to the collector of garbage.

Only `postgres` imports this, when it connects: SQLite does without the driver.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from pg8000.exceptions import InterfaceError
from pg8000.legacy import Connection as OfEngines
from pg8000.native import Connection as Native

__all__ = ["ListeningConnection", "PooledConnection"]


class _LetsGo:
    """Goes before a class of the driver's connections."""

    def close(self) -> None:
        """Close it, also where its server is gone or it was closed before."""
        made = getattr(self, "_usock", None)
        try:
            with contextlib.suppress(InterfaceError):
                parent: Any = super()
                parent.close()
        finally:
            if made is not None and (descriptor := made.detach()) >= 0:
                os.close(descriptor)


class PooledConnection(_LetsGo, OfEngines):  # type: ignore[misc]  # the driver has no types
    """A connection as SQLAlchemy uses it."""

    @contextlib.contextmanager
    def unhurried(self) -> Iterator[None]:
        """Wait for the server's next words for as long as it takes."""
        limit = self._usock.gettimeout()
        self._usock.settimeout(None)
        try:
            yield
        finally:
            if self._usock is not None:
                self._usock.settimeout(limit)


class ListeningConnection(_LetsGo, Native):  # type: ignore[misc]
    """A connection without a cursor."""
