"""Where a fog keeps its state, and what it can take. Light to import, as every command does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from fog_compute.errors import ConfigError

__all__ = [
    "DATABASE_PATH_BYTES",
    "HOME_BYTES",
    "MAX_BLOB_BYTES",
    "RUNNER_DESCRIPTORS",
    "WORKER_HOME_BYTES",
    "HomeLayout",
    "default_home",
    "home_from_environment",
    "usable_home",
    "whole_path",
]

MAX_BLOB_BYTES: Final = 48 * 1024 * 1024
"""Largest module or input: with its overhead it fits into one message of the network."""

RUNNER_DESCRIPTORS: Final = 256
"""Files that a worker's runner can have open, its task's included."""

DATABASE_PATH_BYTES: Final = 504
"""Longest path under which SQLite opens a database with its journal."""

HOME_BYTES: Final = DATABASE_PATH_BYTES - len("/worker-63/attempts.db")
"""Longest path of a fog's home folder: all databases below it can be opened."""

WORKER_HOME_BYTES: Final = DATABASE_PATH_BYTES - len("/attempts.db")
"""Longest path of the home folder of one worker."""


def default_home() -> Path:
    """The folder that holds all state unless told otherwise.

    Raises:
        ConfigError: this user has no home of its own.
    """
    from platformdirs import user_data_path  # rarely needed

    try:
        return user_data_path("fog-compute", appauthor=False)
    except RuntimeError:  # where nobody knows the user, and HOME is not set
        raise ConfigError(
            f"the user with the number {os.getuid()} has no home folder: say with FOG_HOME where"
            " all state is to be kept"
        ) from None


def home_from_environment() -> Path:
    """The folder that ``FOG_HOME`` names, or the default one.

    Raises:
        ConfigError: it cannot be used.
    """
    named = os.environ.get("FOG_HOME")
    return usable_home(Path(named) if named else default_home())


def usable_home(path: Path, longest: int = HOME_BYTES) -> Path:
    """A home folder's absolute path, if everything can lie below it.

    Raises:
        ConfigError: it is too long, is no text, or names no user's home.
    """
    whole = whole_path(path)
    name = os.fsencode(whole)
    try:
        name.decode()
    except UnicodeDecodeError:
        shown = name.decode(errors="backslashreplace")
        raise ConfigError(
            f"the home folder {shown} has a path that is no UTF-8 text: choose another with"
            " FOG_HOME"
        ) from None
    # A database is opened by where it really is.
    length = max(len(name), len(os.path.realpath(name)))
    if length > longest:
        raise ConfigError(
            f"the path of the home folder has {length} bytes, and {longest} fit: choose a shorter"
            f" one with FOG_HOME than {whole}"
        )
    return whole


def whole_path(path: Path) -> Path:
    """An absolute path, with the home of a user for a leading ``~``.

    Raises:
        ConfigError: there is no such user, or no current folder.
    """
    try:
        return path.expanduser().absolute()
    except RuntimeError as error:
        raise ConfigError(f"the path {str(path)!r} names no user's home: {error}") from error
    except FileNotFoundError:
        raise ConfigError(
            f"the path {str(path)!r} begins in the current folder, which is deleted: go to another"
            " folder, or give a whole path"
        ) from None


class HomeLayout:
    """Where everything lies below one home folder."""

    __slots__ = ("root",)

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def state_file(self) -> Path:
        """What ``fog up`` started, as JSON."""
        return self.root / "fog.json"

    @property
    def lock_file(self) -> Path:
        """Held by the running ``fog up``."""
        return self.root / "fog.lock"

    @property
    def net(self) -> Path:
        """State of the local net."""
        return self.root / "net"

    @property
    def bootstrap(self) -> Path:
        """How to join the net: authority and edges."""
        return self.net / "net.json"

    @property
    def joined(self) -> Path:
        """How to join the network that a bootstrap token named; the home has no net of its own."""
        return self.root / "joined.json"

    @property
    def lent(self) -> HomeLayout:
        """A home of its own for the worker that `fog worker start` keeps."""
        return HomeLayout(self.root / "lent")

    @property
    def given_tokens(self) -> Path:
        """The bootstrap tokens that were given out, without what they open."""
        return self.root / "tokens.json"

    @property
    def groups_file(self) -> Path:
        """The keys of the groups that this fog is a member of, readable by its owner only."""
        return self.root / "groups.json"

    @property
    def daemon(self) -> Path:
        """State of the backend."""
        return self.root / "daemon"

    @property
    def database(self) -> Path:
        """The SQLite file of the backend."""
        return self.daemon / "fog.db"

    @property
    def backend_file(self) -> Path:
        """The file that names this home's backend among others on one database."""
        return self.daemon / "backend"

    @property
    def token_file(self) -> Path:
        """The bearer token of the HTTP interface, readable by its owner only."""
        return self.daemon / "token"

    @property
    def server_file(self) -> Path:
        """Where the running backend listens, as JSON."""
        return self.daemon / "server.json"

    @property
    def clients(self) -> Path:
        """One mixnet client folder per privacy level."""
        return self.daemon / "clients"

    @property
    def identity_file(self) -> Path:
        """The keys of the person whose messages these are, readable by its owner only."""
        return self.daemon / "identity.json"

    @property
    def card_file(self) -> Path:
        """That person's contact card, as text."""
        return self.daemon / "card"

    @property
    def mail_file(self) -> Path:
        """Sealed mail that the Bluetooth mesh has left here to be carried."""
        return self.daemon / "mail"

    @property
    def monitoring(self) -> Path:
        """State and settings of the programs that watch this fog."""
        return self.root / "monitoring"

    @property
    def monitoring_logs(self) -> Path:
        """One log file for each of them, in the words of its makers."""
        return self.monitoring / "logs"

    @property
    def metrics_key_file(self) -> Path:
        """The API key with which Prometheus asks the backend, readable by its group, too."""
        return self.monitoring / "metrics-key"

    @property
    def logs(self) -> Path:
        """One log file per child process."""
        return self.root / "logs"

    @property
    def exported_file(self) -> Path:
        """How far the logs were sent to a collector."""
        return self.root / "exported.json"

    @property
    def interpreters(self) -> Path:
        """What local workers compile once for all of them."""
        return self.root / "interpreters"

    def worker(self, index: int) -> Path:
        """State of the local worker with this number."""
        return self.root / f"worker-{index}"
