"""Let a node and a network run for long, send the longest message over bad links, note the memory.

The results go to `benches/results/long.json`, of which `page.py` makes a part of
`docs/benchmarks.md`. Memory and losses are judged and times are not, so that the machine may do
other things meanwhile.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

from benches import page
from benches.report import Cargo, run


def machine() -> str:
    """The processor and how many of its threads there are."""
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    model = models[0] if models else "unknown processor"
    return f"{model}, {os.cpu_count()} threads, {platform.machine()}"


def commit() -> str:
    """The commit, marked where files differ from it."""
    changes = run("git", "status", "--porcelain", "--", "crates", "Cargo.lock")
    return run("git", "rev-parse", "HEAD").strip() + (" with changes" if changes else "")


def found(cargo: Cargo, program: str, *arguments: str) -> list[Any]:
    """What a program found; it fails where that is not as it should be."""
    return [json.loads(line) for line in cargo.run(program, *arguments).splitlines()]


def main() -> None:
    """Measure."""
    profile = os.environ.get("FOG_BENCH_PROFILE", "release")
    cargo = Cargo(profile)
    cargo.build("betanet-node", "betanet-bench")
    lossy = [*found(cargo, "lossy"), *found(cargo, "lossy", "--python", sys.executable)]
    [replays] = found(cargo, "soak", "replays")
    [messages] = found(cargo, "soak", "messages")
    [node] = found(cargo, "soak", "node")
    write(profile, node=node, messages=messages, replays=replays, lossy=lossy)


def write(profile: str, **runs: Any) -> None:
    """Keep what was found and draw the page anew."""
    report = {
        "machine": machine(),
        "commit": commit(),
        "measured": dt.datetime.now(dt.UTC).isoformat(timespec="minutes"),
        "rust_profile": profile,
        **runs,
    }
    text = json.dumps(report, indent=2, sort_keys=True) + "\n"
    page.LONG.write_text(text, "utf-8")
    page.write()
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
