"""The page of benchmarks shows the figures that were measured."""

from __future__ import annotations

import json

from benches import fairness, mesh, mesh_page, page, pair
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


def test_page_of_the_mesh_shows_what_was_measured_and_meets_its_bars() -> None:
    report = json.loads(mesh.RESULTS.read_text("utf-8"))

    assert mesh.PAGE.read_text("utf-8") == mesh_page.render(report)
    for name, svg in mesh_page.plots(report).items():
        assert (mesh.PAGE.parent / name).read_text("utf-8") == svg
    runs = {
        (name, loss): found[loss]
        for name, found in (report["engines"] | report["large"]).items()
        for loss in mesh.LOSSES
        if loss in found
    }
    assert len(runs) >= 28
    for (name, loss), run in runs.items():
        assert run["share"] >= (1.0 if loss == "no loss" else 0.995), (name, loss)
        assert run["max_s"] <= 30, (name, loss)
        assert run["shown_twice"] == 0, (name, loss)
    for loss in ("no loss", "5 % lost, told", "5 % lost in silence"):
        assert report["engines"]["8 nodes on 500 m"][loss]["p99_s"] <= 3, loss
    assert report["busy"]["suppressed"] >= 0.99
    assert report["busy"]["shown_twice"] == 0


def test_a_run_of_two_backends_is_shown_with_what_it_lost() -> None:
    report = {
        "tasks": 7,
        "seconds": 9.5,
        "seed": "s",
        "kills": {"kill one": 2, "kill postgres": 1},
        "lost": {"a": "gone"},
        "wrong": ["b"],
        "leased_twice": [],
        "accepted_twice": ["c"],
        "moves_again_s": {"one": [1.5, 4.25], "postgres": [2.0]},
    }
    found = pair.figures(report)
    assert found == {
        "pair_tasks": 7,
        "pair_lost": 2,
        "pair_leased_twice": 0,
        "pair_accepted_twice": 1,
        "pair_back_s": 4.25,
    }
    assert set(found) <= set(page.MODES)
    origin = {"machine": "m", "measured": "t", "commit": "c", "away_s": 30.0}
    shown = "\n".join(page.pair_run(report | origin | {"figures": found}))
    assert "| 2, 0, 1 |" in shown
    assert "Postgres stayed away for 30 s" in shown
