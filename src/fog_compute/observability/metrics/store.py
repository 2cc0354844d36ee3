"""Metrics of the database and the disks below it."""

from __future__ import annotations

from typing import Final

from fog_compute.observability.metrics.registry import Registry

__all__ = ["StoreMetrics"]

_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class StoreMetrics:
    """How the one writer does, and how much room there is."""

    __slots__ = ("commit", "disk_free", "waiting")

    def __init__(self, registry: Registry) -> None:
        self.commit: Final = registry.histogram(
            "fog_store_commit_seconds",
            "Time of a transaction that writes, from its begin to its end, whatever that was.",
            _BUCKETS,
        )
        self.waiting: Final = registry.gauge(
            "fog_store_waiting", "Changes that wait for the writer of the database."
        )
        self.disk_free: Final = registry.gauge(
            "fog_disk_free_bytes",
            "What the backend may still write to the file system of a place; no series for a place"
            " that is in a Postgres database.",
            place=("home", "database", "blobs"),
        )
