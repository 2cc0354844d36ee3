"""What a person meant by a command is done, or asked about in exact words."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from fog_compute.cli import failures, follow, losses
from fog_compute.cli.arguments import inputs_apart
from fog_compute.cli.common import CommandError
from fog_compute.cli.losses import not_lost
from fog_compute.cli.main import run
from fog_compute.cli.names import chosen
from fog_compute.descriptors import LostOutput
from tests.unit.fog_compute.cli.backends import ID, RESULT, ROW, TASK, backend
from tests.unit.fog_compute.modules import COMMAND

Fog = Callable[..., tuple[int, str, str]]

BLOB = (201, json.dumps({"sha256": "0" * 64}).encode())
MADE = (201, json.dumps({"id": ID, "state": "queued", "warning": ""}).encode())
SHOWN = (200, json.dumps(TASK).encode())


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home, and a folder with a module, where commands run."""
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    (here / "m.wasm").write_bytes(COMMAND)
    monkeypatch.chdir(here)
    monkeypatch.setenv("FOG_HOME", str(home))
    return home


@pytest.fixture
def fog(home: Path, capsys: pytest.CaptureFixture[str]) -> Fog:
    """Runs one command in this process: exit code, output, errors."""

    def command(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run(list(arguments))
        return code, *capsys.readouterr()

    return command


def problem(kind: str, detail: str, status: int = 409) -> tuple[int, bytes]:
    body: dict[str, Any] = {"type": f"urn:fog-compute:problem:{kind}", "detail": detail}
    return status, json.dumps(body).encode()


NAMED = (200, json.dumps({"id": ID}).encode())


@pytest.mark.parametrize("name", ["@last", "@1", "@12", "aaaa", ID[:9], ID[-3:].upper()])
@pytest.mark.parametrize(
    "command", [("show",), ("show", "--wait"), ("logs",), ("files",), ("get",), ("cancel",)]
)
def test_every_command_takes_a_few_letters_of_an_id(
    home: Path, fog: Fog, command: tuple[str, ...], name: str
) -> None:
    """INV-WORDS-01: it asks once which task is meant, and for all else by the whole id."""
    files = (200, b'{"files": []}')
    rest = {"files": [files], "get": [files], "cancel": [SHOWN]}.get(
        command[0], [SHOWN, MADE, MADE]
    )
    with backend(home, NAMED, *rest) as asked:
        code, _, errors = fog("task", command[0], name, *command[1:])

    assert code == 0, errors
    assert asked[0] == f"GET /api/v1/tasks/named/{name.lower()}"
    assert all(f"/tasks/{ID}" in one for one in asked[1:])


def test_a_whole_id_is_asked_about_by_nobody(home: Path, fog: Fog) -> None:
    """INV-WORDS-01."""
    with backend(home, SHOWN) as asked:
        assert fog("task", "show", ID.upper())[0] == 0
    assert asked == [f"GET /api/v1/tasks/{ID}"]


@pytest.mark.parametrize("name", ["@0", "@", "last", "@last2", "../x", "a b", "\u00e4", "%"])
def test_a_name_that_no_task_can_have_is_told_what_one_is_like(fog: Fog, name: str) -> None:
    """INV-WORDS-01."""
    code, out, errors = fog("task", "show", name)

    assert (code, out) == ((3, "") if name == "last" else (2, ""))
    assert name == "last" or "nor @last, nor @2 for the last but one" in errors


def test_a_map_and_a_token_are_found_by_a_few_letters_too() -> None:
    """INV-WORDS-01."""
    ids = ["01c9x", "01b7x", "01a7x"]  # newest first

    assert [chosen(name, ids, "map", "look") for name in ("@last", "@3", "9X", "01b", "01a7x")] == [
        *("01c9x", "01a7x", "01c9x", "01b7x", "01a7x")
    ]
    for name, words in (("7x", "several maps begin or end with 7x: 01b7x, 01a7x"), ("z", "no map")):
        with pytest.raises(CommandError, match=words):
            chosen(name, ids, "map", "look")
    with pytest.raises(CommandError, match="no map, nor how an id of one begins or ends: look"):
        chosen("../../x", ids, "map", "look")


class Full(io.RawIOBase):
    """A disk that takes nothing; or a pipe whose reader has gone."""

    def __init__(self, number: int) -> None:
        self._number = number

    def writable(self) -> bool:
        return True

    def write(self, _: object) -> int:
        raise LostOutput(self._number, os.strerror(self._number), "standard output")


@contextlib.contextmanager
def full_disk() -> Iterator[io.StringIO]:
    """Have standard output take nothing; hold what is said of it."""
    monkeypatch = pytest.MonkeyPatch()
    for module in (losses, failures):
        monkeypatch.setattr(module, "drop_output", lambda: None)
    stdout, stderr = io.TextIOWrapper(io.BufferedWriter(Full(errno.ENOSPC), 1)), io.StringIO()
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setattr(sys, "stderr", stderr)
    try:
        yield stderr
    finally:
        monkeypatch.undo()
    with contextlib.suppress(OSError):
        stdout.close()


OUT = (200, b"o" * 99)
NO_ERR = (200, b"")
KEPT = (
    f"standard output: No space left on device; the result of task {ID} is kept: `fog task show"
    f" {ID} --wait` prints it again, `fog task get {ID} --output-dir FOLDER` writes what it left"
)


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_output_that_a_full_disk_does_not_take_is_said_to_be_kept(
    home: Path, more: tuple[str, ...]
) -> None:
    """INV-WORDS-05: whose output it was, that the result is kept, and how to have it."""
    with backend(home, BLOB, MADE, SHOWN, OUT, NO_ERR), full_disk() as full:
        code = run(["run", "m.wasm", *more])

    assert code == 1
    assert KEPT in full.getvalue()


def test_output_whose_reader_has_gone_is_no_news(home: Path) -> None:
    """INV-WORDS-05."""
    with pytest.raises(LostOutput), not_lost("it is kept"):
        raise LostOutput(errno.EPIPE, "Broken pipe", "standard output")


def test_output_that_the_folder_for_temporary_files_does_not_take_is_said_to_be_kept(
    home: Path, fog: Fog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-WORDS-05."""

    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    spool = mock.Mock(write=refuse, __enter__=lambda self: self, __exit__=lambda *_: None)
    monkeypatch.setattr(follow, "_spool", lambda: contextlib.nullcontext(spool))
    with backend(home, BLOB, MADE, SHOWN, OUT):
        code, _, errors = fog("run", "m.wasm")

    assert code == 1
    assert "the task's output cannot be put into" in errors
    assert "No space left on device (TMPDIR names another folder); the result of task" in errors


def test_results_of_a_map_that_a_full_disk_does_not_take_can_be_had_again(home: Path) -> None:
    """INV-WORDS-05."""
    batch = (201, json.dumps({"batch": ID, "tasks": [ID], "warning": ""}).encode())
    event = {"task": ID, "state": "accepted"}
    events = (200, json.dumps({"events": [event], "next": 1}).encode())
    Path("in.txt").write_text("x")
    with backend(home, BLOB, BLOB, batch, events, SHOWN, OUT), full_disk() as full:
        assert run(["map", "m.wasm", "in.txt"]) == 1

    (plan,) = (home / "maps").iterdir()
    assert (
        "standard output: No space left on device; the results are kept, and `fog map --resume"
        f" {plan.stem}` gives them again"
    ) in full.getvalue()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"wall_ms": 5700, "compile_ms": 2100, "fuel_used": None, "peak_memory": None},
            "5.7 s after 2.1 s of compiling",
        ),
        (
            {"wall_ms": 40, "fuel_used": 7, "peak_memory": 65536},
            "40 ms, 7 fuel, 64.0 KiB of memory",
        ),
    ],
)
def test_a_figure_that_nobody_knows_is_not_shown(
    home: Path, fog: Fog, change: dict[str, object], words: str
) -> None:
    """INV-WORDS-06: and compiling stands beside running, so that the limit adds up."""
    task = {**TASK, "hops": 1, "result": {**RESULT, **change}}
    with backend(home, (200, json.dumps(task).encode())):
        shown = fog("task", "show", ID)[1].splitlines()

    assert f"ran         {words}" in shown
    assert "privacy     private, 1 hop" in shown
    assert "state       done" in shown


def test_tasks_that_are_done_are_listed_and_asked_for_as_done(home: Path, fog: Fog) -> None:
    """INV-WORDS-06: JSON keeps the backend's word."""
    page = (200, json.dumps({"tasks": [ROW]}).encode())
    with backend(home, page, page, page) as asked:
        table = fog("task", "ls", "--state", "done")[1]
        as_json = fog("task", "ls", "--state", "accepted", "--json")[1]
        fog("task", "ls", "--state", "failed")

    assert table.splitlines()[1].split()[1] == "done"
    assert json.loads(as_json)[0]["state"] == "accepted"
    assert [one.partition("state=")[2] for one in asked] == ["accepted", "accepted", "failed"]


FLAGS = frozenset({"--json", "--force", "--help"})


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("m --input a b c", "m --input a --input b --input c"),
        ("m x --input a b --stdin - y", "m x --input a --input b --stdin - y"),
        ("m --input a b=in/b d/* --json x", "m --input a --input b=in/b --input d/* --json x"),
        ("m --input a b -- -n 3 --input c d", "m --input a --input b -- -n 3 --input c d"),
        ("m --input a --input b c", "m --input a --input b --input c"),
        ("--input a m", "--input a m"),
        ("--memory 1 m --input a b", "--memory 1 m --input a --input b"),
        ("--json m --input a b", "--json m --input a --input b"),
        (
            "--memory=1 --json --input a m --input b c",
            "--memory=1 --json --input a m --input b --input c",
        ),
        ("m --input=a x", "m --input=a x"),
        ("m --input", "m --input"),
        ("m --input none", "m --input none"),
        ("m --env --input a b", "m --env --input a b"),
        ("", ""),
    ],
)
def test_files_in_a_row_behind_input_are_all_inputs(home: Path, given: str, meant: str) -> None:
    """INV-WORDS-02: as a shell makes them of an unquoted glob."""
    for name in "abcm":
        Path(name).touch()

    assert inputs_apart(given.split(), FLAGS) == meant.split()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("m --input a 5", "5 stands behind --input and is no file: arguments of the module stand"),
        ("m --input a b none", "none stands behind --input and is no file"),
        ("--input a b m", "which of a b m is the module? Give it before --input: `fog run MODULE"),
    ],
)
def test_what_may_be_meant_otherwise_behind_input_is_asked_about(
    home: Path, given: str, words: str
) -> None:
    """INV-WORDS-02."""
    for name in "abm":
        Path(name).touch()

    with pytest.raises(CommandError, match=re.escape(words)):
        inputs_apart(given.split(), FLAGS)


