"""Kill and freeze the processes of a busy fog and let its clock jump; count what is lost or twice.

    python -m benches.chaos --events 25 --seed 1 --json

With ``--keep`` the report goes to `benches/results/chaos.json`, as `make bench-chaos` has it.
So many processes are killed, and frozen and jumps come on top. Each task has an answer that is
known beforehand; what became of them is read from the store after the fog has stopped.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from benches import page
from benches.origin import origin
from tests.integration.blows import drawn
from tests.integration.clocks import build_shim
from tests.integration.upheaval import Upheaval

EVENTS: Final = 25
FREEZES_S: Final = (1.0, 3.0, 14.0)
FIGURES: Final = ("chaos_lost", "chaos_twice", "chaos_wrong", "tasks", "kills", "recovery_s")


def measure(events: int, seed: str) -> dict[str, Any]:
    """Live through so many kills in a folder of its own, and report.

    Raises:
        SystemExit: there is no C compiler, without which no clock jumps.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shim = build_shim(folder)
        if shim is None:
            raise SystemExit("there is no C compiler (cc), which builds what moves the clocks")
        blows = drawn(random.Random(seed), events, FREEZES_S)
        return Upheaval(folder, shim, seed, note).live_through(blows)


def note(text: str) -> None:
    """Tell whoever waits."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def main() -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=EVENTS, help="processes to kill")
    parser.add_argument("--seed", default=str(random.SystemRandom().randrange(2**32)))
    parser.add_argument("--keep", action="store_true", help="keep the report among the results")
    parser.add_argument("--json", action="store_true", help="print the whole report as JSON")
    options = parser.parse_args()
    note(f"seed {options.seed}")
    report = measure(options.events, options.seed)
    if options.keep:
        kept = report | origin("crates", "src", "Cargo.lock")
        page.CHAOS.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n", "utf-8")
        page.write()
    if options.json:
        sys.stdout.write(json.dumps(report, indent=2, sort_keys=True) + "\n")
    else:
        for figure in FIGURES:
            sys.stdout.write(f"{figure}: {report[figure]}\n")


if __name__ == "__main__":
    main()
