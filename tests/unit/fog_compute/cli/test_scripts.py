"""What `fog run` does for a script before anything is sent."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from fog_compute.cli import run
from fog_compute.client import inputs as sending
from fog_compute.client import scripts
from fog_compute.client.scripts import argument_files, check_script, kind_of, own_name
from fog_compute.errors import InvalidTask
from fog_compute.tasks import TaskKind
from fog_compute.tasks.runtimes import PYTHON
from tests.unit.fog_compute.cli.backends import TASK, backend
from tests.unit.fog_compute.cli.test_patience import run_fog


@pytest.mark.parametrize(
    ("path", "data", "asked", "kind"),
    [
        ("job.py", b"", None, "python"),
        ("job.wasm", b"\0asm", None, "wasm"),
        ("job", b"#!/usr/bin/env python3\nprint()", None, "python"),
        ("job", b"#!/usr/bin/python3.12 -u\n", None, "python"),
        ("job", b"#!/bin/sh\npython job.py", None, "wasm"),
        ("job.py", b"\0asm", TaskKind.WASM, "wasm"),
        ("job.txt", b"print()", TaskKind.PYTHON, "python"),
    ],
)
def test_kind_follows_from_the_flag_the_name_or_the_first_line(
    path: str, data: bytes, asked: TaskKind | None, kind: str
) -> None:
    assert kind_of(path, data, asked) == kind


def test_a_script_has_its_own_name_in_the_sandbox_unless_that_cannot_be() -> None:
    assert own_name("a/b/job.py") == "job.py"
    assert own_name("tmp") is None
    assert own_name("a\nb.py") is None


def test_arguments_that_name_files_below_the_folder_go_along_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    (here / "data").mkdir(parents=True)
    for own in ("tmp", "out"):  # a task begins with these empty
        (here / own).mkdir()
    for name in ("out/d.csv", "a.csv", "data/b.csv", "-x", "tmp/c.csv", "../above.csv"):
        (here / name).write_text("1")
    monkeypatch.chdir(here)
    arguments = [
        *(
            "a.csv",
            "./data/../data/b.csv",
            "-x",
            "tmp/c.csv",
            "out/d.csv",
            "../above.csv",
            "data",
            "none.csv",
        ),
        *(str(here / "a.csv"), "a\0b", "n" * 5000, "\udcff", "../here/a.csv", ""),
    ]
    assert argument_files(arguments) == {
        "a.csv": "a.csv",
        "data/b.csv": "./data/../data/b.csv",
        "-x": "-x",
    }


BROKEN = b"x = 1\ndef f(:\n"


def test_a_syntax_error_is_refused_by_the_same_grammar_and_told_by_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scripts.sys, "version_info", (*PYTHON.version, 1))  # type: ignore[attr-defined]
    with pytest.raises(InvalidTask, match=r"job\.py.*, line 2: .*invalid syntax"):
        check_script("job.py", BROKEN, ())

    monkeypatch.setattr(scripts.sys, "version_info", (3, 99, 1))  # type: ignore[attr-defined]
    (hint,) = check_script("job.py", BROKEN, ())
    assert "job.py, line 2: invalid syntax (says Python 3.99; the task runs in Python 3.12" in hint


@pytest.mark.parametrize(
    "source", [b"print('\xff')", b"x\0", b"(" * 5000, b"-" * 200_000 + b"1", b"return"]
)
def test_what_cannot_be_parsed_is_one_line(source: bytes) -> None:
    try:
        (said,) = check_script("job.py", source, ())
    except InvalidTask as error:
        said = error.message
    assert "job.py" in said
    assert "\n" not in said


def test_modules_that_no_worker_has_and_no_input_brings_are_named() -> None:
    source = b"""from __future__ import annotations
import json, numpy.linalg as n
from pandas import DataFrame
import helper, local.deep
from . import sibling
try:
    import optional
except ImportError:
    pass
def f():
    import later
"""
    (hint,) = check_script("job.py", source, ("helper.py", "vendored/local/deep.py", "data.csv"))
    assert "imports numpy, pandas, which Python 3.12 on the workers does not have" in hint
    assert check_script("job.py", b"import csv, random, statistics, sqlite3", ()) == []
    large = b"\n" * (scripts.LOOKED_THROUGH_BYTES + 1) + BROKEN
    assert check_script("job.py", large, ()) == []


def test_a_script_goes_with_the_files_that_its_arguments_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "job.py").write_text("print()")
    (tmp_path / "data.csv").write_text("1,2\n")
    monkeypatch.chdir(tmp_path)

    def gathered(*inputs: str) -> tuple[dict[str, bytes], list[str]]:
        hints: list[str] = []
        _, files, found = run._gather("job.py", "/dev/null", inputs, hints)
        run._add_script(files.module, found, "job.py", argument_files(["data.csv", "4"]), hints)
        return {name: b"".join(one.pieces()) for name, one in files.inputs.items()}, hints

    with_data, (hint,) = gathered()
    assert with_data == {"job.py": b"print()", "data.csv": b"1,2\n"}
    assert "data.csv (4 B) goes with the script; --no-auto-input" in hint

    kept, hints = gathered("job.py=data.csv")
    assert kept == {"data.csv": b"print()", "job.py": b"print()"}
    assert hints == []
    monkeypatch.setattr(sending, "INPUT_BYTES", 10)
    with pytest.raises(InvalidTask, match=r"more than 10 B together with the input data\.csv"):
        gathered()


def test_help_teaches_with_an_example(tmp_path: Path) -> None:
    said = " ".join(run_fog(tmp_path, "run", "--help").stdout.split())
    assert "fog run job.py data.csv --privacy private" in said.replace("`", "")
    assert "--no-auto-input" in said


def test_a_script_is_uploaded_once_and_submitted_as_its_kind(tmp_path: Path) -> None:
    script = tmp_path / "job.py"
    script.write_text("print()")
    blob = json.dumps({"sha256": "0" * 64, "size": 7}).encode()
    with backend(
        tmp_path, (201, blob), (201, json.dumps({**TASK, "warning": ""}).encode())
    ) as asked:
        done = run_fog(tmp_path, "run", str(script), "--detach")
    assert done.returncode == 0, done.stderr
    assert [line.split()[1] for line in asked] == ["/api/v1/blobs", "/api/v1/tasks"]
    assert sys.version_info[:2] != PYTHON.version or done.stderr == ""
