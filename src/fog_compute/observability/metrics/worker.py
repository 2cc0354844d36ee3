"""Metrics of a worker process."""

from __future__ import annotations

from typing import Final

from fog_compute.levels import PrivacyLevel
from fog_compute.observability.metrics.registry import Followed, Registry

__all__ = ["WorkerMetrics"]

_RUN_BUCKETS: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)
_KILL_REASONS: Final = (
    "timeout",
    "out_of_memory",
    "output_limit",
    "scratch_limit",
    "cancelled",  # the attempt was taken back, or the worker stops
    "unfinished",  # what the task needs is not here
    "not_compiled",  # nothing came of compiling a module early
    "lost",  # it died by itself
    "file_size",  # the machine lets no file grow as large as the task may have it
    "folder",  # what a task left could not be removed
)


class WorkerMetrics:
    """All metrics of one worker; it watches the slots itself (`fog_compute.worker.watcher`)."""

    __slots__ = (
        "attempts",
        "cache",
        "cache_limit",
        "kept",
        "kept_limit",
        "kills",
        "listed",
        "queue_capacity",
        "registry",
        "run_seconds",
        "slots",
        "waiting",
    )

    def __init__(self) -> None:
        registry = self.registry = Registry()
        self.slots: Final = registry.gauge(
            "fog_worker_slots",
            "Slots by what they do; in those that are `unable` no task can run now.",
            state=("running", "free", "unable"),
        )
        self.waiting: Final = registry.gauge(
            "fog_worker_waiting_attempts", "Attempts that wait for a slot."
        )
        self.queue_capacity: Final = registry.gauge(
            "fog_worker_queue_capacity", "Attempts that may wait for a slot."
        )
        self.attempts: Final = Followed(
            registry.counter(
                "fog_worker_attempts",
                "Attempts by what became of them; `turned_away` are requests of strangers.",
                outcome=("taken", "finished", "lost", "returned", "turned_away"),
            )
        )
        self.kills: Final = registry.counter(
            "fog_worker_runner_kills",
            "Runners that were ended before their time.",
            reason=_KILL_REASONS,
        )
        self.listed: Final = registry.gauge(
            "fog_worker_listed",
            "1 where the directory has the offer to run tasks of a level, else 0.",
            privacy=PrivacyLevel,
        )
        self.cache: Final = registry.gauge(
            "fog_worker_cache_bytes", "Modules and inputs that are kept."
        )
        self.cache_limit: Final = registry.gauge(
            "fog_worker_cache_limit_bytes", "What is kept of modules and inputs at most."
        )
        self.kept: Final = registry.gauge(
            "fog_worker_kept_bytes", "Results that wait for their owners."
        )
        self.kept_limit: Final = registry.gauge(
            "fog_worker_kept_limit_bytes", "What is kept of results at most."
        )
        self.run_seconds: Final = registry.histogram(
            "fog_worker_run_seconds",
            "How long tasks ran, those included that ended with a fault.",
            _RUN_BUCKETS,
            kind=("wasm", "python"),
        )

    def killed(self, reason: str) -> None:
        """Count a runner that was ended before its time."""
        self.kills.labels(reason).inc()

    def ran(self, kind: str, seconds: float) -> None:
        """Count a task that ran for so long."""
        self.run_seconds.labels(kind).observe(seconds)
