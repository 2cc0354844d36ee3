"""The metrics of the Python processes: each process has one registry, made of groups.

No label carries an id of any kind: labels are states, levels, routes as written in the code, and
reasons from closed sets.
"""

from fog_compute.observability.metrics.backend import PARTS_GATHERED, BackendMetrics
from fog_compute.observability.metrics.chat import ChatMetrics
from fog_compute.observability.metrics.http import HttpMetrics
from fog_compute.observability.metrics.network import CircuitMetrics, NetworkMetrics
from fog_compute.observability.metrics.panel import PanelMetrics
from fog_compute.observability.metrics.registry import (
    CONTENT_TYPE,
    Family,
    Followed,
    Registry,
    families_of,
)
from fog_compute.observability.metrics.store import StoreMetrics
from fog_compute.observability.metrics.tasks import TaskMetrics
from fog_compute.observability.metrics.worker import WorkerMetrics

__all__ = [
    "CONTENT_TYPE",
    "PARTS_GATHERED",
    "BackendMetrics",
    "ChatMetrics",
    "CircuitMetrics",
    "Family",
    "Followed",
    "HttpMetrics",
    "NetworkMetrics",
    "PanelMetrics",
    "Registry",
    "StoreMetrics",
    "TaskMetrics",
    "WorkerMetrics",
    "families_of",
]
