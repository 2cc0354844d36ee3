"""The exporters of others that a fog needs by its settings, and how they reach what they watch.

What has a password goes through the environment: arguments are for everybody on the machine to see.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from fog_compute.cli.monitoring import programs, targets
from fog_compute.cli.monitoring.programs import Program
from fog_compute.config import Settings
from fog_compute.hosts import is_loopback

__all__ = ["Exporter", "wanted"]

COLLECTORS: Final = (
    "cpu",
    "diskstats",
    "filesystem",
    "loadavg",
    "meminfo",
    "netdev",
    "pressure",
    "uname",
)
"""What dashboards and alerts look at, and nothing that goes through all processes or units."""


@dataclass(frozen=True, slots=True)
class Exporter:
    """One of them.

    Attributes:
        program: which.
        job: of its metrics.
        instance: the same for each.
        options: beside the address it listens at.
        environment: beside what all have; there may be a password in it.
    """

    program: Program
    job: str
    instance: str
    options: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


def wanted(settings: Settings) -> list[Exporter]:
    """Those that have something to watch; the machine itself always is."""
    collectors = tuple(f"--collector.{name}" for name in COLLECTORS)
    options = ("--collector.disable-defaults", *collectors)
    found = [Exporter(programs.NODE_EXPORTER, targets.HOST, "host", options)]
    with contextlib.suppress(ValueError):  # a URL that cannot be read: the backend says so
        found += _of_servers(settings)
    return found


def _of_servers(settings: Settings) -> Iterator[Exporter]:
    url = None if settings.database_url is None else settings.database_url.get_secret_value()
    if url is not None and url.startswith("postgres"):
        given = {"DATA_SOURCE_NAME": _for_libpq(url)}
        yield Exporter(programs.POSTGRES_EXPORTER, targets.POSTGRES, "postgres", (), given)
    if settings.redis_url is not None:
        given = _redis_environment(settings.redis_url.get_secret_value())
        yield Exporter(programs.REDIS_EXPORTER, targets.REDIS, "redis", (), given)


def _for_libpq(url: str) -> str:
    """A database's URL for the exporter's driver: what may be left out is said.

    That driver takes TLS for meant where nothing is said of it, and knows no "if the server has
    it". So there is none on this machine, and nothing without it goes to another one.
    """
    from fog_compute.store.dialects.postgres import SOCKETS  # slow

    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    host = parts.hostname or query.get("host")
    if host is None and SOCKETS.is_dir():
        host = query["host"] = str(SOCKETS)
    if query.get("sslmode", "prefer") in {"allow", "prefer"}:
        here = host is None or host.startswith("/") or is_loopback(host)
        query["sslmode"] = "disable" if here else "require"
    return f"postgresql://{parts.netloc}{parts.path}?{urlencode(query)}"


def _redis_environment(url: str) -> dict[str, str]:
    parts = urlsplit(url)
    address = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], "", "", ""))
    found = {"REDIS_ADDR": address}
    if parts.username:
        found["REDIS_USER"] = unquote(parts.username)
    if parts.password:
        found["REDIS_PASSWORD"] = unquote(parts.password)
    return found
