"""What goes with a task: files, folders, globs, and standard input that nobody asked for."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fog_compute.cli import sources
from fog_compute.cli.sources import add_all, piped_input
from fog_compute.client.inputs import Inputs, source_of
from fog_compute.client.sources import Source
from fog_compute.errors import FogError, Unreadable

from .backends import TASK, backend


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with files, and the present one."""
    for path in ("data/a.csv", "data/sub/b.csv", "data/sub/c.txt", "x=y", "one.txt", "[odd].txt"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def gathered(*texts: str) -> dict[str, str]:
    inputs = Inputs(None)
    add_all(inputs, texts)
    return {name: b"".join(one.pieces()).decode() for name, one in inputs.by_name.items()}


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        (("one.txt",), {"one.txt": "one.txt"}),
        (("one.txt=in/a",), {"in/a": "one.txt"}),
        (("x=y",), {"x=y": "x=y"}),
        (("x=y=z",), {"z": "x=y"}),
        (("data",), {"data/a.csv": 1, "data/sub/b.csv": 1, "data/sub/c.txt": 1}),
        (("data/",), {"data/a.csv": 1, "data/sub/b.csv": 1, "data/sub/c.txt": 1}),
        (("data=in/d",), {"in/d/a.csv": 1, "in/d/sub/b.csv": 1, "in/d/sub/c.txt": 1}),
        (("data=.",), {"a.csv": 1, "sub/b.csv": 1, "sub/c.txt": 1}),
        (("data/sub/..",), {"a.csv": 1, "sub/b.csv": 1, "sub/c.txt": 1}),
        (("data/*.csv",), {"a.csv": 1}),
        (("data/sub/*",), {"b.csv": 1, "c.txt": 1}),
        (("data/**/*.csv=in",), {"in/a.csv": 1, "in/b.csv": 1}),
        (("[odd].txt",), {"[odd].txt": 1}),
        (("one.txt", "data/sub=s"), {"one.txt": 1, "s/b.csv": 1, "s/c.txt": 1}),
    ],
)
def test_files_folders_and_globs_are_taken_under_their_names(
    here: Path, texts: tuple[str, ...], names: dict[str, object]
) -> None:
    found = gathered(*texts)
    assert set(found) == set(names)
    for name, text in found.items():
        assert Path(text).name == Path(text if names[name] == 1 else str(names[name])).name


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (("none.txt",), "none.txt does not exist"),
        (("none/*.txt",), "no file matches"),
        (("data/*",), ""),
        (("empty",), "holds no file"),
        (("data/a.csv", "other/a.csv"), "two input files would be 'a.csv'"),
        (("pipes",), "is no file"),
        (("dangling",), "does not exist"),
    ],
)
def test_what_cannot_be_taken_is_named(here: Path, texts: tuple[str, ...], words: str) -> None:
    for folder in ("empty", "other", "pipes", "dangling"):
        (here / folder).mkdir()
    (here / "other" / "a.csv").write_text("")
    os.mkfifo(here / "pipes" / "p")  # to read it would take for ever
    (here / "dangling" / "link").symlink_to("nowhere")
    if not words:  # folders that a glob finds are left out
        assert set(gathered(*texts)) == {"a.csv"}
        return
    with pytest.raises(FogError, match=words):
        gathered(*texts)


def test_more_files_than_a_task_may_have_are_refused_before_they_are_looked_at(here: Path) -> None:
    many = here / "many"
    many.mkdir()
    for number in range(300):
        (many / f"{number:03}").touch()
    with pytest.raises(FogError, match="more than 256 input files with many/256"):
        gathered("many")


def test_a_file_that_becomes_shorter_is_not_sent_as_it_was(here: Path) -> None:
    source = source_of("one.txt", "input")
    (here / "one.txt").write_text("x")
    with pytest.raises(Unreadable, match="became shorter"):
        list(source.pieces())
    (here / "one.txt").write_text("x" * 1000)
    assert b"".join(source.pieces()) == b"x" * 7


@contextlib.contextmanager
def standard_input(descriptor: int) -> Iterator[None]:
    """Have this process read from a descriptor for a while."""
    before = os.dup(0)
    os.dup2(descriptor, 0)
    try:
        yield
    finally:
        os.dup2(before, 0)
        os.close(before)


