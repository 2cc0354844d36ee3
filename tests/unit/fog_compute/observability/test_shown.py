"""Every metric has a test in which its event is provoked, and it moves."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from fog_compute.observability.metrics import BackendMetrics, PanelMetrics, WorkerMetrics

TESTS = Path(__file__).resolve().parents[1]

SHOWN: dict[str, dict[str, tuple[str, ...]]] = {
    "coordinator/test_metrics.py": {
        "test_each_end_of_an_attempt_and_of_a_task_is_counted_by_its_name": (
            "fog_attempts_total",
            "fog_task_duration_seconds",
            "fog_worker_losses_total",
        ),
        "test_each_limit_that_ends_a_runner_is_counted_by_its_name": ("fog_runner_kills_total",),
    },
    "vpn/test_metrics.py": {
        "test_messages_packets_and_rotations_of_circuits_are_counted_at_their_level": (
            "fog_circuit_packets_total",
            "fog_circuit_rotations_total",
            "fog_circuit_sends_total",
        ),
        "test_each_message_of_a_client_ends_in_one_way": ("fog_messages_total",),
    },
    "store/test_metrics.py": {
        "test_every_transaction_that_writes_is_timed": ("fog_store_commit_seconds",),
        "test_changes_wait_until_somebody_begins_to_write_them": ("fog_store_waiting",),
    },
    "server/test_chat.py": {
        "test_figures_of_messages_name_nobody": (
            "fog_chat_deliveries",
            "fog_chat_links",
            "fog_chat_moves_total",
            "fog_chat_received_total",
            "fog_chat_refused_total",
            "fog_chat_transport_up",
        ),
    },
    "server/test_metrics.py": {
        "test_gauges_are_what_is_so_now": (
            "fog_disk_free_bytes",
            "fog_event_listeners",
            "fog_net_consensus_valid_until_timestamp_seconds",
            "fog_net_edges",
            "fog_net_epoch",
            "fog_net_nodes",
            "fog_net_paths",
            "fog_task_oldest_queued_seconds",
            "fog_tasks",
        ),
        "test_circuits_and_packets_of_each_level_are_told": (
            "fog_circuit_round_trip_seconds",
            "fog_circuits",
            "fog_net_packets_total",
        ),
        "test_a_part_that_fails_costs_its_own_figures_alone": (
            "fog_metrics_refresh_failures_total",
            "fog_service_up",
            "fog_workers",
        ),
        "test_end_of_the_certificate_and_lag_of_the_loop_are_told": (
            "fog_event_loop_lag_seconds",
            "fog_tls_certificate_not_after_timestamp_seconds",
        ),
        "test_requests_are_counted_by_method_route_and_status": (
            "http_request_duration_seconds",
            "http_requests_total",
        ),
    },
    "worker/test_metrics.py": {
        "test_report_is_shown_as_metrics": (
            "fog_worker_attempts_total",
            "fog_worker_cache_bytes",
            "fog_worker_cache_limit_bytes",
            "fog_worker_kept_bytes",
            "fog_worker_kept_limit_bytes",
            "fog_worker_listed",
            "fog_worker_queue_capacity",
            "fog_worker_slots",
            "fog_worker_waiting_attempts",
        ),
        "test_figures_move_with_what_a_worker_does": (
            "fog_worker_run_seconds",
            "fog_worker_runner_kills_total",
        ),
    },
    "observability/test_metrics.py": {
        "test_a_process_tells_of_itself_what_it_runs_and_what_it_takes": (
            "fog_build_info",
            "process_cpu_seconds_total",
            "process_max_fds",
            "process_open_fds",
            "process_resident_memory_bytes",
            "process_start_time_seconds",
            "process_virtual_memory_bytes",
        ),
    },
}
"""In which test of which file each metric is seen to move; its name stands there."""


def exported() -> set[str]:
    made = (BackendMetrics().registry, PanelMetrics().registry, WorkerMetrics().registry)
    return {family.name for registry in made for family in registry.families()}


@cache
def sources_of(file: str) -> dict[str, str]:
    """The source of each test of a file."""
    text = (TESTS / file).read_text("utf-8")
    return {
        node.name: ast.get_source_segment(text, node) or ""
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_every_metric_is_shown_to_move() -> None:
    """INV-MON-16: a new one needs its test, and its place in the table."""
    named = [name for tests in SHOWN.values() for names in tests.values() for name in names]

    assert sorted(named) == sorted(exported())
    for file, tests in SHOWN.items():
        for test, names in tests.items():
            source = sources_of(file).get(test)
            assert source is not None, f"{file} has no {test}"
            unnamed = [name for name in names if name not in source]
            assert unnamed == [], f"{test} in {file} does not look at {unnamed}"
