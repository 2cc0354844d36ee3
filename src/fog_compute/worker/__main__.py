"""The worker process: ``python -m fog_compute.worker --home DIR --net NET.json --groups FILE``.

It owns its home folder, joins the network with a client of its own for each privacy level, and
serves until it is told to stop.  SIGINT or SIGTERM lets attempts in hand end for a few seconds; a
second one does not.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]  # the current folder, from which nothing is to be imported

import argparse
import asyncio
import contextlib
import os
import secrets
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import msgspec

import betanet
from fog_compute.descriptors import run_program, tell
from fog_compute.errors import ChannelError, ConfigError, FogError
from fog_compute.first import go_below_first_process
from fog_compute.hosts import LOCALHOST, bind, read_host, to_bind, url_of
from fog_compute.layout import WORKER_HOME_BYTES, usable_home, whole_path
from fog_compute.levels import PrivacyLevel
from fog_compute.lifetime import (
    EXIT_UNUSABLE,
    announce,
    die_with_parent,
    keep_files_private,
    port_problem,
    raise_descriptor_limit,
    stop_event,
    undo_inherited_signals,
)
from fog_compute.locking import take_lock
from fog_compute.observability import configure_logging
from fog_compute.observability.metrics import WorkerMetrics
from fog_compute.observability.serving import show_pages
from fog_compute.reading import read_state
from fog_compute.tasks import TaskKind
from fog_compute.tasks.keyring import KeyringFile
from fog_compute.units import MIB
from fog_compute.vpn.betanet import BetanetChannel, open_channel
from fog_compute.vpn.directory import TaskLimits, WorkerOffer
from fog_compute.worker.agent import WorkerAgent
from fog_compute.worker.metrics import pages_of
from fog_compute.worker.publishing import Served
from fog_compute.worker.report import ReportFile
from fog_compute.worker.settings import WorkerSettings
from fog_compute.writing import write_private

DRAIN_S: Final = 2.5  # `fog up` gives a worker a second more to end
MOST_DIGITS: Final = 20
REPORT_EVERY_S: Final = 0.5
OFFER_LIFETIME_PUBLICATIONS: Final = 3  # an offer outlives this many pauses between publications


class WorkerFile(msgspec.Struct, frozen=True):
    """``worker.json`` in the home folder: the names that stay, and what runs now.

    Attributes:
        names: the worker's name at each level.
        pid: its process.
        slots: tasks that it runs at once.
        http: where it shows `/health` and `/metrics`; empty if nowhere.
    """

    names: dict[PrivacyLevel, str]
    pid: int = 0
    slots: int = 0
    http: str = ""


class _Publisher:
    """Puts the worker's offer at one level into the network's list."""

    def __init__(self, channel: BetanetChannel, lifetime_s: float) -> None:
        self._channel = channel
        self._lifetime_s = lifetime_s

    async def publish(self, offer: WorkerOffer) -> None:
        """Publish; see `fog_compute.vpn.directory.WorkerPublisher`."""
        try:
            await self._channel.client.publish_worker(
                name=offer.name,
                kinds=offer.kinds,
                slots=offer.slots,
                memory_bytes=offer.memory_bytes,
                limits=_limits(offer.limits),
                groups=offer.groups,
                lifetime=self._lifetime_s,
            )
        except betanet.BetanetError as err:
            raise ChannelError(f"the directory did not take the offer: {err}") from err


def _limits(limits: TaskLimits | None) -> betanet.WorkerLimits | None:
    if limits is None:
        return None
    return betanet.WorkerLimits(
        int(limits.wall_s * 1000), limits.scratch_bytes, limits.output_bytes
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the worker; return the exit code: 0 stopped, 1 failed, 2 usage, 78 unusable settings."""
    keep_files_private()
    options = _parser().parse_args(arguments)
    undo_inherited_signals()
    go_below_first_process()
    if options.die_with_parent:
        die_with_parent()
    configure_logging(
        service="fog-worker",
        node=options.home.name,
        level=options.log_level,
        json=options.json_logs,
    )
    raise_descriptor_limit()
    try:
        options.home = usable_home(options.home, WORKER_HOME_BYTES)
        options.net, options.groups = whole_path(options.net), whole_path(options.groups)
        with owned(options.home):
            asyncio.run(_serve(options))
    except FogError as err:
        tell("worker", err.message)
        return EXIT_UNUSABLE if isinstance(err, ConfigError) else 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fog_compute.worker", description="Lend this machine to the fog."
    )
    parser.add_argument("--home", type=Path, required=True, help="folder that holds all state")
    parser.add_argument("--net", type=Path, required=True, help="bootstrap file of the mixnet")
    parser.add_argument(
        "--groups",
        type=Path,
        required=True,
        help="file with the keys of the groups that are served, for its owner alone to read",
    )
    parser.add_argument("--slots", type=_whole(1, 64), default=1, help="tasks that run at once")
    parser.add_argument(
        "--queue", type=_whole(0, 4096), default=64, help="attempts that may wait for a slot"
    )
    parser.add_argument(
        "--memory-mib", type=_whole(1, 65536), default=1024, help="memory for one task, MiB"
    )
    parser.add_argument(
        "--kinds",
        type=_kinds,
        default=tuple(TaskKind),
        help="kinds of task to run, with commas between; python only where it is installed",
    )
    parser.add_argument(
        "--interpreters",
        type=Path,
        help="folder in which workers of one owner share the compiled interpreter of scripts",
    )
    parser.add_argument(
        "--http-port",
        type=_whole(0, 65535),
        help="port for /health and /metrics; 0 for any free one, none by default",
    )
    parser.add_argument(
        "--http-host", default=LOCALHOST, help="address to bind for them, by default loopback"
    )
    parser.add_argument(
        "--die-with-parent",
        action="store_true",
        help="end when the parent ends or closes this process's standard input",
    )
    parser.add_argument("--json-logs", action="store_true", help="log as JSON, one object a line")
    parser.add_argument(
        "--log-level", choices=("debug", "info", "warning", "error"), default="info"
    )
    return parser


