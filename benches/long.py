"""Let a node and a network run for long, send the longest message over bad links, note the memory.

The results go to `benches/results/long.json`, of which `page.py` makes a part of
`docs/benchmarks.md`. Memory and losses are judged and times are not, so that the machine may do
other things meanwhile.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from benches import page
from benches.origin import origin
from benches.report import Cargo


def found(cargo: Cargo, program: str, *arguments: str) -> list[Any]:
    """What a program found; it fails where that is not as it should be."""
    return [json.loads(line) for line in cargo.run(program, *arguments).splitlines()]


def main() -> None:
    """Measure."""
    profile = os.environ.get("FOG_BENCH_PROFILE", "release")
    cargo = Cargo(profile)
    cargo.build()
    lossy = [*found(cargo, "lossy"), *found(cargo, "lossy", "--python", sys.executable)]
    [replays] = found(cargo, "soak", "replays")
    [messages] = found(cargo, "soak", "messages")
    [node] = found(cargo, "soak", "node")
    write(profile, node=node, messages=messages, replays=replays, lossy=lossy)


def write(profile: str, **runs: Any) -> None:
    """Keep what was found and draw the page anew."""
    report = {
        **origin("crates", "Cargo.lock"),
        "rust_profile": profile,
        **runs,
    }
    text = json.dumps(report, indent=2, sort_keys=True) + "\n"
    page.LONG.write_text(text, "utf-8")
    page.write()
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
