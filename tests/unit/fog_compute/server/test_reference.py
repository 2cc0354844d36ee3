"""The pages of the reference are what the code makes."""

from __future__ import annotations

import re

import http_reference
from fog_compute.server.problem_types import PROBLEMS


def test_the_reference_is_what_the_code_makes() -> None:
    """INV-API-23."""
    stale = [
        path.name
        for path, text in http_reference.pages().items()
        if not path.exists() or path.read_text("utf-8") != text
    ]

    assert stale == [], "run python packaging/http_reference.py"


def test_each_problem_has_a_name_a_status_and_a_title_of_its_own() -> None:
    """INV-API-21."""
    names = [kind.name for kind in PROBLEMS]

    assert sorted(set(names)) == sorted(names)
    assert len({kind.title for kind in PROBLEMS}) == len(names)
    assert names == [kind.name for kind in sorted(PROBLEMS, key=lambda kind: kind.status)]


def test_operations_have_names_for_clients() -> None:
    """INV-API-23."""
    paths = http_reference.openapi()["paths"]
    named = [operation["operationId"] for path in paths.values() for operation in path.values()]
    untold = [
        operation["operationId"]
        for path in paths.values()
        for operation in path.values()
        if not operation.get("description") or not operation.get("tags")
    ]

    assert sorted(set(named)) == sorted(named)
    assert [name for name in named if not re.fullmatch("[a-z]+([A-Z][a-z]+)+", name)] == []
    assert untold == []
