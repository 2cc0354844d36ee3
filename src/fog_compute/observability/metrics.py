"""The one registry of metrics of the Python processes.

No label carries an id of any kind: labels are states, levels, routes as written in the code, and
reasons from closed sets.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

_HTTP_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_TASK_BUCKETS: Final = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 30, 60, 300, 1800, 7200)


class Metrics:
    """All metrics of one process, in a registry of its own."""

    __slots__ = (
        "attempts",
        "chat_deliveries",
        "chat_links",
        "chat_moves",
        "chat_received",
        "chat_refused",
        "chat_transport_up",
        "http_duration",
        "http_requests",
        "net_epoch",
        "net_nodes",
        "registry",
        "runner_kills",
        "service_up",
        "task_duration",
        "tasks",
        "workers",
    )

    def __init__(self) -> None:
        self.registry: Final = CollectorRegistry()
        self.http_requests: Final = Counter(
            "http_requests",
            "HTTP requests answered.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.http_duration: Final = Histogram(
            "http_request_duration_seconds",
            "Time to answer an HTTP request; long-polls are left out.",
            ["method", "route"],
            buckets=_HTTP_BUCKETS,
            registry=self.registry,
        )
        self.tasks: Final = Gauge("fog_tasks", "Tasks by state.", ["state"], registry=self.registry)
        self.task_duration: Final = Histogram(
            "fog_task_duration_seconds",
            "Time from a task's creation to its end.",
            ["privacy", "state"],
            buckets=_TASK_BUCKETS,
            registry=self.registry,
        )
        self.attempts: Final = Counter(
            "fog_attempts", "Attempts that ended, by outcome.", ["outcome"], registry=self.registry
        )
        self.runner_kills: Final = Counter(
            "fog_runner_kills",
            "Runners that were stopped by a limit, as workers reported it.",
            ["reason"],
            registry=self.registry,
        )
        self.workers: Final = Gauge(
            "fog_workers", "Workers by state.", ["state"], registry=self.registry
        )
        self.service_up: Final = Gauge(
            "fog_service_up", "1 where a service runs, else 0.", ["service"], registry=self.registry
        )
        self.net_nodes: Final = Gauge(
            "fog_net_nodes", "Mix nodes in the current view.", ["role"], registry=self.registry
        )
        self.net_epoch: Final = Gauge(
            "fog_net_epoch", "Epoch of the current view of the network.", registry=self.registry
        )

        self.chat_deliveries: Final = Gauge(
            "fog_chat_deliveries",
            "Deliveries of people's messages that are not over, by state.",
            ["state"],
            registry=self.registry,
        )
        self.chat_moves: Final = Counter(
            "fog_chat_moves",
            "Deliveries of people's messages that came to a state, by transport.",
            ["transport", "state"],
            registry=self.registry,
        )
        self.chat_received: Final = Counter(
            "fog_chat_received", "Messages of other people that came.", registry=self.registry
        )
        self.chat_refused: Final = Counter(
            "fog_chat_refused",
            "What was refused of what others sent, by part and reason.",
            ["part", "reason"],
            registry=self.registry,
        )
        self.chat_transport_up: Final = Gauge(
            "fog_chat_transport_up",
            "1 where a transport of people's messages can be used, else 0.",
            ["transport"],
            registry=self.registry,
        )
        self.chat_links: Final = Gauge(
            "fog_chat_links", "Links of the mesh, by kind.", ["kind"], registry=self.registry
        )

    def render(self) -> bytes:
        """Everything in the text format of Prometheus."""
        return generate_latest(self.registry)
