"""Measure everything, part by part, merge what is found, and draw the page.

The results go to `benches/results/latest.json` and to the file of their class of machine, from
which `page.py` makes `docs/benchmarks.md`.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benches import page
from benches.origin import origin

ROOT = Path(__file__).resolve().parents[1]


def run(*command: str | Path, env: Mapping[str, str] | None = None) -> str:
    """What a program prints; it may say more on standard error."""
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True, env=env)
    return done.stdout


def has_openssl() -> bool:
    """Whether OpenSSL's development files are here, without which it cannot be measured."""
    program = shutil.which("pkg-config")
    return program is not None and not subprocess.call([program, "--exists", "openssl"])


SECONDS = os.environ.get("FOG_BENCH_SECONDS", "10")
"""How long a node is under load at each rate, and how long messages are counted."""

RATES = {"ifma": (20_000, 25_000, 30_000)}
OTHER_RATES = (12_000, 15_000, 18_000)
"""Packets per second for one node: to see its processor, its times, and what it can do."""


def stolen() -> tuple[int, int]:
    """Ticks of all processors so far: those that the hypervisor took, and all."""
    ticks = [
        int(text) for text in Path("/proc/stat").read_text("ascii").split("\n")[0].split()[1:9]
    ]
    return ticks[7], sum(ticks)


def steal_percent(before: tuple[int, int], after: tuple[int, int]) -> float:
    """What the hypervisor took of the time between."""
    taken, all_of_it = (late - early for early, late in zip(before, after, strict=True))
    return round(100 * taken / max(1, all_of_it), 3)


@dataclass
class Parts:
    """What was measured one after another, and what others took of the machine meanwhile."""

    found: dict[str, dict[str, Any]] = field(default_factory=dict)

    @contextmanager
    def part(self, name: str) -> Iterator[dict[str, float]]:
        """Time a part; it puts its figures into what this gives."""
        figures: dict[str, float] = {}
        begun, ticks = time.monotonic(), stolen()
        yield figures
        self.found[name] = {
            "seconds": round(time.monotonic() - begun, 1),
            **origin("crates", "src", "Cargo.lock"),
            "load_average": round(os.getloadavg()[0], 2),
            "steal_percent": steal_percent(ticks, stolen()),
            "figures": figures,
        }


class Cargo:
    """Builds and runs the programs of one profile."""

    def __init__(self, profile: str) -> None:
        self._options = ["--quiet", "--locked", "--profile", profile]
        # The same for all, so that nothing is compiled while something is measured.
        features = "openssl" if has_openssl() else ""
        self._bench = ["--package", "betanet-bench", "--features", features]

    def build(self) -> None:
        """Build all that is run."""
        run("cargo", "build", *self._options, "--package", "betanet-node", "--bins")
        run("cargo", "build", *self._options, *self._bench, "--bins")

    def run(self, program: str, *arguments: str, without: str = "") -> str:
        """What a program of the benchmarks prints."""
        options = [*self._options, *self._bench]
        variables = {name: value for name, value in os.environ.items() if name != without}
        return run("cargo", "run", *options, "--bin", program, "--", *arguments, env=variables)


def node_under_load(cargo: Cargo, path: str) -> tuple[dict[str, float], Any]:
    """One node on a processor of its own, at three rates."""
    rates = RATES.get(path, OTHER_RATES)
    arguments = ["--rates", ",".join(map(str, rates)), "--seconds", SECONDS]
    # The path is for the node alone: who makes its packets is not what is measured.
    lines = cargo.run("load", *arguments, "--x25519", path, without="BETANET_X25519").splitlines()
    at_rest, at_bar, beyond = (json.loads(line) for line in lines)
    whole = [phase["per_s"] for phase in (at_bar, beyond) if not phase["lost"] + phase["not_made"]]
    summary = {
        "node_pps": max(whole, default=at_bar["per_s"]),
        "node_p99_ms": at_bar["beside_owed_ms"]["p99"],
        "node_rss_mib": beyond["node_rss_mib"],
        "node_cpu_pct_at_20k": at_rest["node_cpu_pct"],
    }
    return summary, [at_rest, at_bar, beyond]


