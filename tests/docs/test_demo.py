"""The demonstration ends well, and the README shows what it prints."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def demo(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo", root / "examples" / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["demo"] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


def test_readme_shows_the_result_that_the_demo_checks(
    demo: ModuleType, pages: dict[str, str]
) -> None:
    shown = next(line for line in pages["README.md"].splitlines() if line.startswith("result    "))

    assert shown == f"result    {demo._last_line(demo._run_here())}"


def test_readme_shows_every_level_that_the_demo_runs(
    demo: ModuleType, pages: dict[str, str]
) -> None:
    rows = [line.split() for line in pages["README.md"].splitlines() if line.endswith("correct")]

    assert [(row[0], int(row[1])) for row in rows] == [
        (level.upper(), hops) for level, hops in demo.LEVELS.items()
    ]


def test_demo_reads_path_lengths_off_the_counters(demo: ModuleType) -> None:
    counters = demo.Counters({"entry-0": 5, "middle-0": 7, "middle-1": 0, "exit-0": 3}, 5)
    later = demo.Counters({"entry-0": 9, "middle-0": 7, "middle-1": 4, "exit-0": 7}, 9)

    since = later.since(counters)

    assert (since.arrived, since.layers, since.path_length) == (4, 12, 3.0)
    assert (since.middles, since.middles_known) == (1, 2)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_demo_ends_well(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, root / "examples" / "demo.py"],
        capture_output=True,
        check=False,
        cwd=root,
        text=True,
        timeout=240,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("correct") == 4
    assert "every result arrived" in done.stdout
    assert "no process is left" in done.stdout
