"""Postgres: a server that several processes may share, through the driver pg8000."""

from __future__ import annotations

import contextlib
import os
import pwd
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, ExceptionContext
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from fog_compute.errors import StoreUnusable
from fog_compute.store.dialects.base import Engines, Listening
from fog_compute.store.dialects.verdicts import Verdict, judge, sqlstate

__all__ = ["PostgresDatabase"]

DRIVER: Final = "postgresql+pg8000"
APPLICATION: Final = "fog-compute"
READERS: Final = 4
VISITORS: Final = 4
PORT: Final = 5432
SOCKETS: Final = Path("/var/run/postgresql")
"""Where Debian's server has its socket."""

ANSWER_S: Final = 60.0
"""How long the server may be silent before a connection to it counts as dead."""
LOCK_MS: Final = 5000
"""How long a statement waits for rows that another transaction has locked."""
IDLE_MS: Final = 10_000
"""How long a transaction may stand still: what a frozen process has locked is given free then."""

LOOKS: Final = 20
LOOK_S: Final = 0.05

_QUERY: Final = frozenset(
    {"host", "port", "sslmode", "sslrootcert", "sslcert", "sslkey", "options"}
)


@dataclass(frozen=True, slots=True)
class PostgresDatabase:
    """A database of a Postgres server."""

    name: str
    _arguments: dict[str, object] = field(repr=False)
    _startup: dict[str, str] = field(repr=False)

    @classmethod
    def of_url(cls, url: URL) -> Self:
        """Read a URL as libpq does: a ``host`` that begins with a slash is a folder of sockets.

        Raises:
            StoreUnusable: it says something that cannot be followed.
        """
        query = {name: value for name, value in url.query.items() if isinstance(value, str)}
        if unknown := sorted(url.query.keys() - _QUERY) or sorted(url.query.keys() - query.keys()):
            raise StoreUnusable(
                f"the database URL says {', '.join(unknown)}, which cannot be followed: it may say"
                f" {', '.join(sorted(_QUERY))}, each once"
            )
        user = url.username or _this_user()
        database = url.database or user
        try:
            port = int(query.get("port", url.port or PORT))
        except ValueError:
            raise StoreUnusable("the database URL has a port that is no number") from None
        host = url.host or query.get("host")
        if host is None:
            host = str(SOCKETS) if SOCKETS.is_dir() else "localhost"
        arguments: dict[str, object] = {
            "user": user,
            "database": database,
            # An empty one is refused by the server; without any the driver breaks down.
            "password": url.password or "",
            "ssl_context": _ssl(query),
            "application_name": APPLICATION,
            "timeout": ANSWER_S,
        }
        if host.startswith("/"):
            arguments["unix_sock"] = f"{host}/.s.PGSQL.{port}"
        else:
            arguments |= {"host": host, "port": port}
        startup = {"client_encoding": "utf8"}
        if "options" in query:
            startup["options"] = query["options"]
        return cls(f"{database} at {host}:{port}", arguments, startup)

    @property
    def shared(self) -> bool:
        """Always: nobody is kept away."""
        return True

    @property
    def blobs_folder(self) -> None:
        """None: other machines would not see a folder."""

    def take(self, stack: contextlib.ExitStack) -> None:
        """Nothing: several processes may share it."""

    def engines(self) -> Engines:
        """Return engines of which the writer's has one connection."""
        patience = {
            "lock_timeout": str(LOCK_MS),
            "idle_in_transaction_session_timeout": str(IDLE_MS),
        }
        writing = self._engine(patience, pool_size=1, max_overflow=0)
        visiting = self._engine(patience, pool_size=VISITORS)
        for engine in (writing, visiting):
            event.listen(engine, "connect", _prepare_writer)
            # One statement for many rows, where the driver would send one for each.
            engine.dialect.use_insertmanyvalues_wo_returning = True
        reading = self._engine(
            {"default_transaction_read_only": "on"},
            pool_size=READERS,
            isolation_level="AUTOCOMMIT",
        )
        return Engines(writing, visiting, reading)

    def listen(self, channel: str) -> Listening:
        """Connect, and hear what is notified on a channel."""
        return _Listening(self._arguments, self._startup, channel)

    @property
    def path(self) -> None:
        """None: its server has it."""

    def in_one_view(self, connection: Connection) -> None:
        """A transaction sees what was there when it began."""
        connection.exec_driver_sql("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")

    def own_faults(self, connection: Connection) -> Iterator[tuple[str, str]]:
        """None: the server sees to its files and keys."""
        del connection
        return iter(())

    def size(self, connection: Connection) -> int:
        """What the server says."""
        query = text("SELECT pg_database_size(current_database())")
        return int(connection.execute(query).scalar_one())

    def vacuum(self, connection: Connection) -> None:
        """Let the server use room again, which its backends need not stop for."""
        alone = connection.execution_options(isolation_level="AUTOCOMMIT")
        with self.unhurried(alone):
            alone.exec_driver_sql("VACUUM (ANALYZE)")

    def unhurried(self, connection: Connection) -> contextlib.AbstractContextManager[None]:
        """A server that died is then noticed when the kernel's probes are not answered."""
        driver: Any = connection.connection.driver_connection
        waiting: contextlib.AbstractContextManager[None] = driver.unhurried()
        return waiting

    def alone(self, connection: Connection) -> bool:
        """Whether no other process of this program is there.

        One that has just ended may be seen for a moment more; its connections are waited for.
        """
        count = text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name = :application AND pid <> pg_backend_pid()"
        )
        for _ in range(LOOKS):
            if connection.execute(count, {"application": APPLICATION}).scalar_one() == 0:
                return True
            connection.execute(text(f"SELECT pg_sleep({LOOK_S}), pg_stat_clear_snapshot()"))
        return False

    def _engine(self, startup: dict[str, str], **options: object) -> Engine:
        arguments = self._arguments | {"startup_params": self._startup | startup}
        try:
            # Here, because SQLite does without it.
            from fog_compute.store.dialects.driver import PooledConnection
        except ModuleNotFoundError as err:
            raise StoreUnusable(
                "the driver of Postgres is not installed: install fog-compute[postgres]"
            ) from err
        engine = create_engine(
            DRIVER + "://",
            creator=lambda: PooledConnection.to(arguments),
            paramstyle=PooledConnection.PARAMETERS,
            poolclass=QueuePool,
            pool_pre_ping=True,
            **options,
        )
        event.listen(engine, "handle_error", _drop_what_died)
        return engine


