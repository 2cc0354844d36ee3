"""The registry of a process's metrics."""

from __future__ import annotations

import re

import pytest

import fog_compute
from fog_compute.observability.metrics import (
    CONTENT_TYPE,
    BackendMetrics,
    Followed,
    PanelMetrics,
    Registry,
    WorkerMetrics,
)


@pytest.mark.parametrize("process", [BackendMetrics, PanelMetrics, WorkerMetrics])
def test_names_say_whose_metrics_they_are(
    process: type[BackendMetrics | PanelMetrics | WorkerMetrics],
) -> None:
    families = process().registry.families()

    assert all(re.fullmatch(r"(fog|http|process)_[a-z_]+", family.name) for family in families)


def test_series_with_listed_labels_stand_at_zero_from_the_start() -> None:
    """INV-MON-04."""
    registry = Registry()
    ends = registry.counter("fog_ends", "Ends.", how=("well", "badly"), where="any place")
    moves = registry.counter("fog_moves", "Moves.", how=("well", "badly"))
    took = registry.histogram("fog_took_seconds", "Took.", (1, 2), how=("well",))

    text = registry.render().decode()

    assert 'fog_moves_total{how="well"} 0.0' in text
    assert 'fog_moves_total{how="badly"} 0.0' in text
    assert 'fog_took_seconds_count{how="well"} 0.0' in text
    assert "fog_ends_total{" not in text
    ends.labels("well", "here").inc()
    moves.labels("badly").inc(2)
    took.labels("well").observe(1.5)
    assert registry.value("fog_ends_total", how="well", where="here") == 1
    assert registry.value("fog_moves_total", how="badly") == 2
    assert registry.value("fog_took_seconds_bucket", how="well", le="1.0") == 0
    assert registry.value("fog_took_seconds_bucket", how="well", le="2.0") == 1


def test_a_process_tells_of_itself_what_it_runs_and_what_it_takes() -> None:
    registry = Registry()

    assert registry.value("fog_build_info", version=fog_compute.__version__) == 1
    for name in (
        "process_start_time_seconds",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_open_fds",
        "process_max_fds",
    ):
        assert registry.value(name), name


def test_text_is_of_the_format_that_every_server_takes() -> None:
    registry = Registry()
    registry.counter("fog_moves", "Moves.", how=("well",))

    assert CONTENT_TYPE.startswith("text/plain; version=0.0.4")
    assert b"_created" not in registry.render()


def test_a_counter_that_follows_others_never_goes_back() -> None:
    registry = Registry()
    followed = Followed(registry.counter("fog_moves", "Moves.", how=("well", "badly")))
    seen = []
    for count in (3, 5, 5, 2, 4):  # it began anew before the 2
        followed.now(count, "well")
        followed.now(1, "badly")
        seen.append(registry.value("fog_moves_total", how="well"))

    assert seen == [3, 5, 5, 7, 9]
    assert registry.value("fog_moves_total", how="badly") == 1
