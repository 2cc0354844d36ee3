"""`fog db` where something is wrong, and where a fog is in the way."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from fog_compute.cli import main
from fog_compute.client.lock import HomeLock
from fog_compute.layout import HomeLayout
from tests.unit.fog_compute.cli.prepared import has_backup, has_database

MISSING_BLOB = "f" * 64


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    monkeypatch.setenv("FOG_HOME", str(home))
    monkeypatch.setenv("NO_COLOR", "1")
    has_database(home, monkeypatch)
    with closing(sqlite3.connect(home / "daemon" / "fog.db")) as database, database:
        for number in range(23):
            database.execute("INSERT INTO task_blobs VALUES (?, ?)", [number, MISSING_BLOB])
    return home


def test_check_names_the_faults_and_fails(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["db", "check"]) == 1
    done = capsys.readouterr()
    assert "database: task_blobs row 1: what it names in tasks is not there" in done.out
    assert done.out.endswith("and 4 more\n")
    assert done.err == "fog: 24 things are wrong with the database\n"

    assert main.run(["db", "check", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert len(told["faults"]) == 24
    assert told["faults"][-1] == {
        "kind": "blob",
        "name": MISSING_BLOB,
        "reason": "it is not there",
    }
    assert told["error"]["exit_code"] == 1


@pytest.mark.parametrize(("of_fog", "own"), [(True, False), (False, True)])
def test_another_database_than_that_of_the_fog_that_runs_is_left_alone(
    of_fog: bool,
    own: bool,
    home: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if own:
        monkeypatch.setenv("FOG_DATABASE_URL", f"sqlite:///{home}/daemon/fog.db")
    state = {"pid": 1, "url": "u", "started_at": "s", "version": "v", "children": {}}
    state |= {"troubles": {}, "database_given": of_fog}
    (home / "fog.json").write_text(json.dumps(state))
    assert main.run(["db", "backup", str(tmp_path / "stopped")]) == 1  # as nothing runs: made
    assert (tmp_path / "stopped").is_dir()
    lock = HomeLock(HomeLayout(home))
    assert lock.take()
    try:
        for words in (["check"], ["backup", str(tmp_path / "copy")]):
            capsys.readouterr()
            assert main.run(["db", *words]) == 1
            assert "give the command the settings of the fog" in capsys.readouterr().err
    finally:
        lock.give_back()
    assert not (tmp_path / "copy").exists()


def test_backup_that_lacks_something_says_so_and_is_there(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["db", "backup", str(tmp_path / "copy")]) == 1
    assert "1 blobs are not in the backup" in capsys.readouterr().err
    assert (tmp_path / "copy" / "fog.db").is_file()


@pytest.mark.parametrize("words", [("restore", "{home}/backup", "--force"), ("vacuum",)])
def test_running_fog_is_not_worked_upon(
    home: Path,
    words: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lock = HomeLock(HomeLayout(home))
    assert lock.take()
    try:
        assert main.run(["db", *(word.format(home=home) for word in words)]) == 1
    finally:
        lock.give_back()
    assert "stop it with `fog down` first" in capsys.readouterr().err


def test_postgres_is_told_its_own_commands_without_its_password(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FOG_DATABASE_URL", "postgresql://fog:hunter2@db.example/fog")
    for words, command in ((["backup", "x"], "pg_dump"), (["restore", "x"], "pg_restore")):
        assert main.run(["db", *words]) == 1
        said = capsys.readouterr().err
        assert command in said
        assert "hunter2" not in said


def test_unchanged_backup_is_taken_back_by_the_same_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "other"
    monkeypatch.setenv("FOG_HOME", str(home))
    has_backup(home, monkeypatch)
    assert main.run(["db", "restore", str(home / "backup")]) == 1
    assert "--force replaces it" in capsys.readouterr().err
