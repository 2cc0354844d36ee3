"""Every process of a busy fog is killed and frozen, and its clock jumps: no task comes to harm."""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from tests.integration.blows import CLASSES, Blow, drawn
from tests.integration.upheaval import Upheaval

FREEZES_S: Final = (1.0, 3.0, 14.0)
"""The last is longer than a lease."""


def tell(text: str) -> None:
    """Write a line of the report."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def check(report: dict[str, Any]) -> None:
    """All tasks were accepted, once, with the right bytes."""
    tell(json.dumps(report, indent=2, sort_keys=True))
    assert report["lost"] == {}
    assert report["twice"] == {}
    assert report["wrong"] == {}


@pytest.mark.timeout(300)
def test_every_task_is_accepted_once_whatever_is_killed_or_frozen(
    tmp_path: Path, wall_clock_shim: Path
) -> None:
    """INV-TASK-135, INV-TASK-136."""
    seed = os.environ.get("CHAOS_SEED", "7")
    blows = [*(Blow("kill", target, hurried=target == "runner") for target in CLASSES)]
    blows += [Blow("freeze", "worker", 1.5, hurried=True), Blow("jump", "all", -3_600)]
    random.Random(seed).shuffle(blows)

    check(Upheaval(tmp_path, wall_clock_shim, seed, tell).live_through(blows))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_task_is_accepted_once_through_long_chaos(
    tmp_path: Path, wall_clock_shim: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """INV-TASK-135, INV-TASK-136."""
    seed = os.environ.get("CHAOS_SEED", str(random.SystemRandom().randrange(2**32)))
    blows = drawn(random.Random(seed), 30, FREEZES_S)
    with capsys.disabled():
        tell(f"\nCHAOS_SEED={seed}")
        report = Upheaval(tmp_path, wall_clock_shim, seed, tell).live_through(blows)
        check(report)
    assert min(report["kills"][target] for target in CLASSES) >= 3
