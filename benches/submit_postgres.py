"""Measure what a backend takes by HTTP whose store is a Postgres: tasks one by one, and in batches.

    python -m benches.submit_postgres --keep

The server is a process of its own beside the backend, and has all on its disk that it says it has.
`benches.submit` measures the same with SQLite, and what HTTP alone takes. With ``--keep`` the
figures go to the summary of `benches/results/latest.json`. Prints JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path

from benches import page
from benches.submit import batches, described, singles, started
from tests.postgres import PostgresMissing, private_postgres


async def measure(port: int, token: str) -> dict[str, float]:
    """What the backend takes."""
    task = await described(port, token)
    return {
        "submit_postgres_single_per_s": await singles(port, token, task),
        "submit_postgres_batch_per_s": await batches(port, token, task),
    }


def main() -> None:
    """Start both, measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="keep the figures among the results")
    options = parser.parse_args()
    try:
        server = private_postgres(durable=True)
    except PostgresMissing as missing:
        raise SystemExit(str(missing)) from None
    with tempfile.TemporaryDirectory() as home, server as postgres, postgres.database() as url:
        command = ("-m", "fog_compute.server", "--json-logs", "--port", "0", "--home", home)
        with started(sys.executable, *command, FOG_DATABASE_URL=url) as (port, _):
            token = Path(home, "daemon/token").read_text("ascii")
            found = asyncio.run(measure(port, token))
    if options.keep:
        page.add_to_summary(found)
        page.write()
    sys.stdout.write(json.dumps({"summary": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
