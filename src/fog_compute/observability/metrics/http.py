"""Metrics of an HTTP interface."""

from __future__ import annotations

from typing import Final

from fog_compute.observability.metrics.registry import Registry

__all__ = ["HttpMetrics"]

_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_METHOD: Final = "the method, or `other`"
_ROUTE: Final = "the route as it is written in the code, or `unmatched`"


class HttpMetrics:
    """What was asked, and how it was answered."""

    __slots__ = ("duration", "requests")

    def __init__(self, registry: Registry) -> None:
        self.requests: Final = registry.counter(
            "http_requests",
            "HTTP requests answered.",
            method=_METHOD,
            route=_ROUTE,
            status="the status of the answer",
        )
        self.duration: Final = registry.histogram(
            "http_request_duration_seconds",
            "Time to answer an HTTP request; long-polls are left out.",
            _BUCKETS,
            method=_METHOD,
            route=_ROUTE,
        )
