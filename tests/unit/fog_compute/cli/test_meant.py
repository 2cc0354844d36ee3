"""What a person meant by a command is done, or asked about in exact words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fog_compute.cli.common import CommandError
from fog_compute.cli.main import run
from fog_compute.cli.names import chosen
from tests.unit.fog_compute.cli.backends import ID, TASK, backend
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
