"""A container engine of our own: its state in one folder, its containers in one namespace."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

NEEDED: Final = ("dockerd", "docker", "mmdebstrap", "unshare", "nsenter", "ip", "rustc")
START_S: Final = 60.0
STOP_S: Final = 60.0


def lacking() -> str | None:
    """Why no engine can be started here; None if one can."""
    if os.geteuid() != 0:
        return "an engine of its own needs root"
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        return (
            f"{', '.join(missing)} missing (Debian: apt-get install --no-install-recommends"
            " docker.io mmdebstrap iproute2 util-linux)"
        )
    return None


class Engine:
    """A running engine."""

    def __init__(self, socket: Path, process: subprocess.Popen[bytes]) -> None:
        """Know where it listens."""
        self.socket: Final = socket
        self.process: Final = process

    @property
    def host(self) -> str:
        """What ``DOCKER_HOST`` is for its clients."""
        return f"unix://{self.socket}"

    def docker(self, *words: str, timeout: float = 3600) -> str:
        """Run the engine's command; return what it prints."""
        done = subprocess.run(
            ["docker", *words],
            capture_output=True,
            check=False,
            # The builder that every engine has.
            env={**os.environ, "DOCKER_HOST": self.host, "DOCKER_BUILDKIT": "0"},
            text=True,
            timeout=timeout,
        )
        if done.returncode:
            raise RuntimeError(f"docker {' '.join(words)}: {done.stdout[-3000:]}{done.stderr}")
        return done.stdout

    def inside(self, *words: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a program in the engine's network, where its ports are published."""
        return subprocess.run(
            ["nsenter", f"--net=/proc/{self.process.pid}/ns/net", *words],
            capture_output=True,
            check=False,
            text=True,
            timeout=timeout,
        )


@contextlib.contextmanager
def engine(folder: Path, *, sealed: bool) -> Iterator[Engine]:
    """Start an engine with its state in ``folder``, and end it with all that it started.

    Args:
        folder: images stay there for the next time.
        sealed: whether it and its containers reach nothing but each other. One that is not makes no
            network, and is for building.
    """
    run = folder / "run"
    _forget(run)
    run.mkdir(parents=True)
    socket = run / "docker.sock"
    command = [
        "dockerd",
        f"--data-root={folder / 'data'}",
        f"--exec-root={run / 'exec'}",
        f"--pidfile={run / 'docker.pid'}",
        f"--host=unix://{socket}",
        "--iptables=false",
        "--ip6tables=false",
        "--bridge=none",
    ]
    if sealed:
        command = ["unshare", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "sh", *command]
    with (folder / "engine.log").open("ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        _wait(socket, process, folder / "engine.log")
        yield Engine(socket, process)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(STOP_S)
        _forget(run)


def _forget(run: Path) -> None:
    """Delete what an engine had while it ran; it leaves its namespaces mounted."""
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        place = Path(line.split()[4])
        if place.is_relative_to(run.resolve()):
            subprocess.run(["umount", "--lazy", place], check=False)
    shutil.rmtree(run, ignore_errors=True)


def _wait(socket: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    ping = ["docker", "--host", f"unix://{socket}", "version"]
    while subprocess.run(ping, capture_output=True, check=False).returncode:
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the engine does not start:\n{log.read_text()[-3000:]}")
        time.sleep(0.2)
