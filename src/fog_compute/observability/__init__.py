"""Logs and metrics: one schema for all log lines, one registry for all metrics."""

from __future__ import annotations

from fog_compute.observability.logs import configure_logging, get_logger

__all__ = ["configure_logging", "get_logger"]
