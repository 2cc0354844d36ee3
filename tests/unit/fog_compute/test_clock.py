"""The clock of a process does not jump, whatever happens to the wall clock meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fog_compute.clock import SystemClock

_LOOKS = """
import pathlib, sys, time
from fog_compute.clock import SystemClock

clock = SystemClock()
def look():
    print(clock.monotonic(), clock.now().timestamp(), clock.monotonic(), time.time())
look()
pathlib.Path(sys.argv[1]).write_text(sys.argv[2])
look()
"""


def test_the_clock_is_the_wall_clock_at_the_start_and_counts_suspensions() -> None:
    clock = SystemClock()

    assert abs(datetime.now(UTC) - clock.now()) < timedelta(minutes=5)
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= clock.monotonic() <= time.clock_gettime(time.CLOCK_BOOTTIME)
    assert clock.boot == SystemClock().boot != ""


_OUT_OF_FILES = """
import resource
from fog_compute.clock import SystemClock
resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
print(SystemClock().boot)
"""


def test_a_process_without_open_files_left_still_knows_its_boot() -> None:
    told = subprocess.run(
        [sys.executable, "-c", _OUT_OF_FILES],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert told.stdout.strip() == SystemClock().boot != ""


@pytest.mark.parametrize("jump", [-30 * 86400, -3600, 3600, 30 * 86400])
def test_a_jump_of_the_wall_clock_moves_no_time_within_the_process(
    jump: int, wall_clock_shim: Path, tmp_path: Path
) -> None:
    """INV-TASK-35."""
    told = subprocess.run(
        [sys.executable, "-c", _LOOKS, tmp_path / "offset", str(jump)],
        env=os.environ
        | {"LD_PRELOAD": str(wall_clock_shim), "FAKE_CLOCK": str(tmp_path / "offset")},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    (early, now, late, wall), (early_after, now_after, late_after, wall_after) = (
        map(float, line.split()) for line in told.stdout.splitlines()
    )

    assert abs((wall_after - wall) - jump) < 600  # the shim did move it
    # Each `now` lies between two looks at the other clock.
    assert early_after - late - 0.001 < now_after - now < late_after - early + 0.001
