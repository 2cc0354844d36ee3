"""Who holds a home folder, told apart: nobody, a process that can be named, somebody else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fog_compute.cli.client import Backend
from fog_compute.client.lock import Free, HeldBy, HeldByUnknown, HomeLock
from fog_compute.client.places import Home
from fog_compute.errors import HomeUnusable, NotReady
from fog_compute.layout import HomeLayout
from fog_compute.processes import ProcessMark
from tests.namespaces import in_pid_namespace
from tests.unit.fog_compute.cli.backends import announced

WAIT_S = 60
# Process 2 of a container holds the home until the input ends.
HOLDS = """
import os, sys
from pathlib import Path
from fog_compute.client.lock import HomeLock
from fog_compute.layout import HomeLayout
if not os.fork():
    assert os.getpid() == 2
    assert HomeLock(HomeLayout(Path(sys.argv[1]))).take()
    print("held", flush=True)
    sys.stdin.read()
    os._exit(0)
os.wait()
"""
# Another container, where process 2 is somebody else.
STOPS = """
import subprocess, sys
decoy = subprocess.Popen(["sleep", "1000"])
assert decoy.pid == 2
done = subprocess.run(
    [sys.executable, "-m", "fog_compute.cli.main", sys.argv[1]], stderr=subprocess.PIPE, text=True
)
alive = decoy.poll() is None
decoy.kill()
print(done.returncode, alive, done.stderr)
"""
# Root reads everything; this is what it gives up, as every other user.
WITHOUT_RIGHTS = """
import ctypes, os, sys
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2
if os.geteuid() == 0:
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        assert ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0
os.execv(sys.executable, [sys.executable, "-m", "fog_compute.cli.main", *sys.argv[1:]])
"""


def mark() -> ProcessMark:
    own = ProcessMark.of_this_process()
    assert own is not None
    return own


def holder(home: Path) -> object:
    return HomeLock(HomeLayout(home)).holder()


def test_free_and_held_are_told_apart(tmp_path: Path) -> None:
    assert holder(tmp_path / "missing") == Free()
    lock = HomeLock(HomeLayout(tmp_path))
    assert lock.take()
    assert holder(tmp_path) == HeldBy(mark())
    assert not HomeLock(HomeLayout(tmp_path)).take()
    lock.give_back()
    assert holder(tmp_path) == Free()


@pytest.mark.parametrize(
    "text",
    [
        *["", "0", "-1", "1", "garbage", "[" * 500, "[]", "{}", "\0" * 90],
        pytest.param(str(os.getpid()), id="own"),
    ],
)
def test_damaged_lock_file_names_no_process(tmp_path: Path, text: str) -> None:
    lock = HomeLock(HomeLayout(tmp_path))
    assert lock.take()
    (tmp_path / "fog.lock").write_text(text)

    assert isinstance(holder(tmp_path), HeldByUnknown)


def test_mark_of_a_process_that_is_gone_names_nobody(tmp_path: Path) -> None:
    lock = HomeLock(HomeLayout(tmp_path))
    assert lock.take()
    gone = {**mark().as_json(), "started": 1}
    (tmp_path / "fog.lock").write_text(json.dumps(gone))

    found = holder(tmp_path)

    assert isinstance(found, HeldByUnknown)
    assert str(os.getpid()) not in found.where


def test_fog_whose_process_cannot_be_named_is_not_called_gone(tmp_path: Path) -> None:
    lock = HomeLock(HomeLayout(tmp_path))
    assert lock.take()
    (tmp_path / "fog.lock").write_text("")

    with pytest.raises(NotReady, match="its backend does not answer yet"):
        Backend(Home(HomeLayout(tmp_path)))


@contextmanager
def held_elsewhere(home: Path) -> Iterator[None]:
    with subprocess.Popen(
        in_pid_namespace(sys.executable, "-c", HOLDS, str(home)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield
        process.stdin.close()
        assert process.wait(WAIT_S) == 0


def test_process_of_another_container_is_never_signalled(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path):
        done = subprocess.run(
            in_pid_namespace(sys.executable, "-c", STOPS, "down"),
            env={**os.environ, "FOG_HOME": str(tmp_path)},
            capture_output=True,
            check=False,
            text=True,
            timeout=WAIT_S,
        )
        assert holder(tmp_path) == HeldByUnknown("process 2 in another container")

    code, alive, *line = done.stdout.split(maxsplit=2)
    assert (code, alive) == ("1", "True"), done.stderr
    assert f"the fog in {tmp_path} is process 2 in another container" in line[0]
    assert "stop it where it was started" in line[0]
    assert "kill" not in line[0]


def run_without_rights(home: Path, command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_RIGHTS, command],
        env={**os.environ, "FOG_HOME": str(home), "FOG_PORT": "0"},
        capture_output=True,
        check=False,
        text=True,
        timeout=WAIT_S,
    )


@pytest.mark.parametrize(
    ("closed", "command"),
    [
        *((".", command) for command in ("status", "down", "up")),
        *(("fog.lock", command) for command in ("status", "down", "up")),
        ("daemon/server.json", "status"),
        ("daemon/token", "status"),
    ],
)
def test_home_that_may_not_be_read_is_not_called_empty(
    closed: str, command: str, tmp_path: Path
) -> None:
    lock = HomeLock(HomeLayout(tmp_path))
    assert lock.take()
    with announced(tmp_path, "http://127.0.0.1:1"):
        (tmp_path / "daemon" / "token").chmod(0o600)
        mode = (tmp_path / closed).stat().st_mode
        (tmp_path / closed).chmod(0)
        try:
            done = run_without_rights(tmp_path, command)
        finally:
            (tmp_path / closed).chmod(mode)

    assert done.returncode == 1, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert "Permission denied" in done.stderr
    assert str(tmp_path / closed) in done.stderr
    assert "no fog is running" not in done.stderr


@pytest.mark.parametrize(
    ("command", "advice"), [("up", ": set FOG_HOME"), ("status", ""), ("down", "")]
)
def test_home_behind_a_closed_folder_is_not_called_empty(
    command: str, advice: str, tmp_path: Path
) -> None:
    home = tmp_path / "closed" / "home"
    home.mkdir(parents=True)
    (tmp_path / "closed").chmod(0)
    try:
        done = run_without_rights(home, command)
    finally:
        (tmp_path / "closed").chmod(0o700)

    assert done.returncode == 1, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert str(home) in done.stderr
    assert "Permission denied" in done.stderr
    assert advice in done.stderr


def test_unusable_lock_is_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(HomeUnusable, match=r"fog\.lock cannot be read: Not a directory"):
        holder(tmp_path / "file")
