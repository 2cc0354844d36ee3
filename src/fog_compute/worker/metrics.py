"""What a worker shows of itself to who watches it: ``/health`` and ``/metrics``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus

import msgspec

from fog_compute.observability.metrics import CONTENT_TYPE, WorkerMetrics
from fog_compute.observability.serving import Page, Shown, as_json
from fog_compute.worker.report import WorkerReport

__all__ = ["pages_of", "reasons_against"]


def pages_of(metrics: WorkerMetrics, report: Callable[[], WorkerReport]) -> Mapping[str, Page]:
    """The pages of a worker that tells ``report`` of itself, and whose slots ``metrics`` watch."""

    def show_health() -> Shown:
        reasons = reasons_against(report())
        told = {"status": "degraded" if reasons else "ok", "reasons": reasons}
        return as_json(told, HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK)

    def show_metrics() -> Shown:
        _take_note(metrics, report())
        return Shown(metrics.registry.render(), CONTENT_TYPE)

    return {"/health": show_health, "/metrics": show_metrics}


def reasons_against(report: WorkerReport) -> list[str]:
    """Say why no task can be run here, one line each; nothing where one can."""
    if not report.able:
        return [report.trouble or "no slot can run tasks yet"]
    if any(listing.listed for listing in report.levels):
        return []
    known = dict.fromkeys(listing.reason for listing in report.levels if listing.reason)
    return list(known) or ["the directory has no offer of this worker yet"]


def _take_note(metrics: WorkerMetrics, report: WorkerReport) -> None:
    """Set the gauges, and let the counters follow."""
    running = min(report.running, report.able)
    metrics.slots.labels("running").set(running)
    metrics.slots.labels("free").set(report.able - running)
    metrics.slots.labels("unable").set(report.slots - report.able)
    metrics.waiting.set(report.waiting)
    metrics.queue_capacity.set(report.queue)
    metrics.cache.set(report.cache_bytes)
    metrics.cache_limit.set(report.cache_limit)
    metrics.kept.set(report.kept_bytes)
    metrics.kept_limit.set(report.kept_limit)
    for listing in report.levels:
        if listing.level is not None:
            metrics.listed.labels(listing.level).set(listing.listed)
    for outcome, count in msgspec.structs.asdict(report.counts).items():
        metrics.attempts.now(count, outcome)