E2E = (
    "first_message_s",
    "idle_nodes_cpu_pct",
    "idle_client_cpu_pct",
    "idle_net_mib",
    "e2e3_msgs_per_s",
    "e2e3_lost",
    "e2e3_mb_per_s",
    "e2e7_mb_per_s",
    "hop_overhead_p50_ms",
    "hop_overhead_p99_ms",
)
"""Figures of messages through a whole network that others look for."""

PYTHON = {
    "client_messages": (),
    "process_batch": (),
    "tasks": (f"{SECONDS}s",),
    "pool": (),
    "plan": (),
    "recovery": (),
    "big_task": (),
    "submit": (),
    "messaging": (),
    "command_line": (),
    "monitoring": (),
}
"""Programs of this folder that give a ``summary``, and their arguments."""


def main() -> None:
    """Measure with the interpreter named on the command line, in which an optimised wheel is.

    Names of parts may follow: those are measured again, and the others stay as they were found.
    """
    python, chosen = Path(sys.argv[1]), sys.argv[2:]
    profile = os.environ.get("FOG_BENCH_PROFILE", "release")
    cargo, parts = Cargo(profile), Parts()
    latest = page.RESULTS / "latest.json"
    former: dict[str, Any] = json.loads(latest.read_text("utf-8")) if chosen else {}
    if not chosen or not set(chosen) <= set(PYTHON):
        cargo.build()
    begun, ticks = time.monotonic(), stolen()

    if "packets" in chosen or not chosen:
        with parts.part("packets") as figures:
            sys.stdout.write(cargo.run("report"))
            found: dict[str, Any] = json.loads(latest.read_text("utf-8"))
            figures |= found["summary"]
        report = former | found | {"details": former.get("details", {}) | found["details"]}
    else:
        report = former
    path, details = report["x25519_path"], report["details"]
    if "node" in chosen or not chosen:
        with parts.part("node") as figures:
            node, details["node"] = node_under_load(cargo, path)
            figures |= node
    if "network" in chosen or not chosen:
        with parts.part("network") as figures:
            details["e2e"] = json.loads(cargo.run("e2e", "--seconds", SECONDS))
            figures |= {name: details["e2e"][name] for name in E2E}
    for name, arguments in PYTHON.items():
        if name in chosen or not chosen:
            with parts.part(name) as figures:
                found = json.loads(run(python, f"benches/{name}.py", *arguments))
                figures |= found["summary"]
                details[name] = found.get("details", {})

    report["summary"] = former.get("summary", {}) | chaos()
    for part in parts.found.values():
        report["summary"] |= part["figures"]
        part["figures"] = sorted(part["figures"])
    report["parts"] = former.get("parts", {}) | parts.found
    if not chosen:
        report |= {
            "seconds": round(time.monotonic() - begun),
            "steal_percent": steal_percent(ticks, stolen()),
            "command": f"{forced()}make bench",
            "rust_profile": profile,
            "measured": dt.datetime.now(dt.UTC).isoformat(timespec="minutes"),
        }
    text = json.dumps(report, indent=2, sort_keys=True) + "\n"
    for name in ("latest", path):
        (page.RESULTS / f"{name}.json").write_text(text, "utf-8")
    page.write()
    sys.stdout.write(json.dumps(report["summary"], indent=2) + "\n")


def chaos() -> dict[str, float]:
    """What the last run of `make bench-chaos` found: it takes too long to be part of this."""
    summary: dict[str, float] = {}
    if page.CHAOS.exists():
        found = json.loads(page.CHAOS.read_text("utf-8"))
        summary |= {name: found[name] for name in ("chaos_lost", "chaos_twice")}
        summary["chaos_back_s"] = max(found["recovery_s"]["backend"])
    if page.PAIR.exists():
        summary |= json.loads(page.PAIR.read_text("utf-8"))["figures"]
    return summary


def forced() -> str:
    """How the class was chosen, if it was."""
    path = os.environ.get("BETANET_X25519")
    return f"BETANET_X25519={path} " if path else ""


if __name__ == "__main__":
    main()
