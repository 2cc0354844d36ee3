"""Kill two backends on one Postgres in turns, and that too; count what is lost or done twice.

    python -m benches.pair --tasks 5000 --seed 1 --json

With ``--keep`` the report goes to `benches/results/pair.json`, and its figures to the summary, as
`make bench-chaos` has it. Each task has an answer that is known beforehand; what became of them is
read from the database after both fogs have stopped.
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
from benches.chaos import note
from benches.origin import origin
from tests.integration.pair import Pair, drawn
from tests.postgres import PostgresMissing, private_postgres

TASKS: Final = 5000
KILLS: Final = 8
AWAY_S: Final = 30.0


def measure(tasks: int, kills: int, away_s: float, seed: str) -> dict[str, Any]:
    """Live through so many kills of backends and one of Postgres, and report.

    Raises:
        SystemExit: there is no Postgres on this machine.
    """
    try:
        server = private_postgres()
    except PostgresMissing as missing:
        raise SystemExit(str(missing)) from None
    blows = drawn(random.Random(seed), kills, away_s)
    with tempfile.TemporaryDirectory() as folder, server as postgres, postgres.database() as url:
        return Pair(Path(folder), postgres, url, seed, note).live_through(tasks, blows)


def figures(report: dict[str, Any]) -> dict[str, float]:
    """What a summary has of a report."""
    return {
        "pair_tasks": report["tasks"],
        "pair_lost": len(report["lost"]) + len(report["wrong"]),
        "pair_leased_twice": len(report["leased_twice"]),
        "pair_accepted_twice": len(report["accepted_twice"]),
        "pair_back_s": max(second for each in report["moves_again_s"].values() for second in each),
    }


def main() -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=TASKS, help="tasks to be done")
    parser.add_argument("--kills", type=int, default=KILLS, help="backends to kill")
    parser.add_argument("--away", type=float, default=AWAY_S, help="seconds without Postgres")
    parser.add_argument("--seed", default=str(random.SystemRandom().randrange(2**32)))
    parser.add_argument("--keep", action="store_true", help="keep the report among the results")
    parser.add_argument("--json", action="store_true", help="print the whole report as JSON")
    options = parser.parse_args()
    note(f"seed {options.seed}")
    report = measure(options.tasks, options.kills, options.away, options.seed)
    found = figures(report)
    if options.keep:
        kept = report | {"figures": found, "away_s": options.away}
        kept |= origin("crates", "src", "Cargo.lock")
        page.PAIR.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n", "utf-8")
        page.add_to_summary(found)
        page.write()
    if options.json:
        sys.stdout.write(json.dumps(report, indent=2, sort_keys=True) + "\n")
    else:
        for name, figure in found.items():
            sys.stdout.write(f"{name}: {figure}\n")


if __name__ == "__main__":
    main()
