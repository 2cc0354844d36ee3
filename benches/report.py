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
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benches import page

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


class Cargo:
    """Builds and runs the programs of one profile."""

    def __init__(self, profile: str) -> None:
        self._options = ["--quiet", "--locked", "--profile", profile]

    def build(self, *packages: str) -> None:
        """Build all programs of some packages."""
        chosen = [option for package in packages for option in ("--package", package)]
        run("cargo", "build", *self._options, *chosen, "--bins")

    def run(self, program: str, *arguments: str, features: str = "", without: str = "") -> str:
        """What a program of the benchmarks prints."""
        options = [*self._options, "--package", "betanet-bench", "--features", features]
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


def main() -> None:
    """Measure with the interpreter named on the command line, in which an optimised wheel is."""
    python = Path(sys.argv[1])
    profile = os.environ.get("FOG_BENCH_PROFILE", "release")
    cargo = Cargo(profile)
    cargo.build("betanet-node", "betanet-bench")
    stolen_before, all_before = stolen()
    load = [round(os.getloadavg()[0], 2)]

    def note_load() -> None:
        load.append(round(os.getloadavg()[0], 2))

    sys.stdout.write(cargo.run("report", features="openssl" if has_openssl() else ""))
    note_load()
    report = json.loads((page.RESULTS / "latest.json").read_text("utf-8"))
    path = report["x25519_path"]
    node, phases = node_under_load(cargo, path)
    note_load()
    e2e = json.loads(cargo.run("e2e", "--seconds", SECONDS))
    note_load()
    batches = json.loads(run(python, "benches/process_batch.py"))
    note_load()
    client = json.loads(run(python, "benches/client_messages.py"))
    note_load()
    tasks = json.loads(run(python, "benches/tasks.py", f"{SECONDS}s"))
    note_load()
    plan = json.loads(run(python, "benches/plan.py"))
    note_load()
    big = json.loads(run(python, "benches/big_task.py"))
    note_load()
    summary = node | {name: e2e[name] for name in E2E} | batches["summary"] | client
    summary |= tasks["summary"] | plan["summary"] | big["summary"] | chaos()
    report["summary"] |= summary
    report["details"] |= {"node": phases, "e2e": e2e, "python": batches["details"]}
    report["details"] |= {"tasks": tasks["details"], "plan": plan["details"]}
    stolen_after, all_after = stolen()
    report["steal_percent"] = round(
        100 * (stolen_after - stolen_before) / (all_after - all_before), 3
    )
    report["command"] = f"{forced()}make bench"
    report["rust_profile"] = profile
    report["load_average"] = load
    report["measured"] = dt.datetime.now(dt.UTC).isoformat(timespec="minutes")
    text = json.dumps(report, indent=2, sort_keys=True) + "\n"
    for name in ("latest", path):
        (page.RESULTS / f"{name}.json").write_text(text, "utf-8")
    page.write()
    sys.stdout.write(json.dumps(summary, indent=2) + "\n")


def chaos() -> dict[str, float]:
    """What the last run of `make bench-chaos` found: it takes too long to be part of this."""
    file = page.CHAOS
    if not file.exists():
        return {}
    found = json.loads(file.read_text("utf-8"))
    return {name: found[name] for name in ("chaos_lost", "chaos_twice")}


def forced() -> str:
    """How the class was chosen, if it was."""
    path = os.environ.get("BETANET_X25519")
    return f"BETANET_X25519={path} " if path else ""


if __name__ == "__main__":
    main()
