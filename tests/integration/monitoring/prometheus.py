"""A Prometheus and an Alertmanager of the test's own, and who is called when an alert fires."""

from __future__ import annotations

import json
import math
import threading
import urllib.error
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, Self

from tests.integration.monitoring.programs import Program, find, get

WEBHOOK_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Target:
    """What Prometheus knows of one that it scrapes."""

    labels: Mapping[str, str]
    health: str
    trouble: str

    @property
    def name(self) -> str:
        """Its job and its own name."""
        return f"{self.labels.get('job')}/{self.labels.get('instance')}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a query gave: how many series, and how many of their values are numbers."""

    series: int
    numbers: int
    trouble: str = ""

    @property
    def has_data(self) -> bool:
        """Whether there is something to draw."""
        return not self.trouble and self.numbers > 0


class Prometheus(Program):
    """A Prometheus over a configuration."""

    def __init__(self, config: Path, folder: Path) -> None:
        program = find("prometheus")
        super().__init__(
            "prometheus",
            lambda address: [
                program,
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={address}",
                "--web.enable-lifecycle",
                "--log.level=warn",
            ],
            folder / "prometheus.log",
            ready="/-/ready",
        )

    def _api(self, path: str, **parameters: str) -> Any:  # as the API has it
        query = urllib.parse.urlencode(parameters)
        return json.loads(get(f"{self.url}/api/v1/{path}?{query}"))["data"]

    def query(self, expression: str) -> list[Any]:
        """The series of an instant query; a scalar is one without labels.

        Raises:
            OSError: it is no query that can be answered.
        """
        data = self._api("query", query=expression)
        if data["resultType"] in ("scalar", "string"):
            return [{"metric": {}, "value": data["result"]}]
        result: list[Any] = data["result"]
        return result

    def ask(self, expression: str) -> Answer:
        """Whether a query gives data."""
        try:
            series = self.query(expression)
        except urllib.error.HTTPError as error:
            return Answer(0, 0, json.loads(error.read()).get("error", str(error)))
        values = [float(value[1]) for one in series for value in _values(one)]
        return Answer(len(series), sum(not math.isnan(value) for value in values))

    def targets(self) -> list[Target]:
        """All that it scrapes."""
        return [
            Target(one["labels"], one["health"], one["lastError"])
            for one in self._api("targets", state="active")["activeTargets"]
        ]

    def rules(self) -> list[dict[str, Any]]:
        """All alerting rules as they were loaded."""
        groups = self._api("rules", type="alert")["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def firing(self) -> list[dict[str, str]]:
        """The labels of all alerts that fire."""
        return [one["labels"] for one in self._api("alerts")["alerts"] if one["state"] == "firing"]


def _values(series: Mapping[str, Any]) -> list[list[Any]]:
    return [series["value"]] if "value" in series else series.get("values", [])


class Alertmanager(Program):
    """An Alertmanager over a configuration."""

    def __init__(self, config: Path, folder: Path) -> None:
        program = find("prometheus-alertmanager")
        super().__init__(
            "alertmanager",
            lambda address: [
                program,
                f"--config.file={config}",
                f"--storage.path={folder / 'alertmanager'}",
                f"--web.listen-address={address}",
                "--cluster.listen-address=",
                "--log.level=warn",
            ],
            folder / "alertmanager.log",
            ready="/-/ready",
        )


class Webhook:
    """Who is called when an alert fires: keeps what it was told."""

    def __init__(self) -> None:
        """Listen on a free port of loopback."""
        self._told: Final[list[dict[str, Any]]] = []
        self._lock: Final = threading.Lock()
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = min(int(self.headers["content-length"]), WEBHOOK_BYTES)
                webhook._take(json.loads(self.rfile.read(length)))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server: Final = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread: Final = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.url: Final = f"http://127.0.0.1:{self._server.server_address[1]}/"

    def _take(self, notice: Mapping[str, Any]) -> None:
        with self._lock:
            self._told.extend(notice["alerts"])

    def told(self, status: str = "firing") -> list[dict[str, Any]]:
        """All alerts that it was told of, with labels and annotations, in that state."""
        with self._lock:
            return [one for one in self._told if one["status"] == status]

    def __enter__(self) -> Self:
        """Begin to listen."""
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
