"""A fog on one of several machines, and machines that are lent to it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from tests.machines import Machines

from .fogs import FOG, START_S, STOP_S, RunningFog, until

__all__ = ["FogOn", "Lender", "stopping"]


class FogOn(RunningFog):
    """A fog on one of several machines, all of whose commands are given there."""

    def __init__(
        self,
        machines: Machines,
        number: int,
        home: Path,
        *flags: str,
        environment: Mapping[str, str] | None = None,
        host: str = "",
    ) -> None:
        """Start it, on a machine of the name ``host`` if one is given."""
        self.machines = machines
        self.number = number
        prefix = machines.command(number)
        if host:
            named = f'echo {host} > /proc/sys/kernel/hostname && exec "$0" "$@"'
            prefix += ["unshare", "--uts", "sh", "-c", named]
        super().__init__(home, *flags, prefix=prefix, environment=environment)

    def _ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return (self.home / "fog.json").exists() and self.run("status").returncode == 0

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.machines.command(self.number, FOG, *map(str, arguments)),
            cwd=self.strangers,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


class Lender:
    """A machine that lends itself, and has nothing but what its home holds."""

    def __init__(self, machines: Machines, number: int, home: Path) -> None:
        self.machines = machines
        self.number = number
        self.home = home
        home.mkdir()
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("FOG_")},
            "FOG_HOME": str(home),
            "FOG_KINDS": "wasm",
            "NO_COLOR": "1",
        }
        self.log = home.with_suffix(".log")
        self.process: subprocess.Popen[bytes] | None = None

    def lend(self, *flags: str | Path) -> None:
        """Start the worker, and wait until every level lists it."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.machines.command(self.number, FOG, "worker", "start", "--json", *flags),
                cwd="/",
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until(self._listed, START_S, lambda: f"it is not listed: {self.log.read_text()}")

    def _listed(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        status = self.status()
        return bool(status) and all(level["listed"] for level in status["levels"])

    def await_finished(self, count: int) -> None:
        """Wait until the worker's owner is told of so many results."""
        until(
            lambda: self.status()["counts"]["finished"] == count,
            START_S,
            lambda: f"not {count}: {self.status()}",
        )

    def status(self) -> dict[str, Any]:
        done = self.run("worker", "status", "--json")
        found = json.loads(done.stdout) if done.returncode == 0 else []
        return found[0] if found and found[0]["runs"] else {}

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.machines.command(self.number, FOG, *arguments),
            cwd="/",
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=START_S,
        )

    def lose_power(self) -> None:
        """End all of its processes at once."""
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if self.process is not None:
            self.process.wait()
        until(lambda: not self._processes(), STOP_S, lambda: f"still there: {self._processes()}")

    def pids(self) -> tuple[int, ...]:
        """All of its processes."""
        return tuple(process.pid for process in self._processes())

    def _processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                ours = any(
                    Path(word).is_relative_to(self.home) for word in process.cmdline()
                ) or process.environ().get("FOG_HOME", "").startswith(str(self.home))
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found


@contextlib.contextmanager
def stopping(fog: RunningFog) -> Iterator[None]:
    """Stop a fog, whatever comes."""
    try:
        yield
        assert fog.stop() == 0, fog.log.read_text()
    finally:
        if fog.process.poll() is None:
            fog.kill()
        for process in fog.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
