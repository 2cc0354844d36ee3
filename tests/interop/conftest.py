"""Tests beside programs that nobody here wrote, which `make test-interop` installs and runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.bluez_mock import BluezMock

collect_ignore_glob = [] if "INTEROP_PYTHON" in os.environ else ["test_*.py"]


@pytest.fixture
def bluez(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BluezMock]:
    """A system bus of its own with a mock of BlueZ on it, and two adapters."""
    with BluezMock(tmp_path, Path(os.environ["INTEROP_PYTHON"])) as mock:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", mock.address)
        yield mock
