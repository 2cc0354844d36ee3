"""The page of metrics is what the processes say they export."""

from __future__ import annotations

import metrics_reference


def test_the_page_of_metrics_is_that_of_the_code() -> None:
    written = metrics_reference.PAGE.read_text("utf-8")

    assert written == metrics_reference.page(), "run: python packaging/metrics_reference.py"


def test_the_page_is_read_as_it_was_written() -> None:
    found = metrics_reference.listed(metrics_reference.PAGE.read_text("utf-8"))

    assert found["Backend"]["fog_circuit_sends_total"] == {"privacy", "outcome"}
    assert found["Backend"]["fog_net_edges"] == set()
    for title, families in metrics_reference.python_sections().items():
        assert found[title] == {one.name: set(one.labels) for one in families}
