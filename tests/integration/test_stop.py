"""A fog that is stopped in order, in a container of its own, where it is process 1."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from tests.integration.fogs import FOG, GONE_S, STOP_S, TASK_S, RunningFog, running_fog, until
from tests.integration.test_fog import FOREVER, LONG, module
from tests.namespaces import in_pid_namespace

pytestmark = pytest.mark.timeout(300)

T = TypeVar("T")


def first_process(fog: RunningFog) -> psutil.Process:
    """Process 1 of the fog's container, as it is seen from outside."""
    (first,) = psutil.Process(fog.process.pid).children()
    return first


def told(process: psutil.Process, ask: Callable[[psutil.Process], T], gone: T) -> T:
    """What a process says of itself, which may have been collected since it was listed."""
    try:
        return ask(process)
    except psutil.NoSuchProcess:
        return gone


def part(fog: RunningFog, *words: str) -> psutil.Process:
    """The process of a part, by its command line."""
    (found,) = (
        process
        for process in first_process(fog).children(recursive=True)
        if set(words) <= set(told(process, psutil.Process.cmdline, list[str]()))
    )
    return found


def zombies(fog: RunningFog) -> list[psutil.Process]:
    return [
        process
        for process in first_process(fog).children(recursive=True)
        if told(process, psutil.Process.status, "") == psutil.STATUS_ZOMBIE
    ]


def events_from_the_stop(fog: RunningFog) -> list[str]:
    lines = fog.log.read_text().splitlines()  # for programs, and for people
    events = [json.loads(line)["event"] for line in lines if line.startswith("{")]
    return events[len(events) - events[::-1].index("stopping") - 1 :]


def test_fog_in_a_container_is_kept_clean_and_stops_without_a_failure(tmp_path: Path) -> None:
    """INV-TASK-40, INV-TASK-41."""
    if os.geteuid() != 0 or shutil.which("nsenter") is None:
        pytest.skip("only root may enter the container of another process")
    home = tmp_path / "home"
    with running_fog(home, prefix=in_pid_namespace()) as fog:
        waiting = fog.start("run", module(tmp_path, FOREVER), *LONG, "--attempts", "1")
        until(lambda: bool(fog.json("task", "ls")), TASK_S, lambda: "no task was made")
        task_id = fog.json("task", "ls")[0]["id"]
        fog.await_state(task_id, "running")

        # What is process 7 there is somebody else here.
        refused = fog.run("down")
        assert refused.returncode == 1
        assert "in another container" in refused.stderr

        # A backend that is started again is waited for.
        backend = part(fog, "fog_compute.server")
        backend.send_signal(signal.SIGKILL)
        until(
            lambda: fog.run("status").returncode == 0,
            TASK_S,
            lambda: f"the backend does not come back: {fog.log.read_text()}",
        )
        assert waiting.poll() is None

        # The nodes end with their owner, and then belong to process 1.
        nodes = part(fog, "localnet").children()
        assert len(nodes) > 10
        part(fog, "localnet").send_signal(signal.SIGKILL)
        until(
            lambda: not any(node.is_running() for node in nodes) and not zombies(fog),
            GONE_S,
            lambda: f"nobody collects {zombies(fog)}",
        )

        inside = ("nsenter", "-t", str(first_process(fog).pid), "-p", "-m")
        stopped = subprocess.run(
            [*inside, FOG, "down"],
            env=fog.environment,
            capture_output=True,
            check=False,
            text=True,
            timeout=STOP_S,
        )
        # The container ends with its process 1, and takes along who has just said this.
        assert stopped.stdout.startswith("stopped in "), stopped.stderr
        _, said = waiting.communicate(timeout=STOP_S)
        assert waiting.returncode == 3
        assert f"task {task_id} goes on with the next `fog up`" in said.splitlines()[-1]
        assert fog.process.wait(STOP_S) == 0
        fog.await_gone()
        assert events_from_the_stop(fog) == ["stopping", "stopped"]

    with running_fog(home) as fog:
        fog.await_state(task_id, "running")
        task = fog.json("task", "show", task_id)
        assert task["tries"] == 0
        assert {attempt["state"] for attempt in task["attempts"]} <= {"declined", "running"}

        # Who stops a whole service signals all of its processes, the owner and the others.
        parts = [process for process in fog.processes() if process.pid != fog.process.pid]
        fog.process.send_signal(signal.SIGTERM)
        for process in parts:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGTERM)
        assert fog.process.wait(STOP_S) == 0
        fog.await_gone()
        assert events_from_the_stop(fog) == ["stopping", "stopped"]
