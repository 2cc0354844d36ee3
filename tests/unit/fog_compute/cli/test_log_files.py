"""Logs of running processes stay short, and nothing of them is lost on the way."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from fog_compute.cli import log_files


def test_log_in_use_goes_on_from_the_start(tmp_path: Path) -> None:
    path = tmp_path / "part.log"
    writer = log_files.open_log(path)
    os.write(writer, b"1" * 50)

    log_files.shorten(path, 50)
    assert path.stat().st_size == 50
    os.write(writer, b"2" * 10)
    log_files.shorten(path, 50)
    os.write(writer, b"3")
    os.close(writer)

    assert path.read_bytes() == b"3"
    assert (tmp_path / "part.log.1").read_bytes() == b"1" * 50 + b"2" * 10


@pytest.mark.asyncio
async def test_all_logs_of_a_folder_are_looked_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_files, "CHECK_S", 0.0)
    monkeypatch.setattr(log_files, "LOG_BYTES", 10)
    (tmp_path / "a.log").mkdir()  # one that cannot be shortened keeps no other from it
    for name in ("b.log", "up.log"):
        (tmp_path / name).write_bytes(b"x" * 11)
    keeping = asyncio.create_task(log_files.keep_short(tmp_path / "none", tmp_path))
    async with asyncio.timeout(30):
        while any((tmp_path / name).stat().st_size for name in ("b.log", "up.log")):
            await asyncio.sleep(0.01)
    keeping.cancel()
    await asyncio.wait({keeping})

    assert (tmp_path / "up.log.1").stat().st_size == 11
