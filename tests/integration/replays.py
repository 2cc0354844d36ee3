"""Packets that the nodes of a net have let in before, sent to them again."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.integration.clocks import JumpingClock
from tests.integration.conftest import bench_program, scripts_folder

START_S: Final = 90.0
END_S: Final = 60.0


class Replays:
    """A program that does so all the while, and knows what comes out of a node a second time."""

    def __init__(self, net: Path, folder: Path, clock: JumpingClock) -> None:
        """Begin in ``folder``, by the clock of the net."""
        self._log = folder / "replays.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(bench_program("replayer"), "--betanet", scripts_folder() / "betanet"),
                    *("--net", net / "net.json", "--dir", folder / "replays"),
                ],
                env={**os.environ, **clock.environment},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self._await_begin()

    def _await_begin(self) -> None:
        """Wait until each node has let a packet in."""
        assert self._process.stdout is not None
        watch = threading.Timer(START_S, self._process.kill)
        watch.start()
        line = self._process.stdout.readline()
        watch.cancel()
        if not line:
            self._process.communicate()
            pytest.fail(f"no replays could be sent: {self._log.read_text()[-3000:]}")
        assert json.loads(line) == {"event": "begun"}

    def end(self) -> dict[str, dict[str, int]]:
        """Let it send everything once more; what came of it all, by the nodes' roles."""
        out, _ = self._process.communicate(timeout=END_S)
        assert self._process.returncode == 0, self._log.read_text()[-3000:]
        found: dict[str, dict[str, int]] = json.loads(out)
        return found

    def close(self) -> None:
        """Leave nothing behind."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


@contextlib.contextmanager
def replaying(net: Path, folder: Path, clock: JumpingClock) -> Iterator[Replays]:
    """Send everything again meanwhile; nothing of it is left afterwards."""
    replays = Replays(net, folder, clock)
    try:
        yield replays
    finally:
        replays.close()
