"""Programs of others below a fog: what becomes of the fog where one cannot run."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from fog_compute.cli import children
from fog_compute.cli.children import Child, Event
from fog_compute.cli.monitoring.foreign import ForeignChild

WAIT_S = 30.0


@pytest.mark.asyncio
async def test_program_that_cannot_run_is_told_of_and_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-MON-33."""
    monkeypatch.setattr(children, "START_TRIES", 2)
    told: list[Event] = []

    def hear(_: Child, event: Event) -> None:
        told.append(event)

    child = ForeignChild(
        "alertmanager",
        lambda: ["/bin/sh", "-c", "echo state of http://u:s3cret@h/x is damaged >&2; exit 3"],
        tmp_path / "alertmanager.log",
        dict(os.environ),
        hear,
        folder=tmp_path,
        ready_page=lambda: "http://127.0.0.1:1/-/ready",
    )
    async with asyncio.timeout(WAIT_S):
        await child.keep()

    assert child.ready.is_set()
    assert child.over.is_set()
    assert [event["event"] for event in told] == ["ended", "trouble"]
    assert str(told[-1]["reason"]).startswith(
        "alertmanager cannot run: state of [address] is damaged (log: "
    )
    assert "s3cret" not in str(told)
