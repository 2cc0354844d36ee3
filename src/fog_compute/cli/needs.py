"""What a fog needs of its machine: looked at before anything is made, and told all at once.

A part that finds something missing only once it runs would be started again in vain, and say one
thing at a time.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import shlex
import shutil
import socket
import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Final

from fog_compute import spawn
from fog_compute.cli.common import CommandError, note
from fog_compute.cli.disk import disk_problems, nearest
from fog_compute.cli.monitoring.programs import (
    ALERTING,
    ALERTMANAGER,
    NO_SHARE,
    PROMETHEUS,
    RULES,
    find,
    find_share,
    missing,
)
from fog_compute.clock import SystemClock
from fog_compute.config import Settings, variable_of
from fog_compute.errors import ConfigError
from fog_compute.hosts import (
    LOCALHOST,
    LOOPBACK_4,
    LOOPBACK_6,
    bind,
    is_loopback,
    loopback_like,
    to_bind,
)
from fog_compute.kernel import limits_of, set_limits
from fog_compute.layout import RUNNER_DESCRIPTORS
from fog_compute.lifetime import port_problem
from fog_compute.text import counted
from fog_compute.units import MIB, format_bytes

__all__ = ["NEEDS", "POORER", "UnmetNeeds", "check_needs", "find_betanet", "unmet"]

CONNECT_S: Final = 2.0
FILES_LOOKED_AT: Final = 20_000
LOW_SPACE_BYTES: Final = 64 * MIB
LOW_INODES: Final = 1000
FIRST_YEAR: Final = 2026  # before the first version no clock can be right
LAST_YEAR: Final = 2100
MOST_PORT: Final = 65535

FILE_BYTES: Final = 16 * MIB
"""What databases, mailboxes and logs must be able to grow to."""

OWN_PROCESS: Final = Path("/proc/self/exe")

OWN_DESCRIPTORS: Final = 24
CHILD_DESCRIPTORS: Final = 2

# The files whose reader refuses them where others may read them.
_SECRETS: Final = ("token", "edges.json", "epochs.json")
_NO_SECRETS: Final = frozenset({"blobs", "compiled", "logs"})

_DENIED: Final = os.strerror(errno.EACCES)
_SIOCGIFFLAGS: Final = 0x8913
_IFF_UP: Final = 1

Check = Callable[[Settings], Iterator[str]]


class UnmetNeeds(CommandError):
    """The machine is not ready; each text says what is missing and what mends it."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems), kind="unmet-needs")
        self.problems = problems


def check_needs(settings: Settings) -> None:
    """Look at everything that a fog needs; what only makes it poorer is noted.

    Raises:
        UnmetNeeds: a fog cannot run here.
    """
    if problems := unmet(settings):
        raise UnmetNeeds(problems)
    for check in POORER.values():
        for text in check(settings):
            note(text)


def unmet(settings: Settings) -> list[str]:
    """All that is missing, each with what mends it; looked at in parallel."""
    with ThreadPoolExecutor(len(NEEDS)) as pool:
        found = pool.map(lambda check: list(check(settings)), NEEDS.values())
        return [problem for problems in found for problem in problems]


def find_betanet() -> Path:
    """The ``betanet`` binary: beside this Python, or on the search path.

    Raises:
        CommandError: it is nowhere.
    """
    beside = Path(sys.executable).with_name("betanet")
    if beside.is_file():
        return beside
    found = shutil.which("betanet", path=spawn.absolute_elements(os.environ.get("PATH", "")))
    if found is None:
        raise CommandError(
            f"the betanet program is neither in {beside.parent} nor on the PATH:"
            " install the package again, or run `make build`"
        )
    return Path(found)


# Checks: each yields what is wrong


def _net(settings: Settings) -> Iterator[str]:
    """The program that runs the local net, or the way into another."""
    if settings.net is not None:
        if (reason := _unreadable(settings.net)) is not None:
            yield f"the bootstrap file {settings.net} cannot be read ({reason}): check FOG_NET"
        return
    try:
        program = find_betanet()
    except CommandError as error:
        yield str(error)
    else:
        if not os.access(program, os.X_OK):
            yield f"{program} may not be run: run `chmod a+x {shlex.quote(str(program))}`"


def _address(settings: Settings) -> Iterator[str]:
    """Loopback, over which the parts talk; then the address and port of the backend."""
    host = loopback_like(settings.host)
    if (problem := _unreachable(host)) is not None:
        if _loopback_is_down():
            yield "the loopback interface is down: run `ip link set lo up` as root"
        elif _unreachable(other := LOOPBACK_4 if ":" in host else LOOPBACK_6) is None:
            yield f"this machine cannot use {host} ({problem}): set FOG_HOST={other}"
        else:
            yield (
                f"this machine cannot use {host} ({problem}): run `ip address add {host} dev lo`"
                " as root"
            )
        if is_loopback(settings.host):
            return
    try:
        bind(settings.host, settings.port).close()
    except ConfigError as error:
        yield str(error)
    except OSError as error:
        yield port_problem(settings.host, settings.port, error)