def _kinds(text: str) -> tuple[str, ...]:
    """Read kinds of task."""
    try:
        return tuple(dict.fromkeys(TaskKind(kind).value for kind in text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"give some of {', '.join(TaskKind)} with commas between"
        ) from None


def _whole(least: int, most: int) -> Callable[[str], int]:
    """Read a whole number within bounds."""

    def read(text: str) -> int:
        number = int(text) if text.isdecimal() and len(text) < MOST_DIGITS else -1
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"give a whole number from {least} to {most}")
        return number

    return read


async def _serve(options: argparse.Namespace) -> None:
    settings = WorkerSettings(
        slots=options.slots,
        queue=options.queue,
        memory_bytes=options.memory_mib * MIB,
        kinds=options.kinds,
        interpreters=None if options.interpreters is None else whole_path(options.interpreters),
    )
    groups = KeyringFile(options.groups)
    groups.load()
    stop = stop_event()
    async with AsyncExitStack() as opened:
        listening = _listening(options, opened)
        channels = await _open_channels(options.home, options.net, opened)
        http = "" if listening is None else url_of(*listening.getsockname()[:2])
        names = write_state(options.home, settings, http)
        metrics = None if listening is None else WorkerMetrics()
        lifetime_s = settings.publish_s * OFFER_LIFETIME_PUBLICATIONS
        agent = WorkerAgent(
            [
                Served(names[level], channel, level, _Publisher(channel, lifetime_s))
                for level, channel in channels.items()
            ],
            options.home,
            keys=groups.current,
            settings=settings,
            on_trouble=lambda reason: announce("trouble", reason=reason),
            watcher=metrics,
        )
        if listening is not None and metrics is not None:
            pages = pages_of(metrics, agent.report)
            await opened.enter_async_context(show_pages(listening, pages))
        beside = (
            asyncio.create_task(_announce_ready(agent, http)),
            asyncio.create_task(_keep_report(agent, options.home, http)),
        )
        try:
            await _run_until(agent, stop, by_owner=options.die_with_parent)
        finally:
            for task in beside:
                task.cancel()


