"""Settings that every test shares: signals, the length of searches, and what counts as slow."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.integration.clocks import build_shim
from tests.postgres import PostgresMissing, PrivatePostgres, private_postgres

settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile(
    "ci",
    max_examples=200,
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("deep", max_examples=5_000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))


def pytest_configure() -> None:
    """Take Ctrl-C back where the run was started in the background of a shell, which ignores it.

    Programs under test would inherit that, and the tests that interrupt them would wait in vain.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--slow`, which runs what takes minutes, and `--postgres`."""
    parser.addoption("--slow", action="store_true", help="also run the tests that take minutes")
    parser.addoption(
        "--postgres", action="store_true", help="run the tests of the coordinator on Postgres"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the slow tests out unless they were asked for."""
    if config.getoption("--slow"):
        return
    skip = pytest.mark.skip(reason="takes minutes; run with --slow")
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def _mask_of_files() -> Iterator[None]:
    """Give the process its mask of file modes back, which commands that run in it narrow."""
    mask = os.umask(0o022)
    os.umask(mask)
    yield
    os.umask(mask)


@pytest.fixture(scope="session")
def wall_clock_shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library to preload that moves the wall clock by what the file `FAKE_CLOCK` says."""
    library = build_shim(tmp_path_factory.mktemp("shims"))
    if library is None:
        pytest.skip("there is no C compiler to build the library that moves the wall clock")
    return library


@pytest.fixture(scope="session")
def postgres() -> Iterator[PrivatePostgres]:
    """A Postgres of the tests' own, one for all of them."""
    try:
        server = private_postgres()
    except PostgresMissing as missing:
        pytest.skip(str(missing))
    with server:
        yield server


@pytest.fixture
def postgres_url(postgres: PrivatePostgres) -> str:
    """The URL of a Postgres database with the newest schema, nothing in it."""
    return postgres.cleared()


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a new database: a test that has it runs on each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/state/fog.db"
    url: str = request.getfixturevalue("postgres_url")
    return url
