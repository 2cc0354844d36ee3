"""The page of all settings is made from them, so that none is missing and no default is stale."""

from __future__ import annotations

import settings_reference


def test_page_of_settings_is_the_one_that_the_code_makes() -> None:
    written = settings_reference.PAGE.read_text("utf-8")

    assert written == settings_reference.page(), "run: python packaging/settings_reference.py"
