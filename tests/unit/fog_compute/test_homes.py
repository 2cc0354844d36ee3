"""Home folders with odd paths: used as they are, or refused before anything is made."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from fog_compute.config import load_settings
from fog_compute.errors import ConfigError, StoreUnusable
from fog_compute.layout import (
    DATABASE_PATH_BYTES,
    HOME_BYTES,
    WORKER_HOME_BYTES,
    default_home,
    usable_home,
)
from fog_compute.store import Store

NAMES = ["a?mode=memory", "%41", "a#b", "a&b=c", "a b", "ü", ":memory:", "file:x", "n\new", "a%"]


def names_in(folder: Path) -> list[bytes]:
    return sorted(os.fsencode(path.name) for path in folder.iterdir())


def below(folder: Path, length: int) -> Path:
    """A path of exactly this many bytes below a folder; the folder above it is made."""
    path = folder
    while (left := length - len(bytes(path)) - 1) > 250:
        path /= "d" * 200
    path.mkdir(parents=True, exist_ok=True)
    return path / ("e" * left)


@pytest.mark.asyncio
@pytest.mark.parametrize("name", NAMES)
async def test_database_lies_where_the_home_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("FOG_HOME", str(tmp_path / name))
    settings = load_settings()

    async with await Store.open(settings.database) as store:
        assert await store.statistics.by_level()

    assert names_in(tmp_path) == [os.fsencode(name)]
    assert (tmp_path / name / "daemon" / "fog.db").stat().st_size > 0


@pytest.mark.asyncio
async def test_longest_path_of_a_database_fits_and_one_more_byte_is_refused(
    tmp_path: Path,
) -> None:
    longest = below(tmp_path, DATABASE_PATH_BYTES)
    async with await Store.open(longest) as store:
        assert await store.statistics.by_level()
    with pytest.raises(sqlite3.OperationalError):
        sqlite3.connect(longest.with_name(longest.name + "e")).execute("PRAGMA journal_mode=WAL")

    with pytest.raises(StoreUnusable, match=f"longer than {DATABASE_PATH_BYTES} bytes"):
        await Store.open(longest.with_name(longest.name + "e"))


def test_longest_home_has_room_for_everything_and_one_more_byte_is_refused(
    tmp_path: Path,
) -> None:
    longest = below(tmp_path, HOME_BYTES)
    settings = load_settings(home=longest)
    for path in (
        settings.layout.database,
        settings.layout.worker(63) / "attempts.db",
    ):
        path.parent.mkdir(parents=True)
        with sqlite3.connect(path) as database:
            database.execute("PRAGMA journal_mode=WAL")
        database.close()

    with pytest.raises(ConfigError, match=f"has {HOME_BYTES + 1} bytes, and {HOME_BYTES} fit"):
        load_settings(home=longest.with_name(longest.name + "e"))
    worker = settings.layout.worker(63)
    assert usable_home(worker, WORKER_HOME_BYTES) == worker


def test_link_to_a_long_path_is_as_long_as_it(tmp_path: Path) -> None:
    (tmp_path / "short").symlink_to(below(tmp_path, HOME_BYTES + 7))

    with pytest.raises(ConfigError, match=f"has {HOME_BYTES + 7} bytes"):
        usable_home(tmp_path / "short")


def refused(tmp_path: Path, environment: dict[str, str], *command: str) -> str:
    """Run a command that has to refuse; return its one line."""
    before = names_in(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", *command],
        capture_output=True,
        check=False,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], **environment},
        timeout=60,
    )
    assert done.returncode in (2, 78), done.stderr
    text = (done.stderr or done.stdout).decode()
    assert text.count("\n") == 1
    assert names_in(tmp_path) == before
    return text


@pytest.mark.parametrize("command", [("up",), ("up", "--detach"), ("status",)])
def test_home_that_is_no_text_is_refused_before_anything_is_made(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    home = os.fsdecode(bytes(tmp_path) + b"/q\xffx")

    line = refused(tmp_path, {"FOG_HOME": home}, "fog_compute.cli.main", *command)

    assert r"q\xffx" in line.replace("\\\\", "\\")
    assert "no UTF-8 text" in line


def test_worker_and_backend_refuse_such_a_home_too(tmp_path: Path) -> None:
    home = os.fsdecode(bytes(tmp_path) + b"/q\xffx")
    for command in (
        ("fog_compute.server", "--home", home),
        ("fog_compute.worker", "--home", home, "--net", "/nowhere", "--groups", "/nowhere"),
    ):
        assert "no UTF-8 text" in refused(tmp_path, {}, *command)


def test_user_without_a_home_is_told_to_name_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container that runs with a number that is in no list of users."""
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.delenv("FOG_HOME", raising=False)
    monkeypatch.chdir(tmp_path)

    def nobody(_: int) -> object:
        raise KeyError

    monkeypatch.setattr("pwd.getpwuid", nobody)

    with pytest.raises(ConfigError, match="no home folder: say with FOG_HOME"):
        default_home()
    with pytest.raises(ConfigError, match="no home folder: say with FOG_HOME"):
        load_settings()
    assert list(tmp_path.iterdir()) == []


def test_path_below_the_home_of_nobody_is_refused() -> None:
    with pytest.raises(ConfigError, match="'~nobody-is-called-so/fog' names no user's home"):
        load_settings(home="~nobody-is-called-so/fog")


def test_deleted_current_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    with pytest.raises(ConfigError, match="'here' begins in the current folder, which is deleted"):
        load_settings(home="here")
    assert load_settings(home=tmp_path).home == tmp_path
