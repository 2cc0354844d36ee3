"""A whole fog of real processes in a folder of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import psutil

from tests.logged import misfits

START_S = 90.0
TASK_S = 100.0
STOP_S = 20.0
GONE_S = 10.0
PAUSE_S = 0.05

FOG = Path(sys.executable).with_name("fog")


TRAP = """open({marker!r}, "w").close()
raise RuntimeError("a module of the current folder was executed")
"""


def plant_modules(folder: Path, marker: Path) -> None:
    """Fill a folder with modules that are named as those a fog imports, and tell if one runs."""
    folder.mkdir()
    for name in {*sys.stdlib_module_names, *packages_distributions()}:
        (folder / f"{name}.py").write_text(TRAP.format(marker=str(marker)))
    (folder / "betanet").write_text("#!/bin/false\n")
    (folder / "betanet").chmod(0o755)


class RunningFog:
    """One ``fog up`` and everything below it, started in a folder of a stranger's modules."""

    def __init__(
        self,
        home: Path,
        *flags: str,
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.home = home
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("FOG_")},
            "FOG_HOME": str(home),
            "NO_COLOR": "1",
            "FOG_CHAT_BLE": "0",  # no test touches the machine's adapter
            "FOG_KINDS": "wasm",  # each home would compile the interpreter of scripts anew
            **(environment or {}),
        }
        self.log = home.with_suffix(".log")
        self.strangers = home.with_suffix(".strangers")
        self.executed = home.with_suffix(".executed")
        if not self.strangers.exists():
            plant_modules(self.strangers, self.executed)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*prefix, FOG, "up", "--json", "--port", "0", "--mean-delay", "5ms", *flags],
                cwd=self.strangers,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            until(self._ready, START_S, lambda: f"the fog is not ready: {self.log.read_text()}")
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise

    def _ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return (
            (self.home / "fog.json").exists()
            and self.run("status").returncode == 0
            and bool(self.json("worker", "ls"))
        )

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """Begin a `fog` command."""
        return subprocess.Popen(
            [FOG, *map(str, arguments)],
            cwd=self.strangers,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a `fog` command to its end."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=TASK_S)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def json(self, *arguments: str | Path) -> Any:  # whatever the command prints
        """Run a `fog` command with ``--json`` and read what it prints."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def pid(self, child: str) -> int:
        """The process of a child of ``fog up``; one that is being started again is waited for."""
        pids: list[int] = []

        def runs() -> bool:
            found = json.loads((self.home / "fog.json").read_text())["children"][child]
            pids.extend([] if found is None else [found])
            return bool(pids)

        until(runs, START_S, lambda: f"{child} does not run again")
        return pids[-1]

    def node_pid(self, node: str) -> int:
        """The process of a mix node."""
        return int(json.loads((self.home / "net" / "localnet.json").read_text())["children"][node])

    def runner_pid(self) -> int:
        """The process in which the worker runs modules."""
        return int(psutil.Process(self.pid("worker-0")).children()[0].pid)

    def await_state(self, task_id: str, *states: str) -> str:
        """Wait until a task is in one of these states."""
        seen: list[str] = []

        def reached() -> bool:
            task = self.json("task", "show", task_id)
            seen.append(task["state"])
            assert not task["final"] or task["state"] in states, task
            return bool(task["state"] in states)

        until(reached, TASK_S, lambda: f"the task never was {states}: {seen[-1:]}")
        return seen[-1]

    def processes(self) -> list[psutil.Process]:
        """Every living process that belongs to this fog, by its environment or command line.

        Runners have no environment, and a folder of the fog as an argument.
        """
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                ours = process.environ().get("FOG_HOME") == str(self.home) or any(
                    Path(argument).is_relative_to(self.home) for argument in process.cmdline()
                )
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def kill(self) -> None:
        """End ``fog up`` as a power cut would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Stop as Ctrl-C does; return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(STOP_S)

    def await_gone(self) -> None:
        """Wait until no process of this fog is left."""
        until(lambda: not self.processes(), GONE_S, lambda: f"still there: {self.processes()}")


@contextlib.contextmanager
def running_fog(
    home: Path,
    *flags: str,
    prefix: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[RunningFog]:
    """Hold a fog, started with ``prefix`` before the command; nothing of it is left afterwards."""
    fog = RunningFog(home, *flags, prefix=prefix, environment=environment)
    try:
        yield fog
        if fog.process.poll() is None:
            assert fog.stop() == 0, fog.log.read_text()
            fog.await_gone()
            unfit = [*misfits(home / "logs"), *misfits(home / "net" / "logs")]
            assert not unfit, "\n".join(unfit)  # INV-LOG-01
    finally:
        if fog.process.poll() is None:
            fog.kill()
        for process in fog.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def until(met: Callable[[], bool], seconds: float, otherwise: Callable[[], str]) -> None:
    """Ask again and again until something is so."""
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(PAUSE_S)
