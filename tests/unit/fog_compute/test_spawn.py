"""Children: what they stand in, what they find, and which variables reach them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from fog_compute import spawn
from fog_compute.errors import FogError

SHOW = "import json, os, sys; print(json.dumps([os.getcwd(), sys.path, dict(os.environ)]))"


async def run_to_end(command: list[str], environment: dict[str, str]) -> bytes:
    process = await spawn.start(command, environment)
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output


@pytest.mark.asyncio
async def test_child_stands_elsewhere_and_finds_nothing_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", ".", "near", "/far", ""]))

    interpreter, safe_path, *_ = spawn.python_command("module")
    output = await run_to_end([interpreter, safe_path, "-c", SHOW], spawn.child_environment())

    folder, search_path, environment = json.loads(output)
    assert folder == spawn.FOLDER
    assert "/far" in search_path
    assert all(Path(entry).is_absolute() for entry in search_path)
    assert str(tmp_path) not in search_path
    assert environment["PYTHONPATH"] == "/far"


@pytest.mark.parametrize(
    ("name", "given", "passed"),
    [
        ("PATH", ":/usr/bin:bin:.:/bin:", "/usr/bin:/bin"),
        ("LD_LIBRARY_PATH", ":/opt/lib:", "/opt/lib"),
        ("LD_LIBRARY_PATH", "lib", None),
        ("LD_PRELOAD", "/opt/lib/allocator.so", "/opt/lib/allocator.so"),
        ("LD_AUDIT", "/opt/lib/audit.so", None),
        ("PYTHONPATH", "", None),
        ("PYTHONHOME", "python", None),
        ("PYTHONSTARTUP", "/opt/startup.py", None),
        ("PYTHONINSPECT", "1", None),
        ("PYTHONIOENCODING", "utf-16", None),
        ("PYTHON_OF_TOMORROW", "1", None),
        ("PYTHONDONTWRITEBYTECODE", "1", "1"),
        ("FAKE_CLOCK", "relative", "relative"),
    ],
)
def test_variables_pass_by_a_list(
    name: str, given: str, passed: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, given)

    assert spawn.child_environment().get(name) == passed


def test_what_is_given_on_purpose_reaches_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOG_HOME", "relative")

    assert spawn.child_environment({"FOG_HOME": "/whole"})["FOG_HOME"] == "/whole"


def test_bare_environment_has_nothing_of_a_person(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/srv/somebody")
    monkeypatch.setenv("PYTHONPATH", "/far")

    environment = spawn.loader_environment()

    assert environment["PYTHONPATH"] == "/far"
    assert all(name.startswith(("PYTHON", "LD_", "LC_")) for name in environment)


def test_an_interpreter_without_a_path_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "")

    with pytest.raises(FogError, match="its own path"):
        spawn.python_command("module")


def test_detached_program_has_no_input(tmp_path: Path) -> None:
    with (tmp_path / "errors").open("wb") as errors:
        process = spawn.start_detached(
            [sys.executable, "-c", "import sys; print(len(sys.stdin.read()))"],
            spawn.child_environment(),
            stderr=errors.fileno(),
        )
    assert process.communicate()[0] == b"0\n"
    assert process.returncode == 0
