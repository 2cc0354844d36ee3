"""A worker's page of metrics and its verdict on itself, for who watches it.

Everything is read off the worker when somebody asks. No label carries an id: labels are levels,
kinds of task, and states, outcomes and reasons from closed sets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from fog_compute.observability.metrics import CONTENT_TYPE, add_process
from fog_compute.observability.serving import Page, Shown, as_json
from fog_compute.worker.report import WorkerReport
from fog_compute.worker.tally import RUN_BOUNDS_S, RunTimes, Tally

__all__ = ["pages_of", "reasons_against"]

ANY_LEVEL: Final = "any"


def pages_of(report: Callable[[], WorkerReport], tally: Tally) -> Mapping[str, Page]:
    """``/health`` and ``/metrics`` of a worker that tells ``report`` of itself."""
    registry = CollectorRegistry()
    add_process(registry)
    registry.register(_Worker(report, tally))

    def health() -> Shown:
        reasons = reasons_against(report())
        if reasons:
            told = {"status": "degraded", "reasons": reasons}
            return as_json(told, HTTPStatus.SERVICE_UNAVAILABLE)
        return as_json({"status": "ok", "reasons": []})

    def metrics() -> Shown:
        return Shown(generate_latest(registry), CONTENT_TYPE)

    return {"/health": health, "/metrics": metrics}


def reasons_against(report: WorkerReport) -> list[str]:
    """Say why no task can be run here, one line each; nothing where one can."""
    if not report.able:
        return [report.trouble or "no slot can run tasks yet"]
    if any(listing.listed for listing in report.levels):
        return []
    known = dict.fromkeys(listing.reason for listing in report.levels if listing.reason)
    return list(known) or ["the directory has no offer of this worker yet"]


class _Worker(Collector):
    """Makes metrics of a report."""

    def __init__(self, report: Callable[[], WorkerReport], tally: Tally) -> None:
        self._report: Final = report
        self._tally: Final = tally

    def collect(self) -> Iterator[Metric]:
        """All of them, as they are now."""
        report = self._report()
        running = min(report.running, report.able)
        yield _by(
            "fog_worker_slots",
            "Slots by what they do; those of which none can run tasks now are unable.",
            "state",
            {
                "running": running,
                "free": report.able - running,
                "unable": report.slots - report.able,
            },
        )
        for name, text, value in (
            ("waiting_attempts", "Attempts that wait for a slot.", report.waiting),
            ("queue_capacity", "Attempts that may wait for a slot.", report.queue),
            ("cache_bytes", "Modules and inputs that are kept.", report.cache_bytes),
            ("cache_limit_bytes", "What is kept of them at most.", report.cache_limit),
            ("kept_bytes", "Results that wait for their owners.", report.kept_bytes),
            ("kept_limit_bytes", "What is kept of them at most.", report.kept_limit),
        ):
            yield GaugeMetricFamily(f"fog_worker_{name}", text, value=value)
        yield _by(
            "fog_worker_listed",
            "1 where the directory has the offer for tasks of a level, else 0.",
            "privacy",
            {one.level or ANY_LEVEL: int(one.listed) for one in report.levels},
        )
        counts = report.counts
        yield _by(
            "fog_worker_attempts",
            "Attempts by what became of them; requests of strangers are turned away.",
            "outcome",
            {
                "taken": counts.taken,
                "finished": counts.finished,
                "lost": counts.lost,
                "returned": counts.returned,
                "turned_away": counts.turned_away,
            },
            counter=True,
        )
        yield _by(
            "fog_worker_runner_kills",
            "Runners that were ended before their time, by reason.",
            "reason",
            self._tally.kills,
            counter=True,
        )
        yield _run_seconds(self._tally.runs)


def _by(
    name: str, text: str, label: str, values: Mapping[str, int], *, counter: bool = False
) -> Metric:
    """A metric with one label."""
    family = (CounterMetricFamily if counter else GaugeMetricFamily)(name, text, labels=[label])
    for value, number in values.items():
        family.add_metric([str(value)], number)
    return family


def _run_seconds(runs: Mapping[str, RunTimes]) -> Metric:
    family = HistogramMetricFamily(
        "fog_worker_run_seconds", "How long tasks ran, faults included.", labels=["kind"]
    )
    bounds = [*(str(float(bound)) for bound in RUN_BOUNDS_S), "+Inf"]
    for kind, times in runs.items():
        family.add_metric([kind], list(zip(bounds, times.up_to(), strict=True)), times.total_s)
    return family
