"""All metrics of the backend."""

from __future__ import annotations

from typing import Final

from fog_compute.observability.metrics.chat import ChatMetrics
from fog_compute.observability.metrics.http import HttpMetrics
from fog_compute.observability.metrics.network import CircuitMetrics, NetworkMetrics
from fog_compute.observability.metrics.registry import Registry
from fog_compute.observability.metrics.store import StoreMetrics
from fog_compute.observability.metrics.tasks import TaskMetrics

__all__ = ["PARTS_GATHERED", "BackendMetrics"]

PARTS_GATHERED: Final = ("tasks", "workers", "network", "circuits", "chat", "store", "disk")
"""The parts whose gauges are read when somebody asks for them."""


class BackendMetrics:
    """All metrics of one backend, by what they are about."""

    __slots__ = (
        "certificate_not_after",
        "chat",
        "circuits",
        "event_listeners",
        "event_loop_lag",
        "http",
        "network",
        "refresh_failures",
        "registry",
        "service_up",
        "store",
        "tasks",
    )

    def __init__(self) -> None:
        registry = self.registry = Registry()
        self.http: Final = HttpMetrics(registry)
        self.tasks: Final = TaskMetrics(registry)
        self.network: Final = NetworkMetrics(registry)
        self.circuits: Final = CircuitMetrics(registry)
        self.chat: Final = ChatMetrics(registry)
        self.store: Final = StoreMetrics(registry)
        self.service_up: Final = registry.gauge(
            "fog_service_up",
            "1 where a part of the backend runs, else 0.",
            part=(
                "store",
                "betanet",
                "onion_circuit",
                "sessions",
                "workers",
                "fog_coordinator",
                "fog_onion_coordinator",
                "messaging",
            ),
        )
        self.event_listeners: Final = registry.gauge(
            "fog_event_listeners", "Connections that listen to events of tasks."
        )
        self.event_loop_lag: Final = registry.gauge(
            "fog_event_loop_lag_seconds",
            "How late the event loop was at most since the last scrape.",
        )
        self.certificate_not_after: Final = registry.gauge(
            "fog_tls_certificate_not_after_timestamp_seconds",
            "When the certificate of the HTTP interface expires; 0 without TLS.",
        )
        self.refresh_failures: Final = registry.counter(
            "fog_metrics_refresh_failures",
            "Parts whose figures could not be read for a scrape, which then gave those of before.",
            part=PARTS_GATHERED,
        )
