"""What a person meant by a command is done, or asked about in exact words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fog_compute.cli.main import run
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
