"""Metrics of tasks, and of the workers that run them."""

from __future__ import annotations

from typing import Final

from fog_compute.levels import PrivacyLevel
from fog_compute.observability.metrics.registry import Registry

__all__ = ["TaskMetrics"]

_BUCKETS: Final = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 30, 60, 300, 1800, 7200)
_ENDS: Final = ("accepted", "failed", "cancelled")
_STATES: Final = ("queued", "leased", "running", "reported", "retry", *_ENDS)


class TaskMetrics:
    """How tasks and their attempts do."""

    __slots__ = (
        "attempts",
        "duration",
        "oldest_queued",
        "runner_kills",
        "tasks",
        "worker_losses",
        "workers",
    )

    def __init__(self, registry: Registry) -> None:
        self.tasks: Final = registry.gauge(
            "fog_tasks", "Tasks in the database, by state.", state=_STATES
        )
        self.oldest_queued: Final = registry.gauge(
            "fog_task_oldest_queued_seconds",
            "Age of the oldest task that waits for a worker; 0 where none does.",
        )
        self.duration: Final = registry.histogram(
            "fog_task_duration_seconds",
            "Time from a task's creation to its end.",
            _BUCKETS,
            privacy=PrivacyLevel,
            state=_ENDS,
        )
        self.attempts: Final = registry.counter(
            "fog_attempts",
            "Attempts that ended; `expired` is one whose lease ran out, `lost` one that its worker"
            " knew no more.",
            outcome=("accepted", "failed", "lost", "expired", "declined", "cancelled"),
        )
        self.runner_kills: Final = registry.counter(
            "fog_runner_kills",
            "Runners that were stopped by a limit, as workers reported it.",
            reason=("timeout", "out_of_memory", "output_limit", "scratch_limit"),
        )
        self.workers: Final = registry.gauge(
            "fog_workers",
            "Workers of the network's list, at each level that they serve; `lost` is one that did"
            " not answer there.",
            privacy=PrivacyLevel,
            state=("ready", "busy", "lost"),
        )
        self.worker_losses: Final = registry.counter(
            "fog_worker_losses",
            "Workers that stopped answering at a level: each time that one which had answered is"
            " first silent there.",
            privacy=PrivacyLevel,
        )
