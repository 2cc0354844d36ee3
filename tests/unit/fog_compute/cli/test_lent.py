"""What the owner of a lent machine is shown."""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path

import msgspec
import pytest

from fog_compute.cli import lent, main
from fog_compute.cli.common import CommandError
from fog_compute.errors import ConfigError
from fog_compute.layout import HomeLayout
from fog_compute.levels import PrivacyLevel
from fog_compute.worker.protocol import Wall
from fog_compute.worker.report import (
    REPORT_FILE,
    TOLD_EVERY_S,
    Counts,
    Listing,
    ReportFile,
    WorkerReport,
    read_report,
    write_report,
)

REPORT = WorkerReport(
    levels=(
        Listing("worker-1", PrivacyLevel.PUBLIC, listed=True),
        Listing("worker-2", PrivacyLevel.SECRET, reason="no edge answers"),
    ),
    groups=("lab",),
    kinds=("wasm",),
    slots=3,
    able=2,
    running=1,
    waiting=4,
    queue=64,
    memory_bytes=2**30,
    walls=(Wall("seccomp", True, "118 calls"), Wall("landlock", False, "an old kernel")),
    trouble="the disk is full",
    cache_bytes=5,
    cache_limit=2**30,
    kept_bytes=6,
    kept_limit=2**30,
    counts=Counts(taken=11, finished=7, lost=1, returned=2, turned_away=13),
    lacking="the package is not installed",
    wall_s=600,
    scratch_bytes=2 * 2**30,
    output_bytes=3 * 2**30,
    http="http://127.0.0.1:9100",
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of a worker that was lent by `fog worker start`."""
    monkeypatch.setenv("FOG_HOME", str(tmp_path))
    home = tmp_path / "lent" / "worker-0"
    home.mkdir(parents=True)
    (home / "worker.lock").touch()
    write_report(home, msgspec.json.encode(REPORT))
    return home


def test_owner_sees_level_by_level_how_the_machine_is_lent(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (home / "worker.lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert lent.status() == 0
        shown = capsys.readouterr().out
        assert lent.status(json=True) == 0
        told = json.loads(capsys.readouterr().out)
    for line in (
        f"worker   {home} runs",
        "public   listed as worker-1",
        "secret   not listed: no edge answers",
        "groups   lab",
        "scripts  none: the package is not installed",
        "slots    3",
        "able     2 of 3 slots can run tasks",
        "wall     10 min 00 s for one task",
        "scratch  2.0 GiB for one task",
        "output   3.0 GiB for one task, each stream and files",
        "now      1 run, 4 of at most 64 wait",
        "did      11 taken, 7 finished, 1 lost, 2 given back",
        "refused  13 requests of strangers",
        "walls    seccomp",
        "without  landlock: an old kernel",
        "watched  at http://127.0.0.1:9100/health and http://127.0.0.1:9100/metrics",
        "trouble  the disk is full",
    ):
        assert line in shown.splitlines()
    assert told[0]["runs"] is True
    assert told[0]["running"] == REPORT.running
    assert told[0]["counts"] == msgspec.to_builtins(REPORT.counts)


def test_worker_that_tells_nothing_any_more_is_not_shown_as_if_all_were_well(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = ReportFile(home)
    file.tell(msgspec.json.encode(REPORT), 1000.0)
    with (home / "worker.lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        long_ago = time.time() - 40
        os.utime(home / REPORT_FILE, (long_ago, long_ago))
        assert lent.status() == 0
        assert (
            "silent   it hangs, or is frozen: it has told nothing since 20"
            in capsys.readouterr().out
        )
        file.tell(msgspec.json.encode(REPORT), 1000.0 + TOLD_EVERY_S / 2)
        assert lent.status(json=True) == 0
        assert json.loads(capsys.readouterr().out)[0]["silent"] is True
        file.tell(msgspec.json.encode(REPORT), 1000.0 + TOLD_EVERY_S)
        assert lent.status() == 0
        assert "silent" not in capsys.readouterr().out


def test_why_a_worker_that_runs_takes_no_scripts_is_said(home: Path) -> None:
    layout = HomeLayout(home.parents[1])
    assert lent.lacking_scripts(layout) == []
    with (home / "worker.lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        why = "worker-0 runs no scripts yet: the package is not installed"
        assert lent.lacking_scripts(layout) == [why]
        write_report(home, msgspec.json.encode(msgspec.structs.replace(REPORT, lacking="")))
        assert lent.lacking_scripts(layout) == []
        write_report(home, b"{")
        assert lent.lacking_scripts(layout) == []


def test_worker_that_does_not_run_is_listed_nowhere(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CommandError, match="fog worker start"):
        lent.status()
    shown = capsys.readouterr().out
    assert f"{home} does not run; it last told of itself at 20" in shown
    assert "11 taken, 7 finished, 1 lost, 2 given back, when it ran last" in shown
    for current in ("listed", "can run", " wait", "the disk is full", "seccomp", "not installed"):
        assert current not in shown


def test_figures_of_a_worker_that_does_not_run_are_none_in_json(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["worker", "status", "--json"]) == 3
    told = json.loads(capsys.readouterr().out)
    (worker,) = told["workers"]
    assert told["error"]["exit_code"] == 3
    assert [worker[name] for name in ("able", "running", "waiting", "walls")] == [None] * 4
    assert [level["listed"] for level in worker["levels"]] == [False, False]
    assert (worker["runs"], worker["wall_s"]) == (False, 600)


def test_damaged_report_is_one_line(home: Path) -> None:
    for damaged in (b"", b"[1]", b"[" * 100_000):
        (home / REPORT_FILE).write_bytes(damaged)
        with pytest.raises(ConfigError, match=REPORT_FILE):
            read_report(home)
    (home / REPORT_FILE).unlink()
    assert read_report(home) is None
