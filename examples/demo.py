"""One private task through a real mix network, at every privacy level, on this machine.

Run by ``make demo``. Starts the fog below ``.fog/demo``, counts the words of a book at all four
levels, shows by the nodes' own counters how many nodes each packet crossed, kills a mix node and
the worker, counts once more, and stops everything. Writes nothing outside its folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import httpx2
import psutil
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / ".fog" / "demo"
MODULE = ROOT / "examples" / "wordcount" / "wordcount.wasm"
TEXT = ROOT / "examples" / "text" / "opticks.txt"
FOG = Path(sys.executable).with_name("fog")
LEVELS = {"public": 1, "private": 3, "confidential": 5, "secret": 7}
PORT = 8000
EPOCH_S = 20
TOP = 60
START_TIMEOUT_S = 60
RUN_TIMEOUT_S = 45
STOP_TIMEOUT_S = 20
QUIET_TIMEOUT_S = 10
LOST_PACKETS_TOLERANCE = 0.1

console = Console(highlight=False)


class DemoError(Exception):
    """The demonstration cannot go on; the text says why, in one line."""


@dataclass(frozen=True, slots=True)
class Counters:
    """What the mix nodes counted since they started."""

    unwrapped: Mapping[str, int]
    """Layers removed, by node."""
    arrived: int
    """Packets that came to the end of their path, at all nodes together."""

    def since(self, before: Counters) -> Counters:
        """What was counted after an earlier reading."""
        return Counters(
            {node: n - before.unwrapped.get(node, 0) for node, n in self.unwrapped.items()},
            self.arrived - before.arrived,
        )

    @property
    def layers(self) -> int:
        """Layers removed at all nodes together."""
        return sum(self.unwrapped.values())

    @property
    def middles_known(self) -> int:
        """Middle nodes."""
        return sum(1 for node in self.unwrapped if node.startswith("middle"))

    @property
    def middles(self) -> int:
        """Middle nodes that removed at least one layer."""
        return sum(1 for node, n in self.unwrapped.items() if node.startswith("middle") and n)

    @property
    def path_length(self) -> float:
        """Layers removed for each packet that arrived."""
        return self.layers / self.arrived if self.arrived else 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run of the task."""

    level: str
    stdout: str
    seconds: float
    tries: int


def main() -> int:
    """Run the demonstration; 0 if everything came out as it should."""
    signal.signal(signal.SIGTERM, _interrupt)
    began = time.monotonic()
    try:
        _check_files()
        expected = _count_here()
        with _fog() as processes:
            rows = [_measured(level) for level in LEVELS]
            _show(rows, expected)
            _survive(expected)
            processes.update(_family())
    except DemoError as error:
        console.print(f"[bold red]demo failed:[/] {error}")
        return 1
    except KeyboardInterrupt:
        console.print("[yellow]interrupted; everything is stopped[/]")
        return 130
    console.print(f"[bold green]done[/] in {time.monotonic() - began:.0f} s")
    return 0


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _check_files() -> None:
    for path, hint in (
        (FOG, "run `make demo`, which installs the package"),
        (MODULE, "restore it from the repository"),
        (TEXT, "restore it from the repository"),
    ):
        if not path.is_file():
            raise DemoError(f"{path.relative_to(ROOT)} is missing: {hint}")


# Starting and stopping


@contextlib.contextmanager
def _fog() -> Iterator[set[psutil.Process]]:
    """Hold a running fog; whatever happens inside, nothing of it is left afterwards."""
    _stop_leftovers()
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir(parents=True)
    processes: set[psutil.Process] = set()
    try:
        _start()
        processes.update(_family())
        yield processes
    finally:
        processes.update(_family())
        _stop(processes)
    console.print("[green]✓[/] stopped; no process is left")


def _start() -> None:
    port = PORT
    if _port_taken(port):
        port = _free_port()
        console.print(f"port {PORT} is taken, so the backend listens on {port}")
    with console.status("starting a mix network of ten nodes, a backend and a worker"):
        began = time.monotonic()
        done = _run_fog(
            ["up", "--detach", "--port", str(port), "--epoch", str(EPOCH_S), "--exact-metrics"],
            START_TIMEOUT_S,
        )
        if done.returncode != 0:
            raise DemoError(f"the fog did not start: {_last_line(done.stderr)}")
        _wait(_worker_ready, START_TIMEOUT_S, "no worker announced itself")
    console.print(
        f"[green]✓[/] {len(_node_addresses())} mix nodes, an authority, a backend and a worker run"
        f" ({len(_family())} processes, {time.monotonic() - began:.1f} s)\n"
        "  one operator runs them all, so nobody is anonymous here"
    )


