"""An upload for which there is no room, as the interface answers it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fog_compute.config import Settings
from tests.unit.fog_compute.server.conftest import running_api

pytestmark = pytest.mark.asyncio


async def test_upload_without_room_is_answered_with_the_limit(tmp_path: Path) -> None:
    """INV-STORE-49."""
    settings = Settings(home=tmp_path, blob_bytes=2**20)
    async with running_api(settings) as api:
        assert (await api.http.post("/api/v1/blobs", content=b"a" * 2**20)).status_code == 201
        refused = await api.http.post("/api/v1/blobs", content=b"b")

    assert refused.status_code == 507
    assert refused.headers["connection"] == "close"
    told = refused.json()
    assert told["type"] == "urn:fog-compute:problem:quota-exceeded"
    assert (told["limit_bytes"], told["used_bytes"]) == (2**20, 2**20)
    assert "take 1.0 MiB of the 1.0 MiB that they may have" in told["detail"]
