"""Metrics of the process that serves the control panel."""

from __future__ import annotations

from typing import Final

from fog_compute.observability.metrics.http import HttpMetrics
from fog_compute.observability.metrics.registry import Registry

__all__ = ["PanelMetrics"]


class PanelMetrics:
    """All metrics of one panel server."""

    __slots__ = ("http", "registry")

    def __init__(self) -> None:
        self.registry: Final = Registry()
        self.http: Final = HttpMetrics(self.registry)