async def _open_channels(
    home: Path, net: Path, opened: AsyncExitStack
) -> dict[PrivacyLevel, BetanetChannel]:
    """Join with a client for each level, which ``opened`` closes.

    Who is asked at PUBLIC shows where that client is, and with it nothing of the others.
    """
    opening = {
        level: asyncio.create_task(
            open_channel(folder=home / "clients" / level.value, bootstrap=net, level=level)
        )
        for level in PrivacyLevel
    }
    try:
        await asyncio.gather(*opening.values())
    finally:
        for task in opening.values():
            task.cancel()
        ended = await asyncio.gather(*opening.values(), return_exceptions=True)
        for channel in ended:
            if isinstance(channel, BetanetChannel):
                opened.push_async_callback(channel.client.close)
    return {level: task.result() for level, task in opening.items()}


def _listening(options: argparse.Namespace, opened: AsyncExitStack) -> socket.socket | None:
    """The socket for pages about the worker, which ``opened`` closes; None if none are wanted.

    Raises:
        ConfigError: the port cannot be used.
    """
    if options.http_port is None:
        return None
    host = to_bind(read_host(options.http_host))
    try:
        return opened.enter_context(bind(host, options.http_port))
    except OSError as error:
        problem = port_problem(host, options.http_port, error, flag="--http-port")
        raise ConfigError(problem) from error


async def _announce_ready(agent: WorkerAgent, http: str) -> None:
    await agent.tried()
    announce("ready", **({"http": http} if http else {}))


async def _keep_report(agent: WorkerAgent, home: Path, http: str) -> None:
    """Write down how the worker stands, and that it lives; where it cannot be, go on."""
    file = ReportFile(home)
    while True:
        report = msgspec.json.encode(msgspec.structs.replace(agent.report(), http=http))
        with contextlib.suppress(OSError):  # the disk's trouble is told by who needs it
            file.tell(report, time.monotonic())
        await asyncio.sleep(REPORT_EVERY_S)


async def _run_until(agent: WorkerAgent, stop: asyncio.Event, *, by_owner: bool) -> None:
    """Serve until told to stop, then let attempts in hand end.

    A second signal ends it at once, unless an owner decides that: who stops a whole service signals
    owner and worker, and then the owner signals the worker as well.
    """
    serving = asyncio.create_task(agent.run())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not serving.done():
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN if by_owner else signal.SIG_DFL)
        await agent.drain(DRAIN_S)
        serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving


@contextlib.contextmanager
def owned(home: Path) -> Iterator[None]:
    """Hold the home folder's lock; two workers on one folder would answer for each other."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = take_lock(home / "worker.lock")
    if lock is None:
        raise ConfigError(f"another worker runs in {home}: stop it, or give another --home")
    try:
        yield
    finally:
        os.close(lock)


def write_state(home: Path, settings: WorkerSettings, http: str = "") -> dict[PrivacyLevel, str]:
    """Write ``worker.json``; return the worker's names, which are drawn once and say nothing.

    None of them tells that another one is of the same worker.
    """
    path = home / "worker.json"
    names: dict[PrivacyLevel, str] = {}
    with contextlib.suppress(FileNotFoundError, msgspec.MsgspecError):
        names = msgspec.json.decode(read_state(path), type=WorkerFile).names
    names = {level: names.get(level) or f"worker-{secrets.token_hex(4)}" for level in PrivacyLevel}
    state = WorkerFile(names=names, pid=os.getpid(), slots=settings.slots, http=http)
    write_private(path, msgspec.json.encode(state))
    return names


if __name__ == "__main__":
    sys.exit(run_program("worker", main))
