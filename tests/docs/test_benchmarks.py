"""The page of benchmarks shows the figures that were measured."""

from __future__ import annotations

import json
from pathlib import Path

from benches import page


def test_page_and_plots_are_those_of_the_results(root: Path) -> None:
    report = json.loads((root / "benches" / "results" / "latest.json").read_text("utf-8"))

    assert page.PAGE.read_text("utf-8") == page.render(report)
    for name, svg in page.plots(report).items():
        assert (page.PLOTS / name).read_text("utf-8") == svg