class _Listening:
    """A connection that listens, and that can be waited for."""

    __slots__ = ("_connection",)

    def __init__(self, arguments: dict[str, object], startup: dict[str, str], channel: str) -> None:
        from fog_compute.store.dialects.driver import ListeningConnection

        self._connection = ListeningConnection.to(arguments | {"startup_params": startup})
        try:
            self._connection.run(f"LISTEN {channel}")
        except BaseException:
            self._connection.close()
            raise

    def fileno(self) -> int:
        return self._connection.fileno()

    def heard(self) -> Sequence[str]:
        self._connection.run("SELECT 1")  # the driver reads no more than the answer to something
        heard = [payload for _, _, payload in self._connection.notifications]
        self._connection.notifications.clear()
        return heard

    def close(self) -> None:
        with contextlib.suppress(Exception):  # it may be dead
            self._connection.close()


def _prepare_writer(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    """See to it that a commit is on disk, also where the server was told that it need not be."""
    cursor = connection.cursor()
    cursor.execute(
        "SELECT set_config('synchronous_commit', 'on', false)"
        " WHERE current_setting('synchronous_commit') = 'off'"
    )
    cursor.close()
    connection.commit()


def _drop_what_died(context: ExceptionContext) -> None:
    """Have a connection replaced after anything but an answer of its server.

    The driver may then stand in the middle of a message, and would take the next answer for
    another's.
    """
    original = context.original_exception
    if sqlstate(original) is None:
        context.is_disconnect = True
        # What one value broke says nothing of the other connections.
        context.invalidate_pool_on_disconnect = not isinstance(original, ValueError)
    elif judge(original) is Verdict.AWAY:
        context.is_disconnect = True


def _ssl(query: dict[str, str]) -> ssl.SSLContext | bool | None:
    """Return what the driver takes: None encrypts where the server offers it."""
    mode = query.get("sslmode", "prefer")
    match mode:
        case "disable":
            return False
        case "allow" | "prefer":
            return None
        case "require" | "verify-ca" | "verify-full":
            pass
        case _:
            raise StoreUnusable(
                "the database URL has an sslmode that is not known: give disable, prefer, require,"
                " verify-ca or verify-full"
            )
    try:
        context = ssl.create_default_context(cafile=query.get("sslrootcert"))
        context.check_hostname = mode == "verify-full"
        if mode == "require" and "sslrootcert" not in query:
            context.verify_mode = ssl.CERT_NONE
        if "sslcert" in query:
            context.load_cert_chain(query["sslcert"], query.get("sslkey"))
    except OSError as err:  # ssl.SSLError, too
        raise StoreUnusable(
            f"a certificate that the database URL names cannot be used: {err.strerror or err}"
        ) from err
    return context


def _this_user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        raise StoreUnusable("the database URL names no user: give user@host") from None
