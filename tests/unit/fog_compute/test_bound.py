"""Programs of others: they end with who started them, though they know nothing of that."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fog_compute import bound, spawn
from fog_compute.lifetime import EXIT_UNUSABLE
from fog_compute.processes import ProcessMark

WAIT_S = 30
OWNER = """
import asyncio, os, signal, sys
from fog_compute import spawn

async def main():
    command = spawn.bound_command("/bin/sh", "-c", "echo ready; exec sleep 600")
    child = await spawn.start(command, spawn.child_environment())
    await child.stdout.readline()
    print(child.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def test_program_ends_with_its_owner_however_that_ends() -> None:
    """INV-MON-30."""
    with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE) as owner:
        try:
            assert owner.stdout is not None
            program = ProcessMark.of(int(owner.stdout.readline()))
            assert program is not None
            assert program.alive()
        finally:
            owner.kill()

    deadline = time.monotonic() + WAIT_S
    while program.alive():
        assert time.monotonic() < deadline, "it outlives its owner"


def test_program_of_an_owner_that_is_gone_already_is_not_begun() -> None:
    command = spawn.bound_command("/bin/echo", "begun")
    command[command.index(str(os.getpid()))] = str(os.getppid())

    done = subprocess.run(command, capture_output=True, check=False, timeout=WAIT_S)

    assert (done.returncode, done.stdout) == (os.EX_UNAVAILABLE, b"")


def test_program_runs_in_the_folder_that_is_said(tmp_path: Path) -> None:
    command = spawn.bound_command("/bin/pwd", "-P", folder=str(tmp_path))

    done = subprocess.run(command, capture_output=True, check=False, timeout=WAIT_S)

    assert done.stdout.decode().strip() == str(tmp_path.resolve())


def test_program_that_cannot_be_run_is_named_in_an_event() -> None:
    command = spawn.bound_command("/no/such/program")

    done = subprocess.run(command, capture_output=True, check=False, timeout=WAIT_S)

    assert done.returncode == EXIT_UNUSABLE
    event = json.loads(done.stdout)
    assert event["event"] == "error"
    assert event["message"] == "/no/such/program cannot be run: No such file or directory"


def test_signals_are_as_a_shell_leaves_them() -> None:
    command = spawn.bound_command("/bin/grep", "SigIgn", "/proc/self/status")

    done = subprocess.run(command, capture_output=True, check=True, text=True, timeout=WAIT_S)

    ignored = int(done.stdout.split()[1], 16)
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD):
        assert not ignored & 1 << number - 1, number


def test_nothing_runs_where_the_kernel_refuses_the_tie(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bound, "be_killed_with_parent", lambda: False)
    monkeypatch.setattr(spawn, "become", lambda command: pytest.fail("it was begun"))

    assert bound.main([str(os.getppid()), "/bin/true"]) == EXIT_UNUSABLE
    assert "ties no program" in json.loads(capsys.readouterr().out)["message"]
