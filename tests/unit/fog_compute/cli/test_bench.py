"""`fog bench tasks`: what it measures with."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.resources import files

import wasmtime

from fog_compute.cli.bench import _below, _children, _seconds
from fog_compute.tasks.wasm import objection

PACKAGE = files("fog_compute.cli")


def test_the_module_is_its_text_assembled_and_a_worker_can_run_it() -> None:
    echo = (PACKAGE / "echo.wasm").read_bytes()

    assert echo == bytes(wasmtime.wat2wasm((PACKAGE / "echo.wat").read_text()))
    assert objection(echo, len(echo), 65_536) is None


def test_processes_are_found_below_their_owner_with_what_they_used() -> None:
    script = "import os, sys; os.fork() or [os.fork(), print(flush=True)]; sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        for _ in range(2):
            child.stdout.readline()
        below = set(_below(os.getpid(), _children()))
        assert child.pid in below
        assert len(set(_below(child.pid, _children()))) == 2
        child.communicate()

    assert _seconds(os.getpid()) > 0
    assert _seconds(child.pid) == 0
    assert _seconds(None) == 0
