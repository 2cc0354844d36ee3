"""What is asked of a Prometheus, and what its answer is taken for."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fog_compute.cli.common import CommandError
from fog_compute.cli.monitoring.asking import ask_alerts, counts_of


def alert(name: str, state: str, severity: str, **labels: str) -> dict[str, object]:
    return {
        "labels": {"alertname": name, "severity": severity, **labels},
        "annotations": {"summary": f"{name}\nis", "runbook_url": "https://example.org/a.md"},
        "state": state,
        "activeAt": "2026-06-01T12:00:00Z",
        "value": "1e+00",
    }


@contextmanager
def prometheus(body: bytes) -> Iterator[str]:
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/api/v1/alerts" else 404)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_gravest_alerts_come_first_and_each_is_one_line() -> None:
    told = [
        alert("Soon", "pending", "critical"),
        alert("Small", "firing", "info"),
        alert("Odd", "firing", "of its own"),
        alert("Grave", "firing", "critical", service="fog-worker", instance="worker-3"),
        alert("Bad", "firing", "warning"),
    ]

    with prometheus(json.dumps({"status": "success", "data": {"alerts": told}}).encode()) as url:
        found = ask_alerts(url)

    assert [one.name for one in found] == ["Grave", "Bad", "Small", "Odd", "Soon"]
    assert (found[0].service, found[0].instance) == ("fog-worker", "worker-3")
    assert (found[0].summary, found[0].description) == ("Grave is", "")
    assert counts_of(found) == {"firing": 4, "pending": 1}


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"status": "error", "data": {}}'])
def test_what_is_no_prometheus_is_told(body: bytes) -> None:
    with prometheus(body) as url, pytest.raises(CommandError, match="is no Prometheus"):
        ask_alerts(url)


def test_prometheus_that_is_away_is_told() -> None:
    with prometheus(b"") as url:
        pass

    with pytest.raises(CommandError, match=f"{url} does not answer"):
        ask_alerts(url)
