"""The page of all panels is made from the dashboards, so that it says what they ask."""

from __future__ import annotations

import dashboards_reference


def test_page_of_dashboards_is_the_one_that_their_files_make() -> None:
    written = dashboards_reference.PAGE.read_text("utf-8")

    assert written == dashboards_reference.page(), "run: python packaging/dashboards_reference.py"
