"""A whole fog and all that watches it, each a real process."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fog_compute.levels import PrivacyLevel
from tests.integration.conftest import scripts_folder
from tests.integration.fogs import RunningFog, running_fog, until
from tests.integration.monitoring.bare import bare
from tests.integration.monitoring.programs import READY_S, Program, find
from tests.integration.monitoring.prometheus import Alertmanager, Prometheus, Target, Webhook
from tests.integration.monitoring.scrapes import (
    SECOND,
    Scraped,
    Targets,
    alertmanager_config,
    prometheus_config,
    write,
    write_rules,
)
from tests.postgres import PrivatePostgres
from tests.redis import PrivateRedis
from tests.unit.monitoring.rule_files import alerts

COLLECTORS: Final = ("cpu", "diskstats", "filesystem", "loadavg", "meminfo", "netdev", "uname")

MIDDLES: Final = 4
SLOTS: Final = 4

SETTINGS: Final = {
    "FOG_ENTRY_NODES": "1",
    "FOG_MIDDLE_NODES": str(MIDDLES),
    "FOG_EXIT_NODES": "1",
    "FOG_LEASE_S": "4",
    "FOG_POLL_MAX_S": "1",
    "FOG_REQUEST_TIMEOUT_S": "3",
}

WORDCOUNT: Final = Path(__file__).resolve().parents[3] / "examples" / "wordcount" / "wordcount.wasm"


@dataclass(frozen=True, slots=True)
class Stack:
    """What runs.

    Attributes:
        folder: of the test's own, with all logs.
        fog: net, backend and two workers.
        database_url: of a Postgres server of that fog alone.
        redis: likewise.
        exporters: by their job.
        targets: whom Prometheus scrapes.
        prometheus: with the repository's rules.
        webhook: whom Alertmanager calls.
    """

    folder: Path
    fog: RunningFog
    database_url: str
    redis: PrivateRedis
    exporters: dict[str, Program]
    targets: Targets
    prometheus: Prometheus
    webhook: Webhook

    def down(self) -> list[Target]:
        """Targets that were not scraped well the last time."""
        return [one for one in self.prometheus.targets() if one.health != "up"]

    def submit(self, count: int, level: PrivacyLevel = PrivacyLevel.PRIVATE) -> None:
        """Queue tasks."""
        module = self._ask("/api/v1/blobs", WORDCOUNT.read_bytes(), "application/octet-stream")
        task = {"module": module["sha256"], "privacy": level.value, "wait_for_worker": True}
        self._ask(
            "/api/v1/tasks/batch",
            json.dumps({"tasks": [task] * count}).encode(),
            "application/json",
        )

    def be_somebody(self) -> None:
        """Have keys for messages to people, and send one to whoever is near."""
        self.fog.json("chat", "me")

    def await_no_tasks(self) -> None:
        """Return once no task waits or runs."""
        until(
            lambda: all(task["final"] for task in self._ask("/api/v1/tasks")["tasks"]),
            READY_S,
            lambda: "tasks do not come to their end",
        )

    def _ask(
        self, path: str, body: bytes | None = None, kind: str = "application/json"
    ) -> Any:  # whatever the backend answers
        state = json.loads((self.fog.home / "fog.json").read_text())
        token = (self.fog.home / "daemon" / "token").read_text().strip()
        headers = {"authorization": f"Bearer {token}", "content-type": kind}
        request = urllib.request.Request(state["url"] + path, body, headers)
        with urllib.request.urlopen(request, timeout=READY_S) as answer:
            return json.load(answer)

    def figures(self, alert: str) -> str:
        """What an alert goes by, and all that fires."""
        questions = [one for rule in alerts() if rule.name == alert for one in bare(rule.expr)]
        answers = {question: self.prometheus.query(question) for question in questions}
        return f"{answers}, and what fires is {self.prometheus.firing()}"

    def await_scrapes(self) -> None:
        """Return once every target was scraped, and well."""

        def all_up() -> bool:
            found = self.prometheus.targets()
            return {one.name for one in found} == self.targets.names() and not self.down()

        until(all_up, READY_S, lambda: f"not up: {self.down()}, of {self.targets.names()}")


def postgres_exporter(url: str, log: Path) -> Program:
    """One that looks at a database of a server with a socket."""
    parts = urllib.parse.urlsplit(url)
    socket = urllib.parse.parse_qs(parts.query)["host"][0]
    source = f"user={parts.username} host={socket} dbname={parts.path[1:]} sslmode=disable"
    program = find("prometheus-postgres-exporter")
    return Program(
        "postgres-exporter",
        lambda address: [program, f"--web.listen-address={address}", "--log.level=warn"],
        log,
        environment={"DATA_SOURCE_NAME": source},
    )


def redis_exporter(url: str, log: Path) -> Program:
    """One that looks at a Redis."""
    program = find("prometheus-redis-exporter")
    return Program(
        "redis-exporter",
        lambda address: [program, f"--web.listen-address={address}"],
        log,
        environment={"REDIS_ADDR": url},
    )


def panel(log: Path) -> Program:
    """The server of the control panel."""
    return Program(
        "panel",
        lambda address: [
            *(sys.executable, "-P", "-m", "fog_compute.server.panel"),
            *("--port", address.rpartition(":")[2]),
        ],
        log,
        environment={"PATH": os.defpath},
    )


def node_exporter(log: Path) -> Program:
    """One that looks at this machine."""
    program = find("prometheus-node-exporter")
    return Program(
        "node-exporter",
        lambda address: [
            program,
            f"--web.listen-address={address}",
            "--collector.disable-defaults",
            *(f"--collector.{name}" for name in COLLECTORS),
            "--log.level=warn",
        ],
        log,
    )


def net_targets(net: Path) -> list[Scraped]:
    """The nodes of a local net and its authority."""
    asked = subprocess.run(
        [scripts_folder() / "betanet", "localnet", "status", "--dir", net, "--json"],
        capture_output=True,
        check=True,
    )
    found = []
    for one in json.loads(asked.stdout)["nodes"]:
        role = one["name"].split("-")[0]
        job = "betanet-authority" if role == "authority" else "betanet-mixnodes"
        labels = {} if role == "authority" else {"role": role}
        found.append(Scraped(job, one["name"], one["http"], labels))
    return found


def fog_targets(fog: RunningFog) -> list[Scraped]:
    """All processes of a fog that answer HTTP."""
    state = json.loads((fog.home / "fog.json").read_text())
    found = [Scraped("fog-backend", "backend", urllib.parse.urlsplit(state["url"]).netloc)]
    for name in state["children"]:
        if name.startswith("worker-"):
            worker = json.loads((fog.home / name / "worker.json").read_text())
            found.append(Scraped("fog-worker", name, urllib.parse.urlsplit(worker["http"]).netloc))
    return [*found, *net_targets(fog.home / "net")]


@contextlib.contextmanager
def running_stack(folder: Path, server: PrivatePostgres) -> Iterator[Stack]:
    """Start everything; nothing of it is left afterwards."""
    find("prometheus")  # before anything takes its time
    logs = folder / "logs"
    logs.mkdir()
    with contextlib.ExitStack() as ends:
        redis = PrivateRedis(folder)
        redis.start()
        ends.callback(redis.kill)
        url = ends.enter_context(ends.enter_context(server).database())
        exporters = {
            "postgres": postgres_exporter(url, logs / "postgres-exporter"),
            "redis": redis_exporter(redis.url, logs / "redis-exporter"),
            "host": node_exporter(logs / "node-exporter"),
            "fog-frontend": panel(logs / "panel"),
        }
        for exporter in exporters.values():
            ends.enter_context(exporter)
        key = folder / "metrics-key"
        environment = {
            **SETTINGS,
            "FOG_DATABASE_URL": url,
            "FOG_REDIS_URL": redis.url,
            "FOG_METRICS_KEY_FILE": str(key),
        }
        fog = ends.enter_context(
            running_fog(
                folder / "home",
                "--workers",
                "2",
                "--slots",
                str(SLOTS),
                "--exact-metrics",
                environment=environment,
            )
        )
        webhook = ends.enter_context(Webhook())
        receiver = write(folder, "alertmanager.json", alertmanager_config(webhook.url))
        alertmanager = ends.enter_context(Alertmanager(receiver, logs))
        targets = Targets(folder / "targets")
        keys = {"fog-backend": key, SECOND: folder / "second" / "metrics-key"}
        rules = write_rules(folder / "rules")
        config = prometheus_config(targets, rules, alertmanager.address, keys)
        prometheus = ends.enter_context(Prometheus(write(folder, "prometheus.json", config), logs))
        targets.add(
            *(Scraped(job, job, one.address) for job, one in exporters.items()),
            *fog_targets(fog),
            Scraped("prometheus", "prometheus", prometheus.address),
            Scraped("alertmanager", "alertmanager", alertmanager.address),
        )
        yield Stack(folder, fog, url, redis, exporters, targets, prometheus, webhook)
