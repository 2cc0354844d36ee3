"""A fog on this machine: scripts and modules through a real mix network, at every privacy level.

Run by ``make demo``. Starts the fog below ``.fog/demo``, runs a Python script over a table at all
four levels, and shows by the nodes' own counters how many nodes each packet crossed. Then counts
the words of a book, cut into two hundred parts, with a WebAssembly module as one map, kills a mix
node and a worker in the middle of it, and compares every result. Stops everything in the end, and
writes nothing outside its folder.
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
import tempfile
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
SCRIPT = ROOT / "examples" / "python" / "co2.py"
DATA = ROOT / "examples" / "python" / "co2.csv"
PARTS = HOME / "parts"
COUNTS = HOME / "counts"
FOG = Path(sys.executable).with_name("fog")
LEVELS = {"public": 1, "private": 3, "confidential": 5, "secret": 7}
PORT = 8000
EPOCH_S = 20
WORKERS = 2
TOP = 60
PART_COUNT = 200
KILL_AFTER = 50
VICTIMS = ("middle-0", "worker-0")
START_TIMEOUT_S = 60
RUN_TIMEOUT_S = 45
MAP_TIMEOUT_S = 90
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
        expected = _run_here()
        with _fog() as processes:
            rows = [_measured(level) for level in LEVELS]
            _show(rows, expected)
            _map_through_kills()
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
        *((path, "restore it from the repository") for path in (MODULE, TEXT, SCRIPT, DATA)),
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
    with console.status("starting a mix network of ten nodes, a backend and two workers"):
        began = time.monotonic()
        done = _run_fog(
            [
                *("up", "--detach", "--port", str(port), "--workers", str(WORKERS)),
                *("--epoch", str(EPOCH_S), "--exact-metrics"),
            ],
            START_TIMEOUT_S,
        )
        if done.returncode != 0:
            raise DemoError(f"the fog did not start: {_last_line(done.stderr)}")
    with console.status("compiling the Python interpreter, once for both workers"):
        _wait(_workers_ready, START_TIMEOUT_S, "no two workers announced themselves for scripts")
    console.print(
        f"[green]✓[/] {len(_node_addresses())} mix nodes, an authority, a backend and two workers"
        f" run ({len(_family())} processes, {time.monotonic() - began:.1f} s)\n"
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
    process = _begin_fog(arguments, stderr=subprocess.PIPE)
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        raise DemoError(f"`fog {arguments[0]}` did not end within {timeout:.0f} s") from None
    finally:
        _end(process)
    return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)


def _begin_fog(arguments: list[str], *, stderr: int | None) -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("FOG_")}
    return subprocess.Popen(
        [FOG, *arguments],
        cwd=ROOT,
        env={**environment, "FOG_HOME": str(HOME), "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )


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


def _workers_ready() -> bool:
    done = _run_fog(["worker", "ls", "--json"], START_TIMEOUT_S)
    if done.returncode != 0:
        return False
    ready = [
        worker
        for worker in json.loads(done.stdout)
        if worker["state"] == "ready" and "python" in worker["kinds"]
    ]
    return all(
        sum(worker["level"] in {level, None} for worker in ready) == WORKERS for level in LEVELS
    )


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
            *("run", str(SCRIPT), "--input", f"{DATA}={DATA.name}", "--privacy", level, "--json"),
            *("--timeout", f"{RUN_TIMEOUT_S}s", "--", DATA.name),
        ],
        RUN_TIMEOUT_S + 10,
    )
    seconds = time.monotonic() - began
    if done.returncode != 0:
        raise DemoError(f"the task failed at {level}: {_last_line(done.stderr or done.stdout)}")
    report = json.loads(done.stdout)
    return Outcome(level, report["stdout"], seconds, report["tries"])


def _run_here() -> str:
    """What the same script prints without a fog, which the fog's answer must equal."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, SCRIPT, DATA], capture_output=True, check=False, cwd=folder, text=True
        )
    if done.returncode != 0:
        raise DemoError(f"{SCRIPT.name} fails without a fog: {_last_line(done.stderr)}")
    return done.stdout


