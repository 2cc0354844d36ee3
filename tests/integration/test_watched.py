"""A fog whose own Prometheus watches it, without anything else of the machine's."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from fog_compute.cli.monitoring import programs
from fog_compute.processes import ProcessMark
from tests.integration.fogs import RunningFog, running_fog, until

SCRAPED_S = 60.0
GONE_S = 10.0
SMALL = {
    "FOG_MONITORING": "1",
    "FOG_PROMETHEUS_PORT": "0",
    "FOG_ALERTMANAGER_PORT": "0",
    "FOG_ENTRY_NODES": "1",
    "FOG_MIDDLE_NODES": "1",
    "FOG_EXIT_NODES": "1",
}

pytestmark = pytest.mark.skipif(
    any(programs.find(one) is None for one in (programs.PROMETHEUS, programs.ALERTMANAGER)),
    reason="Prometheus or Alertmanager is missing (Debian: prometheus, prometheus-alertmanager)",
)


def state(fog: RunningFog) -> Any:
    """What the fog says of its processes."""
    return json.loads((fog.home / "fog.json").read_text())


def ask(fog: RunningFog, what: str) -> Any:
    """What Prometheus answers; nothing while it does not."""
    url = state(fog)["monitoring"]["prometheus"]
    try:
        with urllib.request.urlopen(f"{url}/api/v1/{what}", timeout=10) as answer:
            return json.load(answer)["data"]
    except OSError:
        return None


def unwell(fog: RunningFog) -> list[tuple[str, str]]:
    """Which targets are not up, and why; one while Prometheus is away or knows none."""
    found = ask(fog, "targets?state=active")
    targets = [] if found is None else found["activeTargets"]
    targets = targets or [{"health": "away"}]
    return [
        (str(one.get("scrapeUrl")), str(one.get("lastError")))
        for one in targets
        if one["health"] != "up"
    ]


def test_everything_of_a_fog_is_watched_and_nothing_is_left_of_that(tmp_path: Path) -> None:
    with running_fog(tmp_path / "home", environment=SMALL) as fog:
        children = state(fog)["children"]
        expected = {
            *("fog-backend", "fog-worker", "betanet-mixnodes", "betanet-authority"),
            *("prometheus", "alertmanager"),
            *({"host"} if "node-exporter" in children else ()),
        }

        until(lambda: not unwell(fog), SCRAPED_S, lambda: str(unwell(fog)))
        targets = ask(fog, "targets?state=active")["activeTargets"]
        assert {one["labels"]["service"] for one in targets} == expected
        assert sum(one["labels"]["service"] == "betanet-mixnodes" for one in targets) == 3
        groups = ask(fog, "rules")["groups"]
        assert {Path(one["file"]).name for one in groups} >= {"fog.yml", "expected.yml"}
        assert all(rule["health"] != "err" for one in groups for rule in one["rules"])
        (alerting,) = ask(fog, "alertmanagers")["activeAlertmanagers"]
        assert alerting["url"].startswith("http://127.0.0.1:")
        found = fog.json("alerts")
        assert fog.json("status")["alerts"].keys() == {"firing", "pending"}
        assert found["firing"] + found["pending"] == len(found["alerts"])

        os.kill(fog.pid("prometheus"), signal.SIGKILL)
        until(lambda: "prometheus" in state(fog)["restarts"], SCRAPED_S, lambda: "it is not noted")
        until(lambda: ask(fog, "rules") is not None, SCRAPED_S, lambda: "it is not back")

        names = [name for name in children if name not in ("net", "backend", "worker-0")]
        watchers = {name: ProcessMark.of(fog.pid(name)) for name in names}
        fog.kill()
        until(
            lambda: not any(mark is not None and mark.alive() for mark in watchers.values()),
            GONE_S,
            lambda: f"outlives its owner: {watchers}",
        )
        fog.await_gone()
