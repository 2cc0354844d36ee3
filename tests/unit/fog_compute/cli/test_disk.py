"""What a home's file system must be able to do is tried before a fog makes anything there."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fog_compute.cli.disk import disk_problems

FOG = (sys.executable, "-m", "fog_compute.cli.main")
TIMEOUT_S = 60


def refusing(number: int) -> Callable[..., None]:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


def test_disk_that_can_do_all_is_left_as_it_was(tmp_path: Path) -> None:
    assert list(disk_problems(tmp_path / "new" / "home")) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("module", "call", "number", "what"),
    [
        (fcntl, "flock", errno.ENOLCK, "locks"),
        (fcntl, "lockf", errno.EOPNOTSUPP, "locks of databases"),
        (mmap, "mmap", errno.ENODEV, "shared memory in files"),
        (os, "link", errno.EPERM, "hard links"),
        (os, "fsync", errno.EIO, "writing to the disk"),
        (Path, "replace", errno.EIO, "renaming"),
    ],
)
def test_what_a_file_system_refuses_is_one_line_that_names_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: object,
    call: str,
    number: int,
    what: str,
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(module, call, refusing(number))
        (problem,) = disk_problems(tmp_path / "home")

    assert f"{tmp_path / 'home'} refuses what a fog needs, {what} (" in problem
    assert os.strerror(number) in problem
    assert "FOG_HOME" in problem
    assert list(tmp_path.iterdir()) == []


def test_several_refusals_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        for call in ("flock", "lockf"):
            patched.setattr(fcntl, call, refusing(errno.ENOLCK))
        (problem,) = disk_problems(tmp_path)

    assert "locks, locks of databases (No locks available)" in problem


def test_folder_that_is_closed_is_said_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "TemporaryDirectory", refusing(errno.EROFS))

    assert list(disk_problems(tmp_path)) == []


@pytest.mark.parametrize(
    ("size", "fill", "words"),
    [
        ("size=1500k", "head -c 900k /dev/zero >m/full", "is full, and a fog needs 1.0 MiB"),
        ("size=64m,nr_inodes=4", "touch m/1 m/2 m/3", "takes no more files"),
    ],
)
def test_full_disk_is_told_before_anything_is_made(
    tmp_path: Path, size: str, fill: str, words: str
) -> None:
    command = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-ec")
    script = (
        f'mkdir m; mount -t tmpfs -o {size} none m; {fill}; ls -A m >before; "$@" || :; ls -A m'
    )
    able = f"mkdir tried; mount -t tmpfs -o {size} none tried"
    if (
        shutil.which("unshare") is None
        or subprocess.run(
            [*command, able], cwd=tmp_path, capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("this machine lets nobody mount a small disk")

    done = subprocess.run(
        [*command, script, "sh", *FOG, "up", "--port", "0"],
        capture_output=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "FOG_HOME": str(tmp_path / "m" / "home")},
        text=True,
        timeout=TIMEOUT_S,
    )

    (line,) = done.stderr.splitlines()
    assert words in line
    assert str(tmp_path / "m" / "home") in line
    assert done.stdout == (tmp_path / "before").read_text()
