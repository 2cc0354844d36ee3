"""Programs of Debian's packages that a test runs: Prometheus, Alertmanager, exporters."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

import pytest

from tests.integration.fogs import until

READY_S: Final = 60.0
ASK_S: Final = 10.0
STARTS: Final = 3

PACKAGES: Final = (
    "prometheus",
    "prometheus-alertmanager",
    "prometheus-node-exporter",
    "prometheus-postgres-exporter",
    "prometheus-redis-exporter",
)
"""Debian's packages; each has a program of its name."""


def find(program: str) -> Path:
    """Where a program is; the test is skipped where it is nowhere."""
    beside = Path(sys.executable).with_name(program)
    found = shutil.which(program) or (beside if beside.exists() else None)
    if found is None:
        pytest.skip(f"{program} is not installed (Debian: apt-get install {' '.join(PACKAGES)})")
    return Path(found)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def get(url: str, timeout: float = ASK_S) -> str:
    """What an address answers.

    Raises:
        OSError: nothing, or an error.
    """
    with urllib.request.urlopen(url, timeout=timeout) as answer:
        text: str = answer.read().decode()
        return text


class Program:
    """A server that runs until it is stopped, and dies with the tests.

    Attributes:
        address: where it listens, as ``127.0.0.1:port``.
    """

    def __init__(
        self,
        name: str,
        words: Callable[[str], Sequence[str | Path]],
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        ready: str = "/metrics",
    ) -> None:
        """Start it with what ``words`` makes of its address; return once ``ready`` answers."""
        self.name: Final = name
        self._words: Final = words
        self._log: Final = log
        self._environment: Final = dict(environment or {})
        self._ready: Final = ready
        self.address = ""
        self._process: subprocess.Popen[bytes] | None = None
        for left in reversed(range(STARTS)):  # somebody else may take the port first
            self.address = f"127.0.0.1:{free_port()}"
            try:
                self.start()
            except RuntimeError:
                if not left:
                    raise
            else:
                break

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{self.address}"

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it at its address, also after `stop`.

        Raises:
            RuntimeError: it ended; the text is its log.
        """
        setpriv = shutil.which("setpriv")
        guard = [] if setpriv is None else [setpriv, "--pdeathsig=KILL", "--"]
        with self._log.open("ab") as log:
            self._process = process = subprocess.Popen(
                [*guard, *map(str, self._words(self.address))],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

        def answers() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"{self.name} ended: {self._log.read_text()[-2000:]}")
            try:
                get(self.url + self._ready)
            except (OSError, urllib.error.URLError):
                return False
            return True

        until(answers, READY_S, lambda: f"{self.name}: {self._log.read_text()[-2000:]}")

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        """End it, in whatever state it is."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        """Have it already."""
        return self

    def __exit__(self, *exc: object) -> None:
        """End it."""
        self.stop()
