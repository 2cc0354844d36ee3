"""BlueZ without Bluetooth: a D-Bus of its own, and BlueZoo on it (GPL, run as a process only)."""

from __future__ import annotations

import os
import subprocess
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

ADAPTERS = ("00:11:22:33:44:01", "00:11:22:33:44:02")

CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/><allow own="*"/>
    <allow send_destination="*" eavesdrop="false"/><allow receive_sender="*"/>
  </policy>
</busconfig>
"""

DEFAULT = """
adapters = {"/org/bluez/hci0"}
adapters.add("/org/bluez/hci1")
print(next(iter(adapters)))
"""


class BluezMock:
    """The bus and the mock; ``run`` starts a program of the interop environment on them."""

    def __init__(self, folder: Path, python: Path) -> None:
        self.folder = folder
        self.python = python
        self.address = f"unix:path={folder}/bus"
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        config = self.folder / "bus.conf"
        config.write_text(CONFIG.format(socket=self.folder / "bus"), "utf-8")
        self.bus = self._process(
            ["dbus-daemon", f"--config-file={config}", "--nofork", "--print-address=1"], "bus"
        )
        assert self.bus.stdout is not None
        assert self.bus.stdout.readline()  # it listens
        self.mock = self._process(self._mock(), "mock")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def run(self, *arguments: str | Path, name: str, seed: int = 0) -> subprocess.Popen[str]:
        """Start a program of the interop environment; it ends with the test."""
        return self._process([self.python, *arguments], name, PYTHONHASHSEED=str(seed))

    def restart(self) -> None:
        """End the mock as a crash of bluetoothd would, and start another."""
        self.mock.kill()
        self.mock.wait()
        self.mock = self._process(self._mock(), "mock again")

    def seed(self, adapter: str) -> int:
        """With which hash seed bleak's default adapter is this one: it takes a set's first."""
        for seed in range(64):
            said = subprocess.run(
                [self.python, "-c", DEFAULT],
                env={"PYTHONHASHSEED": str(seed)},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            if said.strip().endswith(adapter):
                return seed
        raise AssertionError(f"no seed makes {adapter} the first")

    def _mock(self) -> list[str | Path]:
        chosen = [argument for address in ADAPTERS for argument in ("--adapter", address)]
        program = self.python.parent / "bluezoo"
        return [self.python, program, "--auto-enable", "--scan-interval", "1", *chosen]

    def _process(
        self, command: list[str | Path], name: str, **variables: str
    ) -> subprocess.Popen[str]:
        log = self._stack.enter_context((self.folder / f"{name}.log").open("w"))
        process = subprocess.Popen(
            command,
            env={
                **os.environ,
                "DBUS_SYSTEM_BUS_ADDRESS": self.address,
                "HOME": str(self.folder),
                "PYTHONUNBUFFERED": "1",
                **variables,
            },
            cwd=self.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )

        def end() -> None:
            process.kill()
            process.communicate()

        self._stack.callback(end)
        return process