def _home(settings: Settings) -> Iterator[str]:
    """A place where files can be made."""
    path = settings.home
    try:
        if path.is_symlink() and not path.exists():
            yield f"the home folder {path} is a link that leads nowhere: remove it, or set FOG_HOME"
            return
        path = nearest(path)
    except OSError as error:
        yield f"the home folder {settings.home} cannot be used ({error.strerror}): set FOG_HOME"
        return
    what = f"the home folder {settings.home} cannot be"
    if not path.is_dir():
        yield f"{what} made: {path} is no folder: set FOG_HOME to another place"
    elif os.statvfs(path).f_flag & os.ST_RDONLY:
        yield f"{what} written: its file system is read-only: set FOG_HOME to another place"
    elif not _usable(path):
        if path != settings.home:
            yield f"{what} made ({path}: {_DENIED}): set FOG_HOME to another place"
        else:
            yield f"{what} written ({_DENIED}): {_mend(path)}"


def _disk(settings: Settings) -> Iterator[str]:
    """A file system that can do what databases and locks ask of it, and has room to begin."""
    try:
        place = nearest(settings.home)
    except OSError:  # said of the home
        return
    if place.is_dir() and _usable(place):
        yield from disk_problems(settings.home)


def _files(settings: Settings) -> Iterator[str]:
    """What is in the home folder: secrets are secret, and everything is this user's."""
    if not _usable(settings.home):
        return  # said as a whole, or not made yet
    exposed: list[Path] = []
    closed: list[Path] = []
    for path in _inside(settings.home):
        mode = path.lstat().st_mode
        if not _usable(path):
            closed.append(path)
        elif mode & 0o077 and (path.suffix == ".key" or path.name in _SECRETS):
            exposed.append(path)
    home = shlex.quote(str(settings.home))
    if exposed:
        yield (
            f"{_named(exposed)} can be read by others and should be secret: run"
            f" `chmod -R go-rwx {home}`"
        )
    if closed:
        yield (f"{_named(closed)} cannot be read and written ({_DENIED}): {_mend(closed[0], home)}")


def _descriptors(settings: Settings) -> Iterator[str]:
    """Enough open files for the pipes to all parts; the own limit is raised where it may be."""
    nodes = settings.entry_nodes + settings.middle_nodes + settings.exit_nodes
    own = OWN_DESCRIPTORS + CHILD_DESCRIPTORS * (nodes + settings.workers)
    needed = max(own, RUNNER_DESCRIPTORS if settings.workers else 0)
    try:
        soft, hard = limits_of(resource.RLIMIT_NOFILE)
    except OSError:  # a sandbox refuses to tell: then it is tried
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        yield f"this shell allows {hard} open files, and {needed} are needed: run `ulimit -n 1024`"
    elif soft < own:
        with contextlib.suppress(OSError):  # then it stays as it is
            set_limits(resource.RLIMIT_NOFILE, own, hard)


def _processes(settings: Settings) -> Iterator[str]:
    """What the kernel tells about processes: who holds a lock, and which program this is."""
    del settings
    if not OWN_PROCESS.exists():
        yield "/proc is not mounted: run `mount -t proc proc /proc` as root"


def _file_size(settings: Settings) -> Iterator[str]:
    """Files that may grow; the own limit is raised where it may be."""
    del settings
    try:
        soft, hard = limits_of(resource.RLIMIT_FSIZE)
    except OSError:  # a sandbox refuses to tell: then it is tried
        return
    if hard != resource.RLIM_INFINITY and hard < FILE_BYTES:
        yield (
            f"this shell lets files grow to {format_bytes(hard)}, and {format_bytes(FILE_BYTES)}"
            " are needed: run `ulimit -f unlimited`"
        )
    elif soft != resource.RLIM_INFINITY and soft < FILE_BYTES:
        with contextlib.suppress(OSError):  # then it stays as it is
            set_limits(resource.RLIMIT_FSIZE, hard, hard)


def _monitoring(settings: Settings) -> Iterator[str]:
    """The programs of others that watch, their ports, and the rules they go by."""
    if not settings.monitoring:
        return
    needed = (PROMETHEUS, ALERTMANAGER)
    if lacking := [program for program in needed if find(program) is None]:
        yield missing(lacking)
    if find_share(RULES) is None or find_share(ALERTING) is None:
        yield NO_SHARE
    host = loopback_like(settings.host)
    for name in ("prometheus_port", "alertmanager_port"):
        yield from _unusable(host, getattr(settings, name), name)


def _worker_ports(settings: Settings) -> Iterator[str]:
    """The ports at which workers show how they are, where they were chosen."""
    if settings.worker_http_port:
        host = to_bind(LOCALHOST)
        for port in range(settings.worker_http_port, settings.worker_http_port + settings.workers):
            yield from _unusable(host, port, "worker_http_port")


