"""The page of benchmarks shows the figures that were measured."""

from __future__ import annotations

import json

from benches import fairness, page
from benches.plots import plots


def test_page_and_plots_are_those_of_the_results() -> None:
    reports = page.read()

    assert page.PAGE.read_text("utf-8") == page.render(reports)
    for name, svg in plots(reports).items():
        assert (page.PLOTS / name).read_text("utf-8") == svg


def test_the_newest_run_is_that_of_its_class() -> None:
    latest = json.loads((page.RESULTS / "latest.json").read_text("utf-8"))

    assert page.read()[latest["x25519_path"]] == latest


def test_page_of_fairness_shows_what_was_measured_and_meets_its_bar() -> None:
    report = json.loads(fairness.RESULTS.read_text("utf-8"))

    assert fairness.PAGE.read_text("utf-8") == fairness.render(report)
    assert set(report["results"]) == set(fairness.KINDS)
    for kind, found in fairness.measured(report).items():
        assert found.ratio("acknowledged_per_s") >= 0.9, kind
        assert found.ratio("acknowledged_p99_ms") <= 2, kind
        assert found.beside.honest["lost"] == 0, kind
