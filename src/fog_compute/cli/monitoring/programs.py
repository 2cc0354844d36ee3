"""The programs of others that watch a fog: where they are, and whence they come."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from fog_compute import spawn

__all__ = [
    "ALERTING",
    "ALERTMANAGER",
    "NODE_EXPORTER",
    "NO_SHARE",
    "POSTGRES_EXPORTER",
    "PROMETHEUS",
    "REDIS_EXPORTER",
    "RULES",
    "Program",
    "find",
    "find_share",
    "install",
    "missing",
]


class Program(NamedTuple):
    """One of them.

    Attributes:
        part: the name of the process among those of a fog.
        package: Debian's package, whose program has the same name.
        upstream: what its makers call the program.
        port: where it is usually asked.
    """

    part: str
    package: str
    upstream: str
    port: int


PROMETHEUS: Final = Program("prometheus", "prometheus", "prometheus", 9090)
ALERTMANAGER: Final = Program("alertmanager", "prometheus-alertmanager", "alertmanager", 9093)
NODE_EXPORTER: Final = Program("node-exporter", "prometheus-node-exporter", "node_exporter", 9100)
POSTGRES_EXPORTER: Final = Program(
    "postgres-exporter", "prometheus-postgres-exporter", "postgres_exporter", 9187
)
REDIS_EXPORTER: Final = Program(
    "redis-exporter", "prometheus-redis-exporter", "redis_exporter", 9121
)

NO_SHARE: Final = "the rules of the monitoring are not where they belong: install fog-compute again"

RULES: Final = "prometheus/rules"
ALERTING: Final = "alertmanager/alertmanager.yml"

_SHARE: Final = "share/fog-compute"
_CHECKOUT: Final = Path(__file__).resolve().parents[4] / "monitoring"


def find(program: Program) -> Path | None:
    """A program on the search path, or else beside this Python; None if it is nowhere."""
    path = spawn.absolute_elements(os.environ.get("PATH", ""))
    beside = str(Path(sys.executable).parent) if sys.executable else ""
    for folders in (path, beside):
        for name in (program.package, program.upstream):
            if folders and (found := shutil.which(name, path=folders)) is not None:
                return Path(found)
    return None


def find_share(files: str) -> Path | None:
    """What goes by a path below the monitoring, such as ``prometheus/rules``, if it is here.

    In a checkout that is the folder of the repository; wheels put it below ``share``.
    """
    shares = [sysconfig.get_path("data")]
    shares.append(sysconfig.get_path("data", sysconfig.get_preferred_scheme("user")))
    places = [_CHECKOUT, *(Path(one) / _SHARE for one in shares)]
    return next((found for place in places if (found := place / files).exists()), None)


def missing(lacking: Sequence[Program]) -> str:
    """Say which programs are not here, and what to do."""
    names = " and ".join(program.package for program in lacking)
    are = "is" if len(lacking) == 1 else "are"
    return (
        f"{names} {are} neither on the PATH nor beside this Python: {install(lacking)}; or leave"
        " out --monitoring"
    )


def install(lacking: Sequence[Program]) -> str:
    """Say how programs come here, without starting by themselves."""
    packages = " ".join(program.package for program in lacking)
    them = "it" if len(lacking) == 1 else "them"
    return (
        f"run `apt-get install --no-install-recommends {packages}` as root, then `systemctl disable"
        f" --now {packages}`, as Debian starts {them} for all addresses"
    )
