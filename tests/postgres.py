"""A Postgres of the tests' own: a socket in a temporary folder, nothing flushed, gone with them."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote

from sqlalchemy import Engine, create_engine, insert, select, text
from sqlalchemy.exc import SQLAlchemyError

from fog_compute.store.dialects import database_at
from fog_compute.store.dialects.driver import PooledConnection
from fog_compute.store.migrate import HEAD, migrate
from fog_compute.store.schema import metadata

DEBIAN: Final = Path("/usr/lib/postgresql")
"""Where Debian's packages have the programs, which are not on the PATH."""

USERS: Final = ("postgres", "nobody")
"""Who may run it for root, whom it refuses."""

USER: Final = "fog"
LOCKED: Final = "fog_with_password"
PASSWORD: Final = "hunter2/&@"
TEMPLATE: Final = "fog_template"
SHARED: Final = "fog_shared"
END_OTHERS: Final = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)
READY_S: Final = 60.0
PAUSE_S: Final = 0.02

# Nothing of it has to survive the machine, and everything of it the processes of a test.
SETTINGS: Final = {
    "autovacuum": "off",
    "fsync": "off",
    "full_page_writes": "off",
    "jit": "off",
    "listen_addresses": "",
    "max_connections": "60",
    "max_wal_senders": "0",
    "shared_buffers": "16MB",
    "wal_level": "minimal",
}
DURABLE: Final = {"fsync": "on", "full_page_writes": "on"}


class PostgresMissing(Exception):
    """There is no Postgres to run here."""


