"""All that watches a fog, as its supervisor has it: which programs, their files, what they ask."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

import msgspec

from fog_compute import spawn
from fog_compute.cli.children import Child, Event
from fog_compute.cli.common import CommandError, note
from fog_compute.cli.monitoring import exporters, programs, targets
from fog_compute.cli.monitoring.config import (
    EXPECTED,
    BackendAccess,
    alertmanager_settings,
    expected_jobs,
    prometheus_settings,
)
from fog_compute.cli.monitoring.exporters import Exporter
from fog_compute.cli.monitoring.foreign import ForeignChild
from fog_compute.cli.monitoring.programs import ALERTMANAGER, PROMETHEUS, Program
from fog_compute.cli.monitoring.targets import Target
from fog_compute.cli.needs import find_betanet
from fog_compute.config import Settings
from fog_compute.hosts import bind, loopback_like, url_of
from fog_compute.reading import read_file
from fog_compute.threads import in_thread
from fog_compute.units import MIB
from fog_compute.writing import write_private

__all__ = ["Monitoring"]

ASK_S: Final = 3.0
READY: Final = "/-/ready"
SETTINGS_BYTES: Final = MIB


class Monitoring:
    """The programs that watch one fog; the supervisor keeps them running."""

    def __init__(self, settings: Settings, on_event: Callable[[Child, Event], None]) -> None:
        """Start and write nothing yet.

        Raises:
            CommandError: a program or the rules are not here, as `check_needs` says as well.
        """
        self._settings: Final = settings
        self._folder: Final = settings.layout.monitoring
        self._logs: Final = settings.layout.monitoring_logs
        self._on_event: Final = on_event
        self._host: Final = loopback_like(settings.host)
        self._exporters: Final = [
            one for one in exporters.wanted(settings) if programs.find(one.program) is not None
        ]
        self._targets: Final[dict[str, Sequence[Target]]] = {}
        self._urls: Final[dict[str, str]] = {}
        self._key_file: Final = settings.metrics_key_file or settings.layout.metrics_key_file
        rules, alerting = map(programs.find_share, (programs.RULES, programs.ALERTING))
        if rules is None or alerting is None:
            raise CommandError(programs.NO_SHARE)
        self._rules: Final = rules
        self._alerting: Final = alerting

    @property
    def urls(self) -> Mapping[str, str]:
        """Where Prometheus and Alertmanager answer, by the names of their processes."""
        named = (PROMETHEUS.part, ALERTMANAGER.part)
        return {name: self._urls[name] for name in named if name in self._urls}

    @property
    def backend_environment(self) -> Mapping[str, str]:
        """What the backend has to find in its environment, to leave a key for Prometheus."""
        return {"FOG_METRICS_KEY_FILE": str(self._key_file)}

    @property
    def jobs(self) -> list[str]:
        """What must be there."""
        settings = self._settings
        net = [targets.NODES, targets.AUTHORITY] if settings.net is None else []
        workers = [targets.WORKER] if settings.workers else []
        watched = [one.job for one in self._exporters]
        return [targets.BACKEND, *workers, *net, *watched, PROMETHEUS.part, ALERTMANAGER.part]

    def children(self) -> list[Child]:
        """Write the files, and give the processes, of which none is started yet.

        Raises:
            CommandError: a file cannot be written.
        """
        try:
            self._write_settings()
        except OSError as error:
            raise CommandError(
                f"the monitoring cannot be set up in {self._folder}: {error.strerror or error}"
            ) from error
        return [self._alertmanager(), self._prometheus(), *map(self._exporter, self._exporters)]

    def heard(self, name: str, event: Event) -> None:
        """Take what a part of the fog says of itself, and let Prometheus know where it is."""
        if name == "backend" and (url := event.get("url")):
            self._set(name, [Target(targets.BACKEND, name, str(url))])
        elif name.startswith("worker-") and (url := event.get("http")):
            self._set(name, [Target(targets.WORKER, name, str(url))])

    async def ask_net(self) -> None:
        """Look where the nodes and the authority of the local net answer."""
        command = ("localnet", "status", "--dir", str(self._settings.layout.net), "--json")
        try:
            report = await in_thread(spawn.output_of, [str(find_betanet()), *command], ASK_S)
            self._set("net", targets.targets_of_net(report))
        except (OSError, msgspec.MsgspecError) as error:
            note(f"the nodes are not watched: the local net does not say where they are ({error})")

    # Files

    def _set(self, part: str, found: Sequence[Target]) -> None:
        if self._targets.get(part) == found:
            return
        self._targets[part] = found
        try:
            self._write_targets()
        except OSError as error:
            note(f"the targets in {self._folder} cannot be written ({error.strerror})")

    def _write_settings(self) -> None:
        settings = self._settings
        for folder in (self._folder / "targets", self._logs):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        access = BackendAccess(self._key_file)
        if settings.tls_cert is not None:
            from fog_compute.cli.monitoring.certificates import name_in  # slow

            name = name_in(settings.tls_cert)
            access = BackendAccess(access.key_file, settings.tls_cert, name)
        webhook = settings.alert_webhook
        told = None if webhook is None else webhook.get_secret_value()
        common = read_file(self._alerting, SETTINGS_BYTES).decode()
        files = {
            "prometheus.yml": prometheus_settings(self._rules, self.jobs, access),
            EXPECTED: expected_jobs(self.jobs),
            "alertmanager.yml": alertmanager_settings(common, told),
        }
        for name, content in files.items():
            write_private(self._folder / name, content, lasting=False)
        self._write_targets()

    def _write_targets(self) -> None:
        found = [target for group in self._targets.values() for target in group]
        for name, content in targets.as_files(self.jobs, found).items():
            write_private(self._folder / "targets" / name, content, lasting=False)

    # Processes

    def _prometheus(self) -> Child:
        def options(url: str) -> list[str]:
            return [
                "--config.file=prometheus.yml",  # whose folder it takes for a part of patterns
                "--storage.tsdb.path=prometheus",
                f"--storage.tsdb.retention.time={self._settings.prometheus_retention_days}d",
                f"--web.external-url={url}",  # or it is the machine's name, to which nobody listens
            ]

        port = self._settings.prometheus_port
        return self._child(PROMETHEUS, PROMETHEUS.part, PROMETHEUS.part, port, options, READY)

    def _alertmanager(self) -> Child:
        def options(url: str) -> list[str]:
            return [
                "--config.file=alertmanager.yml",
                "--storage.path=alertmanager",
                f"--web.external-url={url}",
                "--cluster.listen-address=",  # it is alone, and would listen to all the world
            ]

        port = self._settings.alertmanager_port
        return self._child(ALERTMANAGER, ALERTMANAGER.part, ALERTMANAGER.part, port, options, READY)

    def _exporter(self, one: Exporter) -> Child:
        return self._child(
            one.program, one.job, one.instance, None, lambda _: one.options, "/", one.environment
        )

    def _child(
        self,
        program: Program,
        job: str,
        instance: str,
        port: int | None,
        options: Callable[[str], Sequence[str]],
        page: str,
        environment: Mapping[str, str] | None = None,
    ) -> Child:
        def command() -> Sequence[str]:
            found = programs.find(program)
            if found is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), program.package)
            url = self._place(program, port)
            self._set(program.part, [Target(job, instance, url)])
            return [str(found), f"--web.listen-address={urlsplit(url).netloc}", *options(url)]

        return ForeignChild(
            program.part,
            command,
            self._logs / f"{program.part}.log",
            {**spawn.loader_environment(), **(environment or {})},
            self._on_event,
            folder=self._folder,
            ready_page=lambda: self._urls[program.part] + page,
        )

    def _place(self, program: Program, port: int | None) -> str:
        """Where a program listens from now on; without a port that was chosen, at one that is free.

        That is the former or, as free ones soon belong to a connection, the usual one if it can be.

        Raises:
            OSError: none is free.
        """
        if not port:
            usual = program.port if port is None else 0
            before = urlsplit(self._urls.get(program.part, "")).port or usual
            with self._bound(before) as listener:
                port = int(listener.getsockname()[1])
        self._urls[program.part] = url_of(self._host, port)
        return self._urls[program.part]

    def _bound(self, port: int) -> socket.socket:
        """The port if it is free, or another one."""
        try:
            return bind(self._host, port)
        except OSError:
            return bind(self._host, 0)
