"""What Prometheus and Alertmanager are told."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fog_compute.cli.monitoring import programs, targets
from fog_compute.cli.monitoring.config import (
    BackendAccess,
    alertmanager_settings,
    expected_jobs,
    prometheus_settings,
)

ROOT = Path(__file__).resolve().parents[5]
JOBS = [*targets.NETWORKS]
KEY = Path("/var/lib/fog/metrics-key")


def tool(name: str) -> str:
    """A program that judges settings; skip where there is none."""
    beside = Path(sys.executable).with_name(name)
    found = shutil.which(name) or (str(beside) if beside.exists() else None)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: prometheus, prometheus-alertmanager)")
    return found


def job_of(document: bytes, name: str) -> dict[str, Any]:
    (job,) = [one for one in json.loads(document)["scrape_configs"] if one["job_name"] == name]
    return dict(job)


def test_prometheus_takes_its_settings(tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "one.yml").write_text('groups: [{name: one, rules: [{record: a, expr: "1"}]}]\n')
    (tmp_path / "key").touch()
    (tmp_path / "certificate.pem").touch()
    access = BackendAccess(tmp_path / "key", tmp_path / "certificate.pem", "fog.example.org")
    (tmp_path / "prometheus.yml").write_bytes(prometheus_settings(rules, JOBS, access))
    (tmp_path / "expected.yml").write_bytes(expected_jobs(JOBS))
    (tmp_path / "targets").mkdir()
    for name, content in targets.as_files(JOBS, []).items():
        (tmp_path / "targets" / name).write_bytes(content)

    done = subprocess.run(
        [tool("promtool"), "check", "config", tmp_path / "prometheus.yml"],
        capture_output=True,
        check=False,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert f"{len(JOBS)} rules found" in done.stdout


@pytest.mark.parametrize("name", ["a [1] {b,c} ?", "a*b", "back\\slash", "\U0001f600 é", "\x7f\ny"])
def test_folders_with_any_name_are_no_patterns(name: str, tmp_path: Path) -> None:
    """INV-MON-32."""
    rules = tmp_path / name / "rules"
    rules.mkdir(parents=True)
    (rules / "one.yml").write_text('groups: [{name: one, rules: [{record: a, expr: "1"}]}]\n')
    (tmp_path / name / "key").touch()
    access = BackendAccess(tmp_path / name / "key")
    (rules.parent / "prometheus.yml").write_bytes(prometheus_settings(rules, ["host"], access))
    (rules.parent / "expected.yml").write_bytes(expected_jobs(["host"]))

    done = subprocess.run(
        [tool("promtool"), "check", "config", "prometheus.yml"],
        cwd=rules.parent,
        capture_output=True,
        check=False,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert "2 rule files found" in done.stdout


def test_only_the_backend_is_shown_a_key() -> None:
    document = prometheus_settings(Path("/rules"), JOBS, BackendAccess(KEY))

    assert job_of(document, "fog-backend") == {
        "job_name": "fog-backend",
        "file_sd_configs": [{"files": ["targets/fog-backend.json"]}],
        "authorization": {"credentials_file": str(KEY)},
    }
    assert document.count(str(KEY).encode()) == 1


def test_backend_under_tls_proves_itself_by_its_certificate() -> None:
    access = BackendAccess(KEY, Path("/tls/chain.pem"), "fog.example.org")

    job = job_of(prometheus_settings(Path("/rules"), JOBS, access), "fog-backend")

    assert job["tls_config"] == {"ca_file": "/tls/chain.pem", "server_name": "fog.example.org"}


@pytest.mark.parametrize("webhook", [None, "https://example.org/a?token='\"%20x:y"])
def test_alertmanager_tells_a_webhook_or_nobody(webhook: str | None, tmp_path: Path) -> None:
    settings = tmp_path / "alertmanager.yml"
    common = (ROOT / "monitoring" / programs.ALERTING).read_text()
    settings.write_bytes(alertmanager_settings(common, webhook))

    added = settings.read_text()[len(common.rstrip()) :]
    assert settings.read_text().startswith(common.rstrip())
    lines = [] if webhook is None else ["webhook_configs:", f"- url: {json.dumps(webhook)}"]
    assert [line.strip() for line in added.strip().splitlines()] == lines
    done = subprocess.run(
        [tool("amtool"), "check-config", settings], capture_output=True, check=False, text=True
    )
    assert done.returncode == 0, done.stderr
