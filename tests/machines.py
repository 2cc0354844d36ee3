"""Several machines on one: network namespaces joined by veth pairs, and a network over them."""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

__all__ = ["COMMAND_S", "Machines", "Network", "NoMachines", "until"]

START_S: Final = 60.0
COMMAND_S: Final = 60.0
PAUSE_S: Final = 0.05
AUTHORITY_PORT: Final = 7000


class NoMachines(Exception):
    """This machine lets no process have network interfaces of its own."""


@functools.cache
def _rights() -> tuple[str, ...] | None:
    """What `unshare` needs beside `--net`; None where the machine has no way."""
    if any(shutil.which(tool) is None for tool in ("unshare", "nsenter", "ip")):
        return None
    for rights in ((), ("--user", "--map-root-user")):
        tried = subprocess.run(
            ["unshare", *rights, "--net", "ip", "link", "add", "x", "type", "veth"],
            capture_output=True,
            check=False,
        )
        if tried.returncode == 0:
            return rights
    return None


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + START_S
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(PAUSE_S)


class Machines:
    """Machines 1, 2 and so on, each linked to each; number n has the address 10.n.0.1.

    Another ``host`` than 0.1 makes addresses that nothing else looks like.
    """

    def __init__(
        self, stack: contextlib.ExitStack, folder: Path, count: int = 3, host: str = "0.1"
    ) -> None:
        self._host = host
        rights = _rights()
        if rights is None:
            raise NoMachines
        self._stack = stack
        self._folder = folder
        self._user = bool(rights)
        self._holders: dict[int, int] = {}
        self._numbers = range(1, count + 1)
        for number in self._numbers:
            # All of them in the user namespace of the first, so that it may join them.
            begin = self._enter(self._holders[1], net=False) if number > 1 else ["unshare", *rights]
            make = [*begin, "--net"] if number == 1 else [*begin, "unshare", "--net"]
            self._holders[number] = self._hold([*make, "sleep", "infinity"])
        for number in self._numbers:
            cables = [
                f"link add to{other} type veth peer name to{number} netns {self._holders[other]}"
                for other in self._numbers
                if other > number
            ]
            own = ["link set lo up", f"address add {self.address(number)}/32 dev lo"]
            self._ip(number, *own, *cables)
        for number in self._numbers:
            self._ip(number, *self._ends(number, set(self._numbers) - {number}, up=True))

    def address(self, number: int) -> str:
        """Where a machine is reached."""
        return f"10.{number}.{self._host}"

    def link(self, number: int, *, up: bool) -> None:
        """Take a machine off the network, or put it back."""
        others = set(self._numbers) - {number}
        for other in others:
            self._ip(other, *self._ends(other, {number}, up=up))
        self._ip(number, *self._ends(number, others, up=up))

    def _ends(self, here: int, there: set[int], *, up: bool) -> list[str]:
        """What takes a machine's ends of cables up, or down; all ends before any route."""
        ends = [f"link set to{other} {'up' if up else 'down'}" for other in there]
        routes = [
            f"route replace {self.address(other)}/32 dev to{other} src {self.address(here)}"
            for other in there
        ]
        return [*ends, *routes] if up else ends

    def _ip(self, number: int, *lines: str) -> None:
        done = subprocess.run(
            self.command(number, "ip", "-batch", "-"),
            input="\n".join(lines) + "\n",
            capture_output=True,
            check=False,
            text=True,
            timeout=COMMAND_S,
        )
        assert done.returncode == 0, (lines, done.stderr)

    def _enter(self, holder: int, *, net: bool = True) -> list[str]:
        user = ["--user", "--preserve-credentials"] if self._user else []
        return ["nsenter", "--target", str(holder), *user, *(["--net"] if net else [])]

    def _hold(self, command: Sequence[str]) -> int:
        """Keep a namespace for as long as the test runs."""
        process = self._stack.enter_context(subprocess.Popen(command, stdin=subprocess.DEVNULL))
        self._stack.callback(process.kill)
        # It bears this name once it is in its namespaces.
        comm = Path(f"/proc/{process.pid}/comm")
        until(lambda: comm.read_text() == "sleep\n", "no namespace was made")
        return process.pid

    def command(self, number: int, *words: str | Path) -> list[str]:
        return [*self._enter(self._holders[number]), *map(str, words)]

    def run(self, number: int, *words: str | Path) -> str:
        """The output of a command that has to succeed."""
        done = self.try_out(number, *words)
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout

    def try_out(self, number: int, *words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(number, *words),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            text=True,
            timeout=COMMAND_S,
        )

    def start(self, number: int, name: str, *words: str | Path) -> subprocess.Popen[bytes]:
        """Begin a service; it ends with the test."""
        with (self._folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                self.command(number, *words, "--die-with-parent"),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
        self._stack.enter_context(process)
        self._stack.callback(process.kill)
        return process


class Network:
    """An authority on machine 1 and nodes, of which those of one machine have one operator."""

    def __init__(
        self,
        machines: Machines,
        folder: Path,
        betanet: Sequence[str | Path],
        nodes: Sequence[tuple[int, str]],
        mean_delay: str = "2ms",
    ) -> None:
        """Start it; ``nodes`` are machines and roles, ``betanet`` how the program is called."""
        self.machines = machines
        self.folder = folder
        self.services: list[subprocess.Popen[bytes]] = []
        self._betanet = betanet
        self._nodes = nodes
        self._mean_delay = mean_delay
        self.net = folder / "authority" / "net.json"
        self.authority = self.start_authority("--one-operator")
        until(self.net.exists, "the authority did not start")
        for number, uses in Counter(number for number, _ in nodes).items():
            words = ("--operator", f"operator {number}", "--uses", str(uses))
            token = machines.run(
                number, *betanet, "authority", "token", "--dir", folder / "authority", *words
            )
            (folder / f"token-{number}").write_text(token)
        for index, (number, role) in enumerate(nodes):
            port = 7001 + index
            node = machines.start(
                number,
                f"node-{index}",
                *(*betanet, "node", "--dir", folder / f"node-{index}"),
                *("--bootstrap", self.net, "--role", role, "--token", folder / f"token-{number}"),
                *(
                    "--listen",
                    f"0.0.0.0:{port}",
                    "--announce",
                    f"{machines.address(number)}:{port}",
                ),
                *("--http-port", "0", "--workers", "1", "--exact-metrics"),
            )
            self.services.append(node)

    def start_authority(self, *options: str) -> subprocess.Popen[bytes]:
        return self.machines.start(
            1,
            "authority",
            *(*self._betanet, "authority", "run"),
            *("--dir", self.folder / "authority", "--network", "three"),
            *("--expect", str(len(self._nodes)), "--mean-delay", self._mean_delay),
            *("--listen", f"{self.machines.address(1)}:{AUTHORITY_PORT}", *options),
        )

    def restart_authority(self, *options: str) -> None:
        self.authority.terminate()
        assert self.authority.wait(START_S) == 0
        self.authority = self.start_authority(*options)

    def show(self) -> dict[str, object]:
        shown = self.machines.run(2, *self._betanet, "net", "show", "--net", self.net, "--json")
        return dict(json.loads(shown))

    def logs(self) -> str:
        return "\n".join(
            f"{log.name}: {log.read_text()[-500:]}" for log in sorted(self.folder.glob("*.log"))
        )
