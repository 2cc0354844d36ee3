"""Two backends on one Postgres: whichever dies, and the database too, each task is done once."""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path

import pytest

from tests.integration.pair import Pair, drawn
from tests.postgres import PrivatePostgres


def tell(line: str) -> None:
    """Write a line of the report."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_backends_and_their_database_are_killed_and_no_task_is_lost_or_done_twice(
    tmp_path: Path, postgres: PrivatePostgres, capsys: pytest.CaptureFixture[str]
) -> None:
    """INV-STORE-30."""
    seed = os.environ.get("CHAOS_SEED", str(random.SystemRandom().randrange(2**32)))
    tasks = int(os.environ.get("CHAOS_TASKS", "5000"))
    with capsys.disabled(), postgres.database() as url:
        tell(f"\nCHAOS_SEED={seed}")
        pair = Pair(tmp_path, postgres, url, seed, tell)
        report = pair.live_through(tasks, drawn(random.Random(seed), 8, 30.0))
        tell(json.dumps(report, indent=2, sort_keys=True))
    assert report["tasks"] == tasks
    assert report["lost"] == {}
    assert report["leased_twice"] == []
    assert report["accepted_twice"] == []
    assert report["wrong"] == []
    assert report["owners"] >= len(report["kills"])
