"""The owner of a fog's processes: a local net, the backend and the workers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import urlsplit

import fog_compute
from fog_compute import spawn
from fog_compute.cli.children import Child, Event
from fog_compute.cli.common import CommandError, note
from fog_compute.cli.log_files import keep_short
from fog_compute.cli.monitoring.foreign import ForeignChild
from fog_compute.cli.monitoring.system import Monitoring
from fog_compute.cli.needs import find_betanet
from fog_compute.cli.state import FogState, Restart
from fog_compute.clock import SystemClock
from fog_compute.config import Settings
from fog_compute.hosts import loopback_like
from fog_compute.lifetime import hangup_counts
from fog_compute.tasks.keyring import KeyringFile
from fog_compute.text import one_line
from fog_compute.writing import write_private

__all__ = ["Report", "Supervisor", "net_times", "settings_environment"]

WORKERS_DRAIN_S: Final = 3.5
BACKEND_DRAIN_S: Final = 4.3
DRAIN_S: Final = 5.0
WATCHERS_DRAIN_S: Final = 6.0
"""Prometheus writes down what it has seen last; its log of that is whole without."""

LOG_EXPORT: Final = "log-export"
"""The child that sends logs to a collector, the last words of the others too."""

_OWNERS: Final = {
    "FOG_DATABASE_URL": "backend",
    "FOG_REDIS_URL": "backend",
    "FOG_ALERT_WEBHOOK": "",  # Alertmanager has it in its file
    "OTEL_EXPORTER_OTLP_HEADERS": LOG_EXPORT,
    "OTEL_EXPORTER_OTLP_LOGS_HEADERS": LOG_EXPORT,
}
"""Variables with a password or a key, by the child whose business it is."""

Report = Callable[[str, dict[str, object]], None]
"""Called with the name of an event and its fields."""


class Supervisor:
    """Starts the parts of a fog in their order, keeps them running, and stops them."""

    def __init__(self, settings: Settings, report: Report, *, asks: bool = True) -> None:
        """Start nothing yet; ``report`` hears of everything that happens.

        Unless it ``asks``, it only lends: there are workers and no backend.
        """
        self._asks: Final = asks
        self._monitoring: Monitoring | None = None
        self._asking: Final[set[asyncio.Task[None]]] = set()
        self._settings: Final = settings
        self._layout: Final = settings.layout
        self._report: Final = report
        self._began: Final = time.monotonic()
        self._port = settings.port
        self._url = ""
        self._children: Final[list[Child]] = []
        self._troubles: Final[dict[str, str]] = {}
        self._restarts: Final[dict[str, Restart]] = {}
        self._clock: Final = SystemClock()
        self._started_at: Final = self._now()
        self._stop: Final = asyncio.Event()
        self._signals = 0
        self._untold = False

    async def run(self) -> None:
        """Run the fog until a signal or until a part cannot run at all.

        Raises:
            CommandError: a part cannot run; the text says which and why. Nothing is left running.
            ConfigError: the keys of the groups cannot be read or made.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal)
        if hangup_counts():
            # A terminal that goes away may send it twice, which is no hurry.
            loop.add_signal_handler(signal.SIGHUP, self._stop.set)
        self._layout.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        KeyringFile(self._layout.groups_file).load_or_make()
        logs = keep_short(self._layout.logs, self._layout.monitoring_logs)
        shortening = asyncio.create_task(logs, name="logs")
        try:
            async with asyncio.TaskGroup() as group:
                starting = group.create_task(self._start(group), name="start")
                group.create_task(self._stop_when_asked(starting), name="stop")
        except* CommandError as errors:
            raise CommandError(str(errors.exceptions[0])) from None
        finally:
            shortening.cancel()
            with contextlib.suppress(OSError):
                self._layout.state_file.unlink(missing_ok=True)

    def _on_signal(self) -> None:
        self._signals += 1
        if self._signals == 1:
            self._stop.set()
            return
        for child in self._children:
            child.kill()

    # Starting

    async def _start(self, group: asyncio.TaskGroup) -> None:
        watchers: list[Child] = []
        if self._settings.monitoring:
            self._monitoring = Monitoring(self._settings, self._on_event)
            watchers = self._monitoring.children()
        if self._settings.otlp_endpoint is not None:
            watchers.append(self._log_export())
        net = [self._net()] if self._settings.net is None else []
        backend = [self._backend()] if self._asks else []
        workers = [self._worker(index) for index in range(self._settings.workers)]
        # The backend loads while the net starts, and joins it when it is there.
        self._launch(group, [*net, *backend, *watchers])
        await self._await_ready(net)
        self._launch(group, workers)
        await self._await_ready([*backend, *workers, *watchers])
        self._report("ready", {"url": self._url, "seconds": self._seconds()})

    def _launch(self, group: asyncio.TaskGroup, children: Sequence[Child]) -> None:
        self._children.extend(children)
        for child in children:
            group.create_task(child.keep(), name=child.name)

    async def _await_ready(self, children: Sequence[Child]) -> None:
        for child in children:
            await child.ready.wait()
            if not child.over.is_set():
                self._report(
                    "started", {"name": child.name, "pid": child.pid, "seconds": self._seconds()}
                )
        self._write_state()

    def _net(self) -> Child:
        settings = self._settings

        def command() -> Sequence[str]:
            return [
                str(find_betanet()),
                *("localnet", "run", "--dir", str(self._layout.net)),
                *("--entry", str(settings.entry_nodes)),
                *("--middle", str(settings.middle_nodes)),
                *("--exit", str(settings.exit_nodes)),
                *("--ip", loopback_like(settings.host)),  # for this machine alone
                *(("--listen", settings.listen) if settings.listen else ()),
                *net_times(settings),
                *(("--exact-metrics",) if settings.exact_metrics else ()),
                *("--die-with-parent", "--json", "--json-logs"),
            ]

        return self._child("net", command)

    def _backend(self) -> Child:
        def command() -> Sequence[str]:
            return [
                *spawn.python_command("fog_compute.server", "--die-with-parent", "--json-logs"),
                *("--home", str(self._settings.home), "--host", self._settings.host),
                *("--port", str(self._port)),
            ]

        return self._child("backend", command)

    def _worker(self, index: int) -> Child:
        first = self._settings.worker_http_port
        http_port = first + index if first else 0

        def command() -> Sequence[str]:
            return [
                *spawn.python_command("fog_compute.worker", "--die-with-parent", "--json-logs"),
                *("--home", str(self._layout.worker(index))),
                *("--net", str(self._settings.bootstrap)),
                *("--groups", str(self._layout.groups_file)),
                *("--slots", str(self._settings.slots)),
                *("--kinds", self._settings.kinds),
                *("--interpreters", str(self._layout.interpreters)),
                *("--memory-mib", str(self._settings.memory_mib)),
                *("--http-port", str(http_port)),
                *("--log-level", self._settings.log_level),
            ]

        return self._child(f"worker-{index}", command)

    def _log_export(self) -> Child:
        def command() -> Sequence[str]:
            return [
                *spawn.python_command("fog_compute.cli.log_export", "--die-with-parent"),
                *("--home", str(self._settings.home)),
            ]

        return self._child(LOG_EXPORT, command)

    def _child(self, name: str, command: Callable[[], Sequence[str]]) -> Child:
        environment = settings_environment(self._settings)
        for variable, owner in _OWNERS.items():
            if name != owner:
                environment.pop(variable, None)
        if name == "backend" and self._monitoring is not None:
            environment.update(self._monitoring.backend_environment)
        return Child(name, command, self._layout.logs / f"{name}.log", environment, self._on_event)

    def _on_event(self, child: Child, event: Event) -> None:
        match event.get("event"):
            case "ready":
                if child.name == "backend":
                    self._url = str(event.get("url", ""))
                    # Started again, it listens where clients know it.
                    self._port = urlsplit(self._url).port or self._port
                if self._monitoring is not None:
                    self._tell(self._monitoring, child.name, event)
                if child.restarts and not self._stop.is_set():
                    self._report("restarted", {"name": child.name, "pid": child.pid})
            case "trouble":
                reason = one_line(str(event.get("reason", "")))
                self._troubles[child.name] = reason
                self._report("trouble", {"name": child.name, "reason": reason})
            case "ended":
                self._troubles.pop(child.name, None)  # the next one says what troubles it
                self._note_end(child.name, event)
        if self._url or not self._asks:
            self._write_state()

    def _tell(self, monitoring: Monitoring, name: str, event: Event) -> None:
        """Let those that watch know where a part is; nodes are parts of the net, which knows."""
        monitoring.heard(name, event)
        if name == "net":
            asking = asyncio.create_task(monitoring.ask_net(), name="targets")
            self._asking.add(asking)
            asking.add_done_callback(self._asking.discard)

    def _note_end(self, name: str, event: Event) -> None:
        """Keep and tell that a part ended by itself, and why; it is started again."""
        reason = one_line(str(event.get("reason", "")))
        count = self._restarts[name]["count"] if name in self._restarts else 0
        self._restarts[name] = Restart(count=count + 1, at=self._now(), why=reason)
        self._report("ended", {"name": name, "code": event.get("code"), "reason": reason})

    # Stopping

    async def _stop_when_asked(self, starting: asyncio.Task[None]) -> None:
        await self._stop.wait()
        self._report("stopping", {})
        starting.cancel()
        # Whoever stops all of a fog's processes at once stops those too whose turn is later.
        for child in self._children:
            child.start_no_more()
        began = time.monotonic()
        net = [child for child in self._children if child.name == "net"]
        backend = [child for child in self._children if child.name == "backend"]
        watchers = [
            child
            for child in self._children
            if isinstance(child, ForeignChild) or child.name == LOG_EXPORT
        ]
        workers = [child for child in self._children if child not in (*net, *backend, *watchers)]
        for group, limit in (
            (workers, WORKERS_DRAIN_S),
            (backend, BACKEND_DRAIN_S),
            (net, DRAIN_S),
            (watchers, WATCHERS_DRAIN_S),
        ):
            await _end(group, began + limit)
        self._report("stopped", {"seconds": round(time.monotonic() - began, 1)})

    def _seconds(self) -> float:
        return round(time.monotonic() - self._began, 1)

    def _now(self) -> str:
        return self._clock.now().isoformat(timespec="seconds")

    def _write_state(self) -> None:
        state: FogState = {
            "pid": os.getpid(),
            "version": fog_compute.__version__,
            "started_at": self._started_at,
            "url": self._url,
            "children": {child.name: child.pid for child in self._children},
            "troubles": {name: reason for name, reason in self._troubles.items() if reason},
            "restarts": self._restarts,
            "database_given": self._settings.database_url is not None,
        }
        if self._monitoring is not None:
            state["monitoring"] = dict(self._monitoring.urls)
        path = self._layout.state_file
        try:
            write_private(path, (json.dumps(state, indent=2) + "\n").encode(), lasting=False)
        except OSError as error:
            if not self._untold:
                note(f"{path} cannot be written ({error.strerror}): `fog status` shows less")
            self._untold = True
        else:
            self._untold = False


