"""What an operating system gives: versions, limits, memory, clock."""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec
import psutil

import betanet
import fog_compute
from fog_compute import spawn
from fog_compute.cli.common import CommandError
from fog_compute.cli.doctor.findings import Finding, Verdict, of_problem
from fog_compute.cli.needs import NEEDS, POORER, find_betanet
from fog_compute.clock import SystemClock
from fog_compute.config import Settings
from fog_compute.kernel import limits_of
from fog_compute.reading import read_state
from fog_compute.text import one_line
from fog_compute.units import MIB, format_bytes, format_duration

__all__ = ["clock", "memory", "needs", "processes", "versions"]

ASK_S: Final = 5.0
SPARE_MEMORY_BYTES: Final = 512 * MIB
"""What the processes of a small fog take together, without any task."""

SPARE_PROCESSES: Final = 512
"""Threads count as processes do, and each of the nodes, clients and workers has some."""

WORTH_A_WORD_S: Final = 5.0
"""As far as a wall clock may be off before the network speaks of it."""

_NEEDED_FOR: Final[Mapping[str, str]] = {
    "network": "no network can be run or joined",
    "address": "the parts of a fog cannot talk to each other",
    "home": "nothing can be kept",
    "disk": "databases and mailboxes cannot be kept",
    "files": "keys are no secrets, or cannot be read",
    "open files": "parts would fail once many files are open",
    "file size": "databases and logs would end in the middle",
    "/proc": "nobody can tell which process holds the home",
    "worker ports": "workers cannot show how they are, and are not started",
    "monitoring": "nothing can watch the fog",
}


_WITH_PORTS: Final = frozenset({"address", "worker ports", "monitoring"})


def versions() -> Iterator[Finding]:
    """This package, its native core and its program are of one version; Python and kernel."""
    own = fog_compute.__version__
    system = f"Python {platform.python_version()}, Linux {platform.release()} {platform.machine()}"
    yield Finding("versions", Verdict.OK, f"fog-compute {own}, {system}")
    means, do = "packets cannot be made or sent", "install the package again, or run `make build`"
    if betanet.__version__ == own:
        yield Finding("native core", Verdict.OK, f"betanet {own}")
    else:
        found = f"the native core is {betanet.__version__}, and this package {own}"
        yield Finding("native core", Verdict.PROBLEM, found, means, do)
    try:
        said = spawn.output_of([str(find_betanet()), "--version"], ASK_S)
    except CommandError as error:
        yield of_problem("program", str(error), means)
        return
    except OSError as error:
        yield Finding("program", Verdict.PROBLEM, f"betanet: {error.strerror}", means, do)
        return
    found = one_line(said.decode(errors="replace"), 80)
    verdict = Verdict.OK if found.split()[-1:] == [own] else Verdict.PROBLEM
    bad = verdict is Verdict.PROBLEM
    yield Finding("program", verdict, found or "betanet says no version", bad * means, bad * do)


def needs(settings: Settings, *, runs: bool) -> Iterator[Finding]:
    """What `fog up` looks at before it starts; a fog that ``runs`` has its port already."""
    for name, check in NEEDS.items():
        if name in _WITH_PORTS and runs:
            yield Finding(name, Verdict.SKIPPED, "the fog that runs here uses its ports")
            continue
        texts = list(check(settings))
        for text in texts:
            yield of_problem(name, text, _NEEDED_FOR.get(name, ""))
        if not texts:
            yield Finding(name, Verdict.OK, _looked_at(name, settings))
    for name, check in POORER.items():
        for text in check(settings):
            yield of_problem(name, text, "a fog runs, but not for long", Verdict.WARNING)


def _looked_at(name: str, settings: Settings) -> str:
    match name:
        case "network":
            return "a local net" if settings.net is None else f"the network of {settings.net}"
        case "address":
            return f"{settings.host}, port {settings.port or 'any'}"
        case "home":
            return str(settings.home)
        case "open files":
            return _limit(resource.RLIMIT_NOFILE)
        case "file size":
            return _limit(resource.RLIMIT_FSIZE, format_bytes)
        case "worker ports":
            return str(settings.worker_http_port or "any free ones")
        case "monitoring" if not settings.monitoring:
            return "not asked for"
    return "as needed"


