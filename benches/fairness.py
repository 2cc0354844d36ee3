"""How an honest client fares beside one address that floods, for each kind of flood.

    make build && cargo build --profile quick -p betanet-node -p betanet-bench --bins
    sudo .venv/bin/python -m benches.fairness target/quick

Ten nodes and the authority, two honest clients, and the flooder are in three network namespaces,
joined by veth pairs, so that each has an address of its own. The network has one processor for
itself. The clients have another, and the flooder gets what they leave of that (`SCHED_IDLE`): so
it takes no processor time from anybody else, and what it costs them is what the network lets it.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from benches import page
from benches.plots import Report
from benches.report import forced, run
from tests.machines import Machines, Network, until

PAGE: Final = page.PLOTS / "fairness.md"
RESULTS: Final = page.RESULTS / "fairness.json"
KINDS: Final = ("packets", "garbage", "mailboxes", "acks", "links", "workers")
NODES: Final = tuple((1, role) for role in (*["entry"] * 2, *["middle"] * 6, *["exit"] * 2))
EDGES: Final = 4
NETWORK, CLIENTS, FLOODER = 1, 2, 3
FOR_THE_NETWORK: Final = ("taskset", "-c", "0")
FOR_THE_REST: Final = ("taskset", "-c", "1")
WHEN_IDLE: Final = (*FOR_THE_REST, "chrt", "--idle", "0")
ALLOWED: Final = 10_000
"""Packets a second that an edge reads from one address, where a whole processor carries 25,000."""
PACE: Final = ALLOWED * EDGES // (len(NODES) + 1)
"""The same over all edges, in proportion to the part of a processor that a node has here."""
PACED: Final = ("packets", "mailboxes", "acks")
LINKS: Final = {"links": 1024}
FEW_LINKS: Final = 8
BEFORE_S: Final = 3
COUNT: Final = """
import json, pathlib, sys, urllib.request
from collections import Counter
dropped = Counter()
for record in pathlib.Path(sys.argv[1]).glob("node-*/node.json"):
    at = json.loads(record.read_text())["http_address"]
    page = urllib.request.urlopen(f"http://{at}/metrics", timeout=10).read().decode()
    for line in page.splitlines():
        if line.startswith("betanet_packets_dropped_total{"):
            name, count = line.rsplit(" ", 1)
            dropped[name.split('"')[1]] += int(count)
