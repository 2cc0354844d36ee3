"""A lock is held by one at a time, and looking at it takes it from nobody."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fog_compute import locking
from fog_compute.locking import is_locked, take_lock

HOLD = """
import sys
from pathlib import Path
from fog_compute.locking import take_lock
print(take_lock(Path(sys.argv[1])), flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locking, "PAUSE_S", 0.0)


def test_lock_is_one_process_s_until_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"

    assert not is_locked(path)
    assert not path.exists()
    held = take_lock(path)
    assert held is not None
    assert (path.stat().st_mode & 0o777, is_locked(path), take_lock(path)) == (0o600, True, None)
    os.close(held)
    assert not is_locked(path)


def test_lock_goes_back_when_its_holder_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() != b"None\n"
        assert is_locked(path)
        assert take_lock(path) is None
        holder.kill()
        holder.wait()
        held = take_lock(path)
    assert held is not None
    os.close(held)


def test_lock_that_is_looked_at_for_a_moment_is_taken_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.lock"
    looking = take_lock(path)
    assert looking is not None
    monkeypatch.setattr("time.sleep", lambda _: os.close(looking))

    held = take_lock(path)

    assert held is not None
    os.close(held)


def test_nothing_stays_open_where_there_are_no_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(38, "no locks")

    monkeypatch.setattr("fcntl.flock", refuse)
    before = len(list(Path("/proc/self/fd").iterdir()))

    with pytest.raises(OSError, match="no locks"):
        take_lock(tmp_path / "x.lock")
    with pytest.raises(OSError, match="no locks"):
        is_locked(tmp_path / "x.lock")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