@pytest.mark.parametrize(
    ("path", "skip", "words"),
    [
        ("/dev/null", 0, ""),
        ("/dev/zero", 0, "is a device, and is not sent: give --stdin - to read it to its end"),
        ("file", 0, "goes with the task"),
        ("file", 2, ""),
    ],
)
def test_standard_input_that_is_left_is_said_to_be_left(
    tmp_path: Path, path: str, skip: int, words: str
) -> None:
    """INV-WORDS-02."""
    (tmp_path / "file").write_text("text")
    descriptor = os.open(tmp_path / path, os.O_RDONLY)
    if skip:
        os.lseek(descriptor, skip, os.SEEK_SET)
    try:
        with standard_input(descriptor):
            source, said = piped_input()
    finally:
        os.close(descriptor)
    assert (source is not None) is ("goes with" in said)
    assert words in said
    assert bool(said) is bool(words)


def taken(source: Source | None) -> bytes | None:
    return None if source is None else b"".join(source.pieces())


@pytest.mark.parametrize("data", [b"text", b""])
@pytest.mark.parametrize("kind", ["pipe", "socket", "file"])
def test_standard_input_that_brings_something_is_taken_unasked(
    tmp_path: Path, kind: str, data: bytes
) -> None:
    if kind == "pipe":
        reading, writing = os.pipe()
        os.write(writing, data)
        os.close(writing)
    elif kind == "socket":
        ours, theirs = socket.socketpair()
        ours.sendall(data)
        ours.close()
        reading = theirs.detach()
    else:
        (tmp_path / "file").write_bytes(data)
        reading = os.open(tmp_path / "file", os.O_RDONLY)
    try:
        with standard_input(reading):
            source, said = piped_input()
    finally:
        os.close(reading)
    assert taken(source) == (data or None)
    assert ("</dev/null keeps it" in said) is bool(data)


def test_standard_input_that_nobody_writes_to_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As under a service that holds the other end and never writes."""
    monkeypatch.setattr(sources, "PIPE_WAIT_S", 0.01)
    reading, writing = os.pipe()
    try:
        with standard_input(reading):
            source, said = piped_input()
    finally:
        os.close(reading)
        os.close(writing)
    assert source is None
    assert "give --stdin - to wait for it" in said


def test_standard_input_that_begins_a_moment_later_is_taken_whole() -> None:
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb") as file:
            for _ in range(10):
                file.write(b"x" * 10_000)

    late = threading.Timer(0.05, write)
    try:
        with standard_input(reading):
            late.start()
            source, _ = piped_input()
    finally:
        os.close(reading)
        late.join()
    assert taken(source) == b"x" * 100_000


@pytest.mark.parametrize("how", ["null", "terminal", "closed", "read", "folder"])
def test_standard_input_that_is_nobodys_is_left_alone(tmp_path: Path, how: str) -> None:
    """Of a file that another reads line by line, as in a shell's loop, nothing is taken either."""
    (tmp_path / "file").write_bytes(b"one\ntwo\n")
    other: int | None = None
    if how == "terminal":
        other, reading = os.openpty()
    else:
        path = {"null": Path("/dev/null"), "folder": tmp_path}.get(how, tmp_path / "file")
        reading = os.open(path, os.O_RDONLY)
    if how == "read":
        os.read(reading, 4)
    try:
        with standard_input(reading):
            if how == "closed":
                os.close(0)
            assert piped_input() == (None, "")
    finally:
        os.close(reading)
        if other is not None:
            os.close(other)


def test_a_pipe_goes_with_the_task_and_large_files_go_piece_by_piece(tmp_path: Path) -> None:
    module = tmp_path / "m.py"
    module.write_text("print()")
    large = tmp_path / "large"
    large.write_bytes(bytes(range(256)) * 5000)
    blobs = [(201, json.dumps({"sha256": c * 64}).encode()) for c in "abc"]
    made = (201, json.dumps({**TASK, "warning": ""}).encode())
    with backend(tmp_path, *blobs, made) as asked:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "fog_compute.cli.main", "run", str(module)),
                *("--detach", "--input", str(large)),
            ],
            env={**os.environ, "FOG_HOME": str(tmp_path)},
            input=b"piped",
            capture_output=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 0, done.stderr
    assert b"standard input (5 B) goes with the task" in done.stderr
    assert [line.split()[:2] for line in asked] == [["POST", "/api/v1/blobs"]] * 3 + [
        ["POST", "/api/v1/tasks"]
    ]