class PrivatePostgres:
    """One server and its databases; `running` is the way to one."""

    def __init__(
        self, programs: Path, folder: Path, user: str | None, settings: Mapping[str, str]
    ) -> None:
        """Keep all in ``folder``, and run ``programs`` as ``user`` if that is not None."""
        self._settings = {**SETTINGS, **settings}
        self._programs = programs
        self._folder = folder
        self._user = user
        self._server: subprocess.Popen[bytes] | None = None
        self._made = 0
        self._shared: Engine | None = None
        self._seeds: dict[str, list[dict[str, object]]] = {}  # what migrations put into tables

    def prepare(self) -> None:
        """Make an empty server, and a template with the newest schema."""
        self._run(
            [
                *("initdb", "--no-sync", "--no-locale", "--encoding=UTF8", "--auth=trust"),
                *(f"--username={USER}", f"--pgdata={self._folder / 'data'}"),
            ]
        )
        rules = self._folder / "data" / "pg_hba.conf"
        rules.write_text(f"local all {LOCKED} scram-sha-256\n" + rules.read_text("utf-8"), "utf-8")
        self.start()
        self._say(f"CREATE ROLE {LOCKED} SUPERUSER LOGIN PASSWORD '{PASSWORD}'")
        self._say(f"CREATE DATABASE {TEMPLATE}")
        engines = database_at(self.url(TEMPLATE)).engines()
        with engines.writing.begin() as connection:
            migrate(connection)
            for table in metadata.sorted_tables:
                rows = connection.execute(select(table)).mappings().all()
                if rows:
                    self._seeds[table.name] = [dict(row) for row in rows]
        engines.dispose()

    def start(self) -> None:
        """Start the server, also after `kill`; return once it answers."""
        settings = {**self._settings, "unix_socket_directories": str(self._folder)}
        words = ["postgres", "-D", str(self._folder / "data")]
        for name, value in settings.items():
            words += ["-c", f"{name}={value}"]
        until = time.monotonic() + READY_S
        while True:
            # What a killed one left behind may still be ending, and keeps a new one away.
            if self._server is None or self._server.poll() is not None:
                with (self._folder / "log").open("ab") as log:
                    self._server = subprocess.Popen(
                        self._words(words),
                        cwd="/",
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                    )
            try:
                self._say("SELECT 1")
            except SQLAlchemyError:
                if time.monotonic() > until:
                    raise RuntimeError((self._folder / "log").read_text("utf-8")) from None
                time.sleep(PAUSE_S)
            else:
                return

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End the server: by default as the machine's death would."""
        if self._server is not None:
            self._server.send_signal(how)
            self._server.wait(READY_S)

    def url(self, database: str, user: str = USER) -> str:
        """Return the URL of a database of this server."""
        return f"postgresql://{user}@/{database}?host={quote(str(self._folder))}"

    @contextmanager
    def database(self, template: str = TEMPLATE) -> Iterator[str]:
        """Have a database of one's own for a while: its URL. By default it has the schema.

        It takes half a second; `cleared` is for those who leave the schema as it is.
        """
        self._made += 1
        name = f"fog_{self._made}"
        self._say(f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield self.url(name)
        finally:
            self._say(f"DROP DATABASE {name} WITH (FORCE)")

    def cleared(self) -> str:
        """Return the URL of a database with the schema and nothing in it, the same every time."""
        url = self.url(SHARED)
        if self._shared is None:
            self._say(f"CREATE DATABASE {SHARED} TEMPLATE {TEMPLATE}")
            self._shared = self._engine(SHARED)
            return url
        others = (
            "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        with self._shared.begin() as connection:
            connection.execute(text(f"SELECT pg_terminate_backend(pid) {others}"))
            assert (
                connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == HEAD
            )
            # Deleted rows would stay in the tables, and the server would plan for their pages.
            connection.execute(text(f"TRUNCATE {', '.join(metadata.tables)}"))
            # What ANALYZE has found stays when the rows go, and would be planned by.
            connection.execute(text("DELETE FROM pg_statistic WHERE starelid >= 16384"))
            for name, rows in self._seeds.items():
                connection.execute(insert(metadata.tables[name]), rows)
            connection.execute(text("ALTER SEQUENCE events_seq_seq RESTART"))
        return url

    def _engine(self, database: str) -> Engine:
        socket = str(self._folder / ".s.PGSQL.5432")
        arguments = {"user": USER, "database": database, "unix_sock": socket}
        return create_engine(
            "postgresql+pg8000://",
            creator=lambda: PooledConnection(**arguments),
            paramstyle=PooledConnection.PARAMETERS,
            pool_pre_ping=True,
        )

    def _say(self, statement: str) -> None:
        engine = self._engine("postgres")
        try:
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(text(statement))
        finally:
            engine.dispose()

    def _run(self, words: Sequence[str]) -> None:
        done = subprocess.run(
            self._words(words), cwd="/", capture_output=True, text=True, timeout=READY_S
        )
        if done.returncode != 0:
            raise RuntimeError(done.stdout + done.stderr)

    def _words(self, words: Sequence[str]) -> list[str]:
        program = [str(self._programs / words[0]), *words[1:]]
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            return program
        # It ends cleanly with whoever started it, whatever way that ends.
        as_user = (
            []
            if self._user is None
            else [
                *(f"--reuid={self._user}", "--regid", str(pwd.getpwnam(self._user).pw_gid)),
                "--clear-groups",
            ]
        )
        return [setpriv, *as_user, "--pdeathsig=QUIT", "--", *program]

    def __enter__(self) -> Self:
        """Prepare it."""
        try:
            self.prepare()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        """End the server, and delete all that was its."""
        if self._shared is not None:
            self._shared.dispose()
        self.kill(signal.SIGQUIT)
        shutil.rmtree(self._folder, ignore_errors=True)


def private_postgres(*, durable: bool = False) -> PrivatePostgres:
    """Return a server that is not made yet; a ``with`` makes it.

    Args:
        durable: have on disk what it says that it has, as no test needs it.

    Raises:
        PostgresMissing: it cannot run here; the text says what is missing.
    """
    programs = _programs()
    user = None
    if os.geteuid() == 0:
        user = next((name for name in USERS if _is_user(name)), None)
        if user is None or shutil.which("setpriv") is None:
            raise PostgresMissing(
                "root needs setpriv and a user postgres or nobody to run Postgres"
            )
    # Its user could not enter the folders of pytest; and the path of a socket is short.
    folder = Path(tempfile.mkdtemp(prefix="fog-postgres-"))
    if user is not None:
        shutil.chown(folder, user)
    return PrivatePostgres(programs, folder, user, DURABLE if durable else {})


def _programs() -> Path:
    """The folder of the newest Postgres that is installed."""
    found = [path for path in DEBIAN.glob("*/bin") if (path / "initdb").exists()]
    if found:
        return max(found, key=lambda path: int(path.parent.name.partition(".")[0]))
    on_path = shutil.which("initdb")
    if on_path is None:
        raise PostgresMissing("Postgres is not installed (Debian: apt-get install postgresql)")
    return Path(on_path).resolve().parent


def _is_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
