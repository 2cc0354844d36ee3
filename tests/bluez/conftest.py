"""Tests that run in a guest with a real BlueZ, see `guest.py`; nowhere else."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

if TYPE_CHECKING:
    from tests.bluez.machine import Machine

collect_ignore_glob = [] if "FOG_BLUEZ_GUEST" in os.environ else ["test_*.py"]


@pytest.fixture(scope="session")
def bus() -> Iterator[None]:
    """The guest's system bus."""
    command = ["dbus-daemon", "--system", "--nofork", "--nopidfile", "--print-address=1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as daemon:
        assert daemon.stdout is not None
        assert daemon.stdout.readline()  # it listens
        yield
        daemon.kill()


@pytest_asyncio.fixture
async def machine(bus: None, tmp_path: Path) -> AsyncIterator[Machine]:
    """A machine with an adapter that is switched on, and BlueZ."""
    from tests.bluez.machine import Machine

    async with Machine(tmp_path) as made:
        await made.plug(0)
        made.begin()
        await made.ready(0)
        yield made
    print((tmp_path / "bluetoothd.log").read_text("utf-8", "replace")[-4_000:])  # noqa: T201
