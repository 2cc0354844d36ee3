"""`fog doctor` and the programs of others that watch a fog."""

from __future__ import annotations

from pathlib import Path

import pytest

from fog_compute.cli.doctor import command, watching
from fog_compute.cli.doctor.findings import Verdict
from fog_compute.cli.monitoring.programs import Program
from fog_compute.config import load_settings


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The packages that this machine has."""
    found: set[str] = set()
    monkeypatch.setenv("FOG_HOME", str(tmp_path))

    def find(program: Program) -> Path | None:
        return Path("/usr/bin") / program.package if program.package in found else None

    monkeypatch.setattr(watching, "find", find)
    return found


def test_what_is_not_wanted_is_no_fault_and_how_to_have_it_is_said(installed: set[str]) -> None:
    settings = load_settings(monitoring=False)
    installed.add("prometheus")

    (watchers,) = watching.watchers(settings)
    (exporters,) = watching.exporters(settings)

    assert (watchers.verdict, exporters.verdict) == (Verdict.SKIPPED, Verdict.SKIPPED)
    assert "prometheus-alertmanager" in watchers.found
    assert "install --no-install-recommends prometheus-alertmanager`" in watchers.do
    assert "systemctl disable --now prometheus-node-exporter" in exporters.do


def test_exporter_that_is_lacking_is_a_warning_where_a_fog_is_watched(
    installed: set[str],
) -> None:
    settings = load_settings(monitoring=True, redis_url="redis://127.0.0.1:1/0")
    installed.add("prometheus-node-exporter")

    (exporters,) = watching.exporters(settings)

    assert list(watching.watchers(settings)) == []  # what `fog up` needs says it
    assert exporters.verdict is Verdict.WARNING
    assert exporters.found == "not installed: prometheus-redis-exporter"
    assert exporters.means


def test_what_is_all_there_is_well(installed: set[str]) -> None:
    settings = load_settings(redis_url="redis://127.0.0.1:1/0")
    installed |= {"prometheus", "prometheus-alertmanager"}
    installed |= {"prometheus-node-exporter", "prometheus-redis-exporter"}

    findings = [*watching.watchers(settings), *watching.exporters(settings)]

    assert [finding.verdict for finding in findings] == [Verdict.OK] * 2
    assert {watching.watchers, watching.exporters} <= set(command._EXAMINATIONS)