print(json.dumps(dropped))
"""


@dataclass(frozen=True, slots=True)
class Run:
    """What the honest clients had, and what it cost the network."""

    honest: dict[str, float]
    network_cpu_pct: float
    dropped: dict[str, int]
    flood: dict[str, Any] | None


class Bench:
    """A running network, and programs around it."""

    def __init__(self, stack: contextlib.ExitStack, folder: Path, programs: Path) -> None:
        self.folder = folder
        self._programs = programs
        self._machines = Machines(stack, folder)
        betanet = (*FOR_THE_NETWORK, programs / "betanet")
        self._network = Network(self._machines, folder, betanet, NODES, mean_delay="15ms")
        until(self._is_complete, self._network.logs())

    def _is_complete(self) -> bool:
        edges = self._network.show()["edges"]
        return isinstance(edges, list) and len(edges) == EDGES

    def _busy_s(self) -> float:
        processes = (self._network.authority, *self._network.services)
        stats = (Path(f"/proc/{process.pid}/stat").read_text() for process in processes)
        return sum(sum(map(int, stat.rsplit(")", 1)[1].split()[11:13])) for stat in stats) / 100

    def _dropped(self) -> Counter[str]:
        words = (sys.executable, "-c", COUNT, self.folder)
        return Counter(json.loads(self._machines.run(NETWORK, *words)))

    def run(self, seconds: int, rate: int, kind: str | None, flood_rate: int | None) -> Run:
        """Measure the honest clients, beside a flood that began before them and ends after them."""
        flood = None if kind is None else self._flood(kind, seconds + 2 * BEFORE_S, flood_rate)
        if flood is not None:
            time.sleep(BEFORE_S)
        busy, dropped, start = self._busy_s(), self._dropped(), time.monotonic()
        words = ("--seconds", str(seconds), "--rate", str(rate))
        e2e: tuple[str | Path, ...] = (self._programs / "e2e", "--net", self._network.net)
        done = subprocess.run(
            self._machines.command(CLIENTS, *FOR_THE_REST, *e2e, *words),
            capture_output=True,
            check=False,
            text=True,
        )
        cpu_pct = 100 * (self._busy_s() - busy) / (time.monotonic() - start)
        lost = dict(self._dropped() - dropped)
        if done.returncode:
            print(done.stderr, self._network.logs(), file=sys.stderr)
        honest = json.loads(done.stdout) if done.returncode == 0 else {}
        told = None if flood is None else json.loads(flood.communicate()[0] or "null")
        return Run(honest, round(cpu_pct, 1), lost, told)

    def _flood(self, kind: str, seconds: int, rate: int | None) -> subprocess.Popen[str]:
        words = ["--kind", kind, "--seconds", str(seconds)]
        words += ["--links", str(LINKS.get(kind, FEW_LINKS))]
        words += [] if rate is None else ["--rate", str(rate)]
        command: tuple[str | Path, ...] = (
            *WHEN_IDLE,
            self._programs / "flood",
            "--net",
            self._network.net,
            *words,
        )
        return subprocess.Popen(
            self._machines.command(FLOODER, *command), stdout=subprocess.PIPE, text=True
        )


@dataclass(frozen=True, slots=True)
class Measured:
    """One kind of flood, and the same network before it."""

    alone: Run
    beside: Run

    def ratio(self, name: str) -> float:
        """Of a figure of the honest clients, beside the flood to alone."""
        return self.beside.honest.get(name, float("nan")) / self.alone.honest[name]


def table(results: Mapping[str, Measured]) -> list[str]:
    """The lines of a table of all kinds."""
    heads = ("kept", "×", "received ×", "p99 alone", "p99 beside", "lost", "network's processor")
    lines = [page.row("flood", *heads), "|---" * (1 + len(heads)) + "|"]
    for kind, it in results.items():
        alone, beside = it.alone.honest, it.beside.honest
        lines.append(
            page.row(
                kind,
                f"{it.ratio('acknowledged_per_s'):.0%}",
                f"{it.ratio('acknowledged_p99_ms'):.2f}",
                f"{it.ratio('received_p99_ms'):.2f}",
                f"{alone['acknowledged_p99_ms']:.0f} ms",
                f"{beside.get('acknowledged_p99_ms', float('nan')):.0f} ms",
                beside.get("lost"),
                f"{it.alone.network_cpu_pct:.0f} → {it.beside.network_cpu_pct:.0f} %",
            )
        )
    return lines


def measured(report: Report, part: str = "results") -> dict[str, Measured]:
    """What a report holds, by kind of flood."""
    return {
        kind: Measured(Run(**found["alone"]), Run(**found["beside"]))
        for kind in KINDS
        if (found := report.get(part, {}).get(kind)) is not None
    }


def render(report: Report) -> str:
    """The page of what was kept."""
    results = measured(report)
    sent = {kind: found.beside.flood or {} for kind, found in results.items()}
    return "\n".join(
        [
            "# Fairness",
            "",
            (
                "An honest client beside one address that floods: its messages keep 90 % of their"
                " rate, and their 99th percentile stays below twice what it was."
            ),
            (
                f"{report['rate']} messages of 1 KiB a second over 3 hops, for"
                f" {report['seconds']} s each, on {report['machine']}, {report['measured']},"
                f" commit `{report['commit']}`, `{report['command']}`."
            ),
            "",
            *table(results),
            "",
            (
                "`kept` is the rate of acknowledged messages beside the flood ÷ alone, `×` the"
                " same of the 99th percentile of the time to the stored acknowledgement, `received"
                " ×` of the time until the recipient has the message."
            ),
            "",
            (
                "The ten nodes and the authority are in a network namespace of their own and share"
                " one processor; the clients are in a second namespace and have the other"
                " processor; the flooder is in a third one and gets what they leave of it, so that"
                " it takes no time from anybody but through the network."
            ),
            (
                f"Connections, garbage and requests come as fast as they are taken. Packets come at"
                f" {PACE:,}/s: the {ALLOWED:,}/s that each of {EDGES} edges reads from one address,"
                f" in proportion to the part of a processor that a node has here."
            ),
            "",
            f"Beyond that pace, as fast as they are read ({_rates(report)}):",
            "",
            *table(measured(report, "unpaced")),
            "",
            (
                "So many can be more than the network's one processor carries. Where packets leave"
                " late, the edges read less of whoever sends most, and the rest waits at the"
                " flooder's ([ADR 18](../adr/0018-clients-wait-outside.md))."
            ),
            "",
            "What each flood of the first table sent in that time, to all edges:",
            "",
            page.row("flood", "sent", "refused"),
            "|---|---|---|",
            *(
                page.row(kind, _list(it.get("sent")), _list(it.get("refused")))
                for kind, it in sent.items()
            ),
            "",
        ]
    )


def _rates(report: Report) -> str:
    floods = {kind: it.beside.flood or {} for kind, it in measured(report, "unpaced").items()}
    rates = {
        kind: it["sent"]["packets"] / it["seconds"] for kind, it in floods.items() if "sent" in it
    }
    return ", ".join(f"{kind} {rate:,.0f} packets/s" for kind, rate in rates.items())


def _list(counts: Mapping[str, int] | None) -> str:
    items = (counts or {}).items()
    return ", ".join(f"{count:,} {name}" for name, count in items) or "–"


def main() -> None:
    """Print a table and, as the last line, JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("programs", type=Path, help="folder with betanet, e2e and flood")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, help="those that can be, if left out")
    parser.add_argument("--seconds", type=int, default=15, help="for each measurement")
    parser.add_argument("--rate", type=int, default=200, help="honest messages a second")
    parser.add_argument("--unpaced", action="store_true", help="packets as fast as they are taken")
    parser.add_argument("--keep", action="store_true", help="write the results and the page")
    words = parser.parse_args()
    possible = PACED if words.unpaced else KINDS
    kinds = words.kinds or possible
    if not set(kinds) <= set(possible):
        parser.error(f"--unpaced: only {', '.join(PACED)} have a pace")
    results = {}
    for kind in kinds:
        pace = PACE if kind in PACED and not words.unpaced else None
        # A network of its own: what one flood leaves is not the next one's.
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            bench = Bench(stack, Path(folder), words.programs.resolve())
            alone = bench.run(words.seconds, words.rate, None, None)
            beside = bench.run(words.seconds, words.rate, kind, pace)
        results[kind] = Measured(alone, beside)
        print(table({kind: results[kind]})[-1], flush=True)
    found = {kind: asdict(found) for kind, found in results.items()}
    if words.keep:
        report: Report = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
        report |= {
            "measured": dt.datetime.now(dt.UTC).isoformat(timespec="minutes"),
            "machine": f"{os.cpu_count()} threads, {platform.machine()}",
            "commit": run("git", "rev-parse", "HEAD").strip(),
            "command": f"{forced()}python -m benches.fairness {words.programs} --keep",
            "seconds": words.seconds,
            "rate": words.rate,
        }
        # What was not measured this time stays as it was.
        part = "unpaced" if words.unpaced else "results"
        report[part] = report.get(part, {}) | found
        RESULTS.write_text(json.dumps(report, indent=1, sort_keys=True) + "\n", "utf-8")
        PAGE.write_text(render(report), "utf-8")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
