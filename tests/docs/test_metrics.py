"""The page of metrics is what the processes say they export."""

from __future__ import annotations

import metrics_reference

KNOWN = {
    "direction",
    "kind",
    "method",
    "outcome",
    "part",
    "place",
    "privacy",
    "queue",
    "reason",
    "route",
    "state",
    "status",
    "transport",
    "version",
}
"""All labels that there are. None is an id, and none of a new name comes in unseen."""


def test_the_page_of_metrics_is_that_of_the_code() -> None:
    written = metrics_reference.PAGE.read_text("utf-8")

    assert written == metrics_reference.page(), "run: python packaging/metrics_reference.py"


def test_the_page_is_read_as_it_was_written() -> None:
    found = metrics_reference.listed(metrics_reference.PAGE.read_text("utf-8"))

    assert found["Backend"]["fog_circuit_sends_total"] == {"privacy", "outcome"}
    assert found["Backend"]["fog_net_edges"] == set()
    code = {**metrics_reference.python_sections(), **metrics_reference.rust_sections()}
    assert found == {
        title: {one.name: set(one.labels) for one in families} for title, families in code.items()
    }


def test_no_label_of_any_process_is_an_id_or_one_of_a_target() -> None:
    """INV-MON-03; Prometheus would rename the five that a target has."""
    found = metrics_reference.listed(metrics_reference.PAGE.read_text("utf-8"))
    labels = {label for names in found.values() for each in names.values() for label in each}

    assert labels == KNOWN
    assert not labels & {"service", "network", "instance", "job", "role"}