async def _end(children: Sequence[Child], deadline: float) -> None:
    """Let children end by themselves until the deadline, then end them."""
    for child in children:
        child.ask_to_stop()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
            for child in children:
                await child.over.wait()
    for child in children:
        child.kill()
        await child.over.wait()


def settings_environment(settings: Settings) -> dict[str, str]:
    """The environment of a child, in which paths are whole."""
    paths = {"FOG_HOME": settings.home, "FOG_NET": settings.net, "FOG_BLOBS": settings.blobs}
    # glibc reserves 64 MiB of addresses for each thread's arena, and whoever has a client for each
    # level has many threads: a limit on addresses (`ulimit -v`) would be used up by nothing.
    arenas = {"MALLOC_ARENA_MAX": os.environ.get("MALLOC_ARENA_MAX", "2")}
    return spawn.child_environment(
        arenas | {name: str(path) for name, path in paths.items() if path is not None}
    )


def net_times(settings: Settings) -> list[str]:
    """The times of the local net as options, where they were chosen; a net keeps its own."""
    times = {
        "--epoch": None if settings.epoch_s is None else round(settings.epoch_s * 1000),
        "--mean-delay": settings.mean_delay_ms,
    }
    return [part for name, ms in times.items() if ms is not None for part in (name, f"{ms}ms")]
