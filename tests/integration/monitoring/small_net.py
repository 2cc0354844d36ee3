"""A net of three nodes and an authority, each a process of its own that may be made to suffer."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from tests.integration.conftest import scripts_folder
from tests.integration.fogs import until
from tests.integration.monitoring.programs import READY_S, free_port, get

EPOCH: Final = "5s"
MEAN_DELAY: Final = "400ms"  # an epoch is at least ten of them
ROLES: Final = ("entry", "middle", "exit")

TIGHT: Final[Mapping[str, Sequence[str]]] = {
    "entry": (),
    "middle": ("--max-queue-depth", "1"),
    "exit": ("--target-throughput", "10"),
}
"""What makes a flood too much: replay memory for 100 packets, and a queue that any one fills."""


class SmallNet:
    """One entry, one middle and one exit node with exact counters, and who lists them.

    Attributes:
        folder: where each has its state below its role; the authority below ``authority``.
    """

    def __init__(self, folder: Path, *, tight: bool = False, alone: bool = False) -> None:
        """Start all; they are in the first consensus.

        A flood is too much for ``tight`` nodes; an authority that is ``alone`` waits for them.
        """
        self.folder: Final = folder
        self._processes: Final[dict[str, subprocess.Popen[bytes]]] = {}
        folder.mkdir()
        self.authority_address: Final = f"127.0.0.1:{free_port()}"
        self._start(
            "authority",
            *("authority", "run", "--dir", folder / "authority", "--network", "small"),
            *("--expect", str(len(ROLES)), "--epoch", EPOCH, "--mean-delay", MEAN_DELAY),
            *("--one-operator", "--http-port", self.authority_address.rpartition(":")[2]),
        )
        until(self.bootstrap.exists, READY_S, lambda: self.said("authority"))
        self.roles: Final = () if alone else ROLES
        for role in self.roles:
            self._start(
                role,
                *("node", "--dir", folder / role, "--bootstrap", self.bootstrap, "--role", role),
                *("--http-port", "0", "--link-port", "0", "--workers", "1", "--exact-metrics"),
                *(TIGHT[role] if tight else ()),
            )
        until(lambda: all(map(self._is_listed, self.roles)), READY_S, lambda: self.said("entry"))

    @property
    def bootstrap(self) -> Path:
        """How clients join."""
        return self.folder / "authority" / "net.json"

    def _start(self, name: str, *words: str | Path) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [scripts_folder() / "betanet", *words, "--die-with-parent"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )

    def said(self, name: str) -> str:
        """The end of a process' log."""
        return f"{name}: {(self.folder / f'{name}.log').read_text()[-2000:]}"

    def address(self, role: str) -> str:
        """Where a node answers HTTP."""
        record = json.loads((self.folder / role / "node.json").read_text())
        return str(record["http_address"])

    def _is_listed(self, role: str) -> bool:
        assert self._processes[role].poll() is None, self.said(role)
        try:
            return bool(json.loads(get(f"http://{self.address(role)}/health"))["listed"])
        except OSError:
            return False

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a process a signal."""
        self._processes[name].send_signal(number)

    def __enter__(self) -> Self:
        """Have it already."""
        return self

    def __exit__(self, *exc: object) -> None:
        """End all, in whatever state they are."""
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.communicate()
