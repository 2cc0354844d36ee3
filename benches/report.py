"""Measure everything: the Rust report, then Python's batches; merge, and draw the page.

The results go to `benches/results/latest.json`, from which `page.py` makes `docs/benchmarks.md`.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from benches import page

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benches" / "results" / "latest.json"


def run(*command: str | Path) -> str:
    """What a program prints; it may say more on standard error."""
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def has_openssl() -> bool:
    """Whether OpenSSL's development files are here, without which it cannot be measured."""
    program = shutil.which("pkg-config")
    return program is not None and not subprocess.call([program, "--exists", "openssl"])


def main() -> None:
    """Measure with the interpreter named on the command line, in which an optimised wheel is."""
    python = Path(sys.argv[1])
    load = [round(os.getloadavg()[0], 2)]
    profile = os.environ.get("FOG_BENCH_PROFILE", "release")
    command = ["cargo", "run", "--quiet", "--locked", "-p", "betanet-bench", "--bin", "report"]
    if has_openssl():
        command += ["--features", "openssl"]
    sys.stdout.write(run(*command, "--profile", profile))
    load.append(round(os.getloadavg()[0], 2))
    batches = json.loads(run(python, "benches/process_batch.py"))
    load.append(round(os.getloadavg()[0], 2))
    report = json.loads(RESULTS.read_text("utf-8"))
    report["summary"] |= batches["summary"]
    report["details"]["python"] = batches["details"]
    report["command"] = "make bench"
    report["rust_profile"] = profile
    report["load_average"] = load
    report["measured"] = dt.datetime.now(dt.UTC).isoformat(timespec="minutes")
    RESULTS.write_text(json.dumps(report, indent=2, sort_keys=True) + "\n", "utf-8")
    page.write(report)
    sys.stdout.write(json.dumps(batches["summary"], indent=2) + "\n")


if __name__ == "__main__":
    main()
