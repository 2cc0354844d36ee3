"""A fog in memory, and the Python face connected to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from fog_compute import Fog

from .fakes import FakeFog


@pytest.fixture
def fake(tmp_path: Path) -> FakeFog:
    """A backend in memory."""
    return FakeFog(tmp_path)


@pytest_asyncio.fixture
async def fog(fake: FakeFog) -> AsyncIterator[Fog]:
    """The face, connected to it."""
    async with Fog(fake.place) as connected:
        yield connected