def _stop(processes: set[psutil.Process]) -> None:
    with console.status("stopping"):
        try:
            _run_fog(["down"], STOP_TIMEOUT_S)
        finally:
            _, alive = psutil.wait_procs(processes, timeout=STOP_TIMEOUT_S / 4)
            for process in alive:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
    if alive:
        names = ", ".join(f"{process.pid}" for process in alive)
        raise DemoError(f"these processes had to be killed: {names}")


def _stop_leftovers() -> None:
    """Stop what an earlier run may have left, for example after a `kill -9` of it."""
    if (HOME / "fog.json").exists():
        _run_fog(["down"], STOP_TIMEOUT_S)


def _run_fog(arguments: list[str], timeout: float) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("FOG_")}
    process = subprocess.Popen(
        [FOG, *arguments],
        cwd=ROOT,
        env={**environment, "FOG_HOME": str(HOME), "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        raise DemoError(f"`fog {arguments[0]}` did not end within {timeout:.0f} s") from None
    finally:
        _end(process)
    return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)


def _end(process: subprocess.Popen[str]) -> None:
    """End a command as Ctrl-C does, so that it takes along what it started."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _family() -> set[psutil.Process]:
    """Every process whose command line or environment belongs to this demonstration."""
    members = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            ours = process.environ().get("FOG_HOME") == str(HOME) or any(
                argument.startswith(str(HOME)) for argument in process.cmdline()
            )
            if ours and process.pid != os.getpid():
                members.add(process)
    return members


def _port_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait(ready: Callable[[], bool], timeout: float, otherwise: str) -> None:
    deadline = time.monotonic() + timeout
    while not ready():
        if time.monotonic() > deadline:
            raise DemoError(f"{otherwise} within {timeout:.0f} s; see {HOME / 'logs'}")
        time.sleep(0.1)


def _worker_ready() -> bool:
    done = _run_fog(["worker", "ls", "--json"], START_TIMEOUT_S)
    return done.returncode == 0 and any(
        worker["state"] == "ready" for worker in json.loads(done.stdout)
    )


def _a_middle_node() -> tuple[str, int | None]:
    """The first middle node and its process, None while it is being started again."""
    children: dict[str, int] = _state("net/localnet.json")["children"]
    return "middle-0", children.get("middle-0")


def _worker_pid() -> int | None:
    """The worker's process, None while it is being started again."""
    pid: int | None = _state("fog.json")["children"]["worker-0"]
    return pid


def _state(name: str) -> dict[str, Any]:
    try:
        state: dict[str, Any] = json.loads((HOME / name).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DemoError(f"{HOME / name} cannot be read: {error}") from error
    return state


# The task


def _run_task(level: str) -> Outcome:
    began = time.monotonic()
    done = _run_fog(
        [
            *("run", str(MODULE), "--stdin", str(TEXT), "--privacy", level, "--json"),
            *("--timeout", f"{RUN_TIMEOUT_S}s", "--", "-n", str(TOP)),
        ],
        RUN_TIMEOUT_S + 10,
    )
    seconds = time.monotonic() - began
    if done.returncode != 0:
        raise DemoError(f"the task failed at {level}: {_last_line(done.stderr or done.stdout)}")
    report = json.loads(done.stdout)
    return Outcome(level, report["stdout"], seconds, report["tries"])


def _count_here() -> str:
    """The same count in plain Python, which the fog's answer must equal byte for byte."""
    data = TEXT.read_bytes()
    words = [
        word.rstrip(b"'")
        for word in re.findall(rb"[a-z0-9\x80-\xff][a-z0-9\x80-\xff']*", data.lower())
    ]
    counts = Counter(words)
    top = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:TOP]
    lines = [f"{count:8d} {word.decode()}" for word, count in top]
    newlines = data.count(b"\n")
    lines.append(
        f"{len(words)} words, {len(counts)} different, {newlines} lines, {len(data)} bytes"
    )
    return "\n".join(lines) + "\n"


def _measured(level: str) -> tuple[Outcome, Counters]:
    with console.status(f"running the task at {level.upper()}"):
        before = _quiet_counters()
        outcome = _run_task(level)
        return outcome, _quiet_counters().since(before)


# The nodes' own counters


def _node_addresses() -> dict[str, str]:
    addresses: dict[str, str] = _state("net/net.json")["http"]
    return addresses


def _counters() -> Counters:
    unwrapped: dict[str, int] = {}
    arrived = 0
    for node, address in _node_addresses().items():
        try:
            text = (
                httpx2.get(f"http://{address}/metrics", timeout=5, trust_env=False)
                .raise_for_status()
                .text
            )
        except httpx2.HTTPError as error:
            raise DemoError(f"mix node {node} does not answer: {error}") from error
        unwrapped[node] = _sample(text, "betanet_packets_processed_total")
        arrived += _sample(text, "betanet_packets_delivered_total")
    return Counters(unwrapped, arrived)


def _sample(metrics: str, name: str) -> int:
    found = re.search(rf"^{name} (\d+)", metrics, re.MULTILINE)
    if found is None:
        raise DemoError(f"the metrics of a mix node lack {name}")
    return int(found[1])


def _quiet_counters() -> Counters:
    """Counters read when no packet was on its way: two equal readings."""
    deadline = time.monotonic() + QUIET_TIMEOUT_S
    last = _counters()
    while time.monotonic() < deadline:
        time.sleep(0.3)
        now = _counters()
        if now == last:
            return now
        last = now
    raise DemoError("the network does not come to rest")


# What is shown


def _show(rows: list[tuple[Outcome, Counters]], expected: str) -> None:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("level")
    for heading in ("hops", "packets", "layers", "per packet", "middles", "time"):
        table.add_column(heading, justify="right")
    table.add_column("result")
    for outcome, counted in rows:
        table.add_row(
            outcome.level.upper(),
            str(LEVELS[outcome.level]),
            str(counted.arrived),
            str(counted.layers),
            f"{counted.path_length:.2f}",
            f"{counted.middles} of {counted.middles_known}",
            f"{outcome.seconds:.2f} s",
            "[green]correct[/]" if outcome.stdout == expected else "[red]wrong[/]",
        )
    console.print()
    console.print(table)
    console.print(
        "packets   that came to the end of their path for this task, there and back\n"
        "layers    removed by all mix nodes together, by their own counters\n"
        "middles   middle nodes that removed any of them: each packet takes its own path\n"
        f"result    {_frequent(expected)}, …\n"
    )
    for outcome, counted in rows:
        if outcome.stdout != expected:
            raise DemoError(f"the result at {outcome.level} differs from a count without the fog")
        # A packet that was lost on its way, and sent again, leaves layers without an arrival.
        if abs(counted.path_length - LEVELS[outcome.level]) > LOST_PACKETS_TOLERANCE:
            raise DemoError(
                f"{outcome.level} should cross {LEVELS[outcome.level]} nodes a packet,"
                f" and the nodes counted {counted.path_length:.2f}"
            )


def _frequent(stdout: str) -> str:
    words = [line.split() for line in stdout.splitlines()[:TOP]]
    long = [f"{word} {count}" for count, word in words if len(word) > 4]
    return ", ".join(long[:5])


def _survive(expected: str) -> None:
    """Kill a mix node and the worker, and run the task once more."""
    node, node_pid = _a_middle_node()
    worker_pid = _worker_pid()
    if node_pid is None or worker_pid is None:
        raise DemoError("a mix node or the worker ended by itself; see the logs")
    # A number in a file may have come to mean somebody else: only one of this family is killed.
    victims = [process for process in _family() if process.pid in (node_pid, worker_pid)]
    if len(victims) != 2:
        raise DemoError("a mix node or the worker ended by itself; see the logs")
    for process in victims:
        process.kill()
    console.print(f"[yellow]✗[/] killed {node} (process {node_pid}) and the worker ({worker_pid})")
    with console.status("running the task at PRIVATE once more"):
        outcome = _run_task("private")
        if outcome.stdout != expected:
            raise DemoError("the result after the kills differs from a count without the fog")
        _wait(
            lambda: (
                _a_middle_node()[1] not in {None, node_pid}
                and _worker_pid() not in {None, worker_pid}
            ),
            START_TIMEOUT_S,
            f"{node} or the worker did not come back",
        )
    console.print(
        f"[green]✓[/] the same result at PRIVATE all the same, in {outcome.seconds:.2f} s;"
        " both came back"
    )


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


if __name__ == "__main__":
    sys.exit(main())
