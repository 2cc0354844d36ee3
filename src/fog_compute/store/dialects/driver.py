"""Connections of pg8000 that ask once a statement, and that end.

The driver says good-bye to its server first. Where that is gone already, it would raise that in
place of what ended the connection, and would leave the socket to the collector of garbage; so it
does where the server goes after the first word. Sockets are therefore made here.

It would look through each statement letter by letter for its parameters, which takes most of the
time of a statement of many rows, and would wait for the server three times where once will do.

Only `postgres` imports this, when it connects: SQLite does without the driver.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Self

from pg8000.converters import make_params
from pg8000.core import NULL_BYTE, SYNC_MSG, Context, _flush, _write
from pg8000.exceptions import DatabaseError, InterfaceError
from pg8000.legacy import Connection as OfEngines
from pg8000.legacy import Cursor as OfStatements
from pg8000.legacy import ProgrammingError
from pg8000.native import Connection as Native

__all__ = ["ListeningConnection", "PooledConnection"]


class _LetsGo:
    """Goes before a class of the driver's connections."""

    @classmethod
    def to(cls, arguments: Mapping[str, Any]) -> Self:
        """Connect; ``arguments`` are those of the driver.

        Raises:
            InterfaceError: nobody listens, or who does speaks no such protocol.
            OSError: the server went away meanwhile.
            DatabaseError: the server refuses.
        """
        given = dict(arguments)
        try:
            made = _socket_to(given.pop("unix_sock", None), given)
        except OSError as error:
            raise InterfaceError("communication error") from error
        try:
            return cls(sock=made, **given)
        except BaseException:
            made.close()
            raise

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)

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


class _Cursor(OfStatements):  # type: ignore[misc]  # the driver has no types
    """Takes statements whose parameters are numbered as the server numbers them."""

    _input_oids: Sequence[int]

    def execute(self, operation: str, args: Sequence[object] = (), stream: object = None) -> Self:
        """See PEP 249."""
        if not args:
            super().execute(operation, (), stream)
            return self
        try:
            self._context = self._c.ask(operation, args, self._input_oids)
        except DatabaseError as error:
            raise ProgrammingError(*error.args) from None
        self._row_iter = iter(self._context.rows or ())
        self._input_oids = ()
        return self


class PooledConnection(_LetsGo, OfEngines):  # type: ignore[misc]
    """A connection as SQLAlchemy uses it."""

    PARAMETERS: Final = "numeric_dollar"
    """How statements for it name theirs."""

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

    def cursor(self) -> _Cursor:
        """See PEP 249."""
        return _Cursor(self)

    def ask(self, statement: str, values: Sequence[object], oids: Sequence[int]) -> Context:
        """Send a statement and its values, and wait for the answer to all of it.

        The server skips what follows an error, as far as the end of what was sent together
        (PostgreSQL's documentation, "Extended Query").
        """
        if not self._in_transaction and not self.autocommit:
            self.execute_simple("begin transaction")
        context = Context(statement)
        params = make_params(self.py_types, values)
        self.send_PARSE(NULL_BYTE, statement, oids)
        self.send_DESCRIBE_STATEMENT(NULL_BYTE)
        self.send_BIND(NULL_BYTE, params)
        self.send_EXECUTE()
        _write(self._sock, SYNC_MSG)
        _flush(self._sock)
        self.handle_messages(context)
        return context


class ListeningConnection(_LetsGo, Native):  # type: ignore[misc]
    """A connection without a cursor."""

    def fileno(self) -> int:
        """The descriptor that tells when there is something to read."""
        descriptor: int = self._usock.fileno()
        return descriptor


def _socket_to(unix: str | None, arguments: Mapping[str, Any]) -> socket.socket:
    """A connected socket, which waits for as long as the driver is told to."""
    if unix is None:
        made = socket.create_connection(
            (arguments["host"], arguments["port"]), arguments["timeout"]
        )
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return made
    made = socket.socket(socket.AF_UNIX)
    try:
        made.settimeout(arguments["timeout"])
        made.connect(unix)
    except BaseException:
        made.close()
        raise
    return made
