"""The database under the coordinator: SQLite, and Postgres where a test or the run asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from tests.postgres import PrivatePostgres

from . import scripted

ON_BOTH: Final = ("test_queue", "test_unclear")
"""Modules whose tests run on both databases in every run; with `--postgres` all run on it alone."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Choose the databases of each test."""
    databases = ["sqlite"]
    if metafunc.config.getoption("--postgres"):
        databases = ["postgres"]
    elif metafunc.module.__name__.rpartition(".")[2] in ON_BOTH:
        databases = ["sqlite", "postgres"]
    if databases != ["sqlite"]:
        metafunc.parametrize("database", databases, indirect=True)


@pytest.fixture(autouse=True)
def database(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let `open_fog` open its store in the database of the test's kind."""
    with ExitStack() as stack:
        if getattr(request, "param", "sqlite") == "postgres":
            postgres: PrivatePostgres = request.getfixturevalue("postgres")
            places: dict[Path, str] = {}

            def place(folder: Path) -> str:
                if folder not in places:
                    made = postgres.database() if places else None
                    places[folder] = stack.enter_context(made) if made else postgres.cleared()
                return places[folder]

            monkeypatch.setattr(scripted, "place_in", place)
        yield