def _limit(which: int, shown: Callable[[int], str] = str) -> str:
    try:
        soft, _ = limits_of(which)
    except OSError:
        return "not told by this sandbox"
    return "without limit" if soft == resource.RLIM_INFINITY else f"up to {shown(soft)}"


def processes() -> Iterator[Finding]:
    """How many more processes and threads this user may start."""
    try:
        soft, _ = limits_of(resource.RLIMIT_NPROC)
    except OSError:
        yield Finding("processes", Verdict.SKIPPED, "this sandbox does not tell its limit")
        return
    if soft == resource.RLIM_INFINITY or os.geteuid() == 0:
        yield Finding("processes", Verdict.OK, "without limit")
        return
    used = sum(_threads(process) for process in psutil.process_iter())
    yield _processes(soft - used, soft)


def _processes(left: int, of: int) -> Finding:
    found = f"{max(0, left)} of {of} are left"
    if left >= SPARE_PROCESSES:
        return Finding("processes", Verdict.OK, found)
    means = "parts of a fog may find no thread, and are started again and again"
    return Finding("processes", Verdict.WARNING, found, means, f"run `ulimit -u {of + 4096}`")


def _threads(process: psutil.Process) -> int:
    try:
        return process.num_threads() if process.uids().real == os.getuid() else 0
    except psutil.Error:
        return 0


def memory(settings: Settings) -> Iterator[Finding]:
    """Memory that is free now, and what workers lend of it."""
    free = psutil.virtual_memory().available
    lent = settings.memory_mib * MIB if settings.workers else 0
    yield _memory(free, lent)


def _memory(free: int, lent: int) -> Finding:
    found = f"{format_bytes(free)} are free"
    if free < SPARE_MEMORY_BYTES:
        means = "processes of a fog are killed when it runs out"
        return Finding("memory", Verdict.WARNING, found, means, "close something, or add memory")
    if free < SPARE_MEMORY_BYTES + lent:
        means = f"a task may have {format_bytes(lent)} of it, and would be killed"
        do = f"set FOG_MEMORY_MIB={max(64, (free - SPARE_MEMORY_BYTES) // MIB)}"
        return Finding("memory", Verdict.WARNING, found, means, do)
    return Finding("memory", Verdict.OK, found)


class _Kept(msgspec.Struct):
    """A client's or node's idea of the network's time: what the boot clock lags behind it."""

    boot: str
    ahead_ms: int
    confirmed: bool


def clock(settings: Settings) -> Iterator[Finding]:
    """The wall clock against the time of the network, where one was heard since the last boot."""
    if settings.net is None:  # whose authority goes by this machine's own time since it began
        ahead = _ahead(settings.layout.net.glob("authority/clock.json"), confirmed=False)
    else:
        ahead = _ahead(settings.home.glob("**/clients/*/clock.json"), confirmed=True)
    now = SystemClock()
    heard = None if ahead is None else now.monotonic() * 1000 + ahead
    yield judge_clock(now.now().timestamp() * 1000, heard)


def judge_clock(wall_ms: float, network_ms: float | None) -> Finding:
    """What a wall clock is worth beside the network's time, if that is known."""
    if network_ms is None:
        found = "no network has told its time since this machine was started"
        return Finding("clock", Verdict.SKIPPED, found)
    off_s = (wall_ms - network_ms) / 1000
    side = "ahead of" if off_s > 0 else "behind"
    if abs(off_s) <= WORTH_A_WORD_S:
        return Finding("clock", Verdict.OK, f"within {WORTH_A_WORD_S:g} s of the network's time")
    found = f"{format_duration(round(abs(off_s)))} {side} the network's time"
    means = "networks keep their own time, but tasks and logs are stamped wrongly"
    do = "set it, as `timedatectl set-ntp true` does"
    return Finding("clock", Verdict.WARNING, found, means, do)


def _ahead(kept_in: Iterable[Path], *, confirmed: bool) -> int | None:
    """What the boot clock lags behind the network's, in ms, by the file that was written last."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    newest: tuple[float, int] | None = None
    for path in kept_in:
        try:
            kept = msgspec.json.decode(read_state(path), type=_Kept)
            written = path.stat().st_mtime
        except (OSError, ValueError):
            continue
        if kept.boot.startswith(boot) and (kept.confirmed or not confirmed):
            newest = max(newest or (0.0, 0), (written, kept.ahead_ms))
    return None if newest is None else newest[1]