def _count(data: bytes) -> str:
    """The module's count in plain Python, which the fog's answer must equal byte for byte."""
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
    with console.status(f"running a script at {level.upper()}"):
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
        f"result    {_last_line(expected)}\n"
    )
    for outcome, counted in rows:
        if outcome.stdout != expected:
            raise DemoError(
                f"the result at {outcome.level} differs from that of the same script without a fog"
            )
        # A packet that was lost on its way, and sent again, leaves layers without an arrival.
        if abs(counted.path_length - LEVELS[outcome.level]) > LOST_PACKETS_TOLERANCE:
            raise DemoError(
                f"{outcome.level} should cross {LEVELS[outcome.level]} nodes a packet,"
                f" and the nodes counted {counted.path_length:.2f}"
            )


def _map_through_kills() -> None:
    """Count two hundred texts at PRIVATE; kill a mix node and a worker in the middle."""
    parts = _cut()
    began = time.monotonic()
    process = _begin_fog(
        [
            *("map", str(MODULE), *map(str, parts), "--output-dir", str(COUNTS)),
            *("--", "-n", str(TOP)),
        ],
        stderr=None,  # its line of progress
    )
    try:
        _wait(
            lambda: _counted() >= KILL_AFTER or process.poll() is not None,
            MAP_TIMEOUT_S,
            f"the map did not bring {KILL_AFTER} results",
        )
        victims = _kill_two()
        code = process.wait(MAP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise DemoError(f"the map did not end within {MAP_TIMEOUT_S} s") from None
    finally:
        _end(process)
    seconds = time.monotonic() - began
    if code != 0:
        raise DemoError(f"the map ended with {code}")
    for part in parts:
        if (COUNTS / f"{part.name}.out").read_text("utf-8") != _count(part.read_bytes()):
            raise DemoError(f"the count of {part.name} differs from one without a fog")
    console.print(
        f"[green]✓[/] a map of {len(parts)} texts at PRIVATE in {seconds:.1f} s"
        f" ({len(parts) / seconds:.0f}/s): every result arrived and is right"
    )
    _wait(
        lambda: all(pid not in {None, old} for pid, old in zip(_two(), victims, strict=True)),
        START_TIMEOUT_S,
        "a mix node or a worker did not come back",
    )
    console.print("[green]✓[/] both that were killed came back")


def _cut() -> list[Path]:
    """Cut the book into parts of whole lines, nearly equal."""
    lines = TEXT.read_bytes().splitlines(keepends=True)
    PARTS.mkdir()
    parts = []
    for number in range(PART_COUNT):
        part = PARTS / f"{number:03d}.txt"
        begin, end = (n * len(lines) // PART_COUNT for n in (number, number + 1))
        part.write_bytes(b"".join(lines[begin:end]))
        parts.append(part)
    return parts


def _counted() -> int:
    return sum(1 for _ in COUNTS.glob("*.out"))


def _two() -> tuple[int | None, int | None]:
    """A middle node's process and a worker's; None while one is being started again."""
    nodes: dict[str, int] = _state("net/localnet.json")["children"]
    workers: dict[str, int | None] = _state("fog.json")["children"]
    return nodes.get(VICTIMS[0]), workers.get(VICTIMS[1])


def _kill_two() -> tuple[int, int]:
    """Kill a mix node and a worker as if their machines had gone, and return who they were."""
    node, worker = _two()
    # A number in a file may have come to mean somebody else: only one of this family is killed.
    victims = [process for process in _family() if process.pid in (node, worker)]
    if node is None or worker is None or len(victims) != len(VICTIMS):
        raise DemoError("a mix node or a worker ended by itself; see the logs")
    done = _counted()
    for process in victims:
        process.kill()
    console.print(
        f"[yellow]✗[/] killed {VICTIMS[0]} (process {node}) and {VICTIMS[1]} ({worker}), with"
        f" {done} of {PART_COUNT} results here"
    )
    return node, worker


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


if __name__ == "__main__":
    sys.exit(main())