def test_run_sends_every_file_that_a_shell_made_of_a_glob(home: Path, fog: Fog) -> None:
    """INV-WORDS-02: and none of them is an argument."""
    for name in ("a.csv", "b.csv"):
        Path(name).write_text(name)
    answers = [BLOB] * 3
    with backend(home, *answers, MADE) as asked:
        done = fog("run", "m.wasm", "--detach", "--input", "a.csv", "b.csv")
    refused = fog("run", "m.wasm", "--input", "a.csv", "b.cvs")

    assert done == (0, f"{ID}\n", "")
    assert len(asked) == 4
    assert refused[0] == 2
    assert "b.cvs stands behind --input and is no file" in refused[2]


def test_a_task_that_no_worker_can_take_now_ends_the_command(home: Path, fog: Fog) -> None:
    """INV-WORDS-09."""
    refusal = problem(
        "no-worker", "none lends it: lower `limits.memory_bytes`, or wait with `wait_for_worker`"
    )
    said = "none lends it: lower --memory, or wait with --wait-for-worker"
    with backend(home, BLOB, refusal, BLOB, refusal, BLOB, MADE) as asked:
        plain = fog("run", "m.wasm", "--memory", "3GiB")
        as_json = fog("run", "m.wasm", "--memory", "3GiB", "--json")
        waits = fog("run", "m.wasm", "--memory", "3GiB", "--wait-for-worker", "--detach")

    assert plain == (1, "", f"fog: {said}\n")
    assert as_json[0] == 1
    error = json.loads(as_json[1])["error"]
    assert (error["type"], error["message"]) == ("urn:fog-compute:problem:no-worker", said)
    assert waits[:2] == (0, f"{ID}\n")
    assert len(asked) == 6