def _unusable(host: str, port: int, setting: str) -> Iterator[str]:
    """Why a port that a setting chose cannot be had."""
    do = f"set {variable_of(setting)} to another one, or to 0"
    if port > MOST_PORT:
        yield f"there is no port {port}, which a setting leads to: {do}"
        return
    try:
        bind(host, port).close()
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        why = "is taken by another program" if taken else f"cannot be used ({error.strerror})"
        yield f"port {port} on {host} {why}: {do}"


def _collector(settings: Settings) -> Iterator[str]:
    """What sends logs to a collector, where one is named."""
    if settings.otlp_endpoint is None:
        return
    try:
        import_module("opentelemetry.exporter.otlp.proto.http")
    except ImportError:
        yield (
            "logs are to be sent to a collector (FOG_OTLP_ENDPOINT), for which the extra otlp is"
            " missing: pip install 'fog-compute[otlp]'"
        )


NEEDS: Final[Mapping[str, Check]] = {
    "network": _net,
    "address": _address,
    "home": _home,
    "disk": _disk,
    "files": _files,
    "open files": _descriptors,
    "file size": _file_size,
    "/proc": _processes,
    "worker ports": _worker_ports,
    "monitoring": _monitoring,
    "collector": _collector,
}
"""Every check of what a fog cannot run without, by what it looks at."""


# What only makes it poorer


def _scarce_space(settings: Settings) -> Iterator[str]:
    """Room for what tasks bring and leave."""
    found = os.statvfs(nearest(settings.home))
    free = found.f_bavail * found.f_frsize
    if found.f_blocks and free < LOW_SPACE_BYTES:
        yield (
            f"the disk below {settings.home} has {format_bytes(free)} left, and tasks wait when it"
            " is full: make room, or set FOG_HOME to another place"
        )
    if found.f_files and found.f_favail < LOW_INODES:
        more = counted(found.f_favail, "more file")
        yield f"the disk below {settings.home} takes {more}: delete some"


def _wrong_clock(settings: Settings) -> Iterator[str]:
    """A date that cannot be right."""
    del settings
    now = SystemClock().now()
    if not FIRST_YEAR <= now.year < LAST_YEAR:
        yield (
            f"the clock of this machine shows {now:%Y-%m-%d}: set it, as `timedatectl set-ntp true`"
            " does"
        )


POORER: Final[Mapping[str, Check]] = {"space": _scarce_space, "date": _wrong_clock}
"""Every check of what a fog only does worse without."""


# Looking


def _unreachable(host: str) -> str | None:
    """Why this machine cannot talk to itself at an address; None if it can."""
    try:
        with bind(host, 0) as listener:
            listener.listen(1)
            socket.create_connection(listener.getsockname()[:2], timeout=CONNECT_S).close()
    except OSError as error:
        return error.strerror or str(error)
    return None


def _loopback_is_down() -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                answer = fcntl.ioctl(probe, _SIOCGIFFLAGS, struct.pack("16sH14x", b"lo", 0))
        except OSError:
            continue
        (flags,) = struct.unpack("16xH14x", answer)
        return not flags & _IFF_UP
    return False


def _inside(home: Path) -> Iterator[Path]:
    """Folders and files of a home, but not the many that hold no secret."""
    left = FILES_LOOKED_AT
    for folder, folders, files in os.walk(home):
        folders[:] = [name for name in folders if name not in _NO_SECRETS]
        for name in (*folders, *files):
            path = Path(folder, name)
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                continue
            if not (left := left - 1):
                return
            yield path


def _usable(path: Path) -> bool:
    if not os.access(path, os.R_OK | os.W_OK, effective_ids=True):
        return False  # not to be looked at, perhaps
    return not path.is_dir() or os.access(path, os.X_OK, effective_ids=True)


def _unreadable(path: Path) -> str | None:
    try:
        path.stat()
    except OSError as error:
        return error.strerror
    return None if os.access(path, os.R_OK, effective_ids=True) else _DENIED


def _mend(path: Path, home: str = "") -> str:
    """The command that gives a file back to this user."""
    whole = home or shlex.quote(str(path))
    if (owner := path.lstat().st_uid) != os.geteuid():
        return (
            f"the user {owner} owns it: set FOG_HOME to another place, or, if it is to be yours,"
            f" run `chown -R {os.geteuid()} {whole}` as root"
        )
    return f"run `chmod -R u+rwX {whole}`"


def _named(paths: list[Path]) -> str:
    """The files in words, one of them by name."""
    first, more = str(paths[0]), len(paths) - 1
    match more:
        case 0:
            return first
        case 1:
            return f"{first} and 1 more file"
        case _:
            return f"{first} and {counted(more, 'more file')}"
