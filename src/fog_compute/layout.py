"""Where a fog keeps its state, and what it can take. Light to import, as every command does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from fog_compute.errors import ConfigError

__all__ = ["MAX_BLOB_BYTES", "HomeLayout", "default_home", "home_from_environment", "whole_path"]

MAX_BLOB_BYTES: Final = 48 * 1024 * 1024
"""Largest module or input: with its overhead it fits into one message of the network."""


def default_home() -> Path:
    """The folder that holds all state unless told otherwise."""
    from platformdirs import user_data_path  # rarely needed

    return user_data_path("fog-compute", appauthor=False)


def home_from_environment() -> Path:
    """The folder that ``FOG_HOME`` names, or the default one."""
    named = os.environ.get("FOG_HOME")
    return whole_path(Path(named)) if named else default_home()


def whole_path(path: Path) -> Path:
    """An absolute path, with the home of a user for a leading ``~``.

    Raises:
        ConfigError: there is no such user.
    """
    try:
        return path.expanduser().absolute()
    except RuntimeError as error:
        raise ConfigError(f"the path {str(path)!r} names no user's home: {error}") from error


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
    def daemon(self) -> Path:
        """State of the backend."""
        return self.root / "daemon"

    @property
    def database(self) -> Path:
        """The SQLite file of the backend."""
        return self.daemon / "fog.db"

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
    def logs(self) -> Path:
        """One log file per child process."""
        return self.root / "logs"

    def worker(self, index: int) -> Path:
        """State of the local worker with this number."""
        return self.root / f"worker-{index}"
