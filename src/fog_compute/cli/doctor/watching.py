"""What `fog doctor` says of the programs of others that watch a fog."""

from __future__ import annotations

from collections.abc import Iterator

from fog_compute.cli.doctor.findings import Finding, Verdict
from fog_compute.cli.monitoring.exporters import wanted
from fog_compute.cli.monitoring.programs import ALERTMANAGER, PROMETHEUS, Program, find, install
from fog_compute.config import Settings

__all__ = ["exporters", "watchers"]


def watchers(settings: Settings) -> Iterator[Finding]:
    """Prometheus and Alertmanager; where they are wanted, `fog up` needs them and says so."""
    lacking = [one for one in (PROMETHEUS, ALERTMANAGER) if find(one) is None]
    if not lacking:
        yield Finding("watchers", Verdict.OK, "`fog up --monitoring` has what it starts")
    elif not settings.monitoring:
        found = f"not installed, which only `fog up --monitoring` needs: {_names(lacking)}"
        yield Finding("watchers", Verdict.SKIPPED, found, do=install(lacking))


def exporters(settings: Settings) -> Iterator[Finding]:
    """Those of the machine, and of a Postgres and a Redis that the fog has."""
    needed = [one.program for one in wanted(settings)]
    lacking = [one for one in needed if find(one) is None]
    if not lacking:
        yield Finding("exporters", Verdict.OK, f"installed: {_names(needed)}")
        return
    verdict = Verdict.WARNING if settings.monitoring else Verdict.SKIPPED
    means = "the dashboards and alerts of what they look at stay empty" * settings.monitoring
    found = f"not installed: {_names(lacking)}"
    yield Finding("exporters", verdict, found, means, install(lacking))


def _names(programs: list[Program]) -> str:
    return ", ".join(program.package for program in programs)
