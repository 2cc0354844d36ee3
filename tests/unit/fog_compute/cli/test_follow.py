"""Following a task, and ending what runs: what is told where it does not go as it should."""

from __future__ import annotations

import io
import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.status import Status

from fog_compute import spawn
from fog_compute.cli import down, follow, main, task_logs
from fog_compute.cli.client import Backend
from fog_compute.cli.common import CommandError
from fog_compute.cli.down import stop_holder
from fog_compute.cli.follow import Follower
from fog_compute.cli.patience import OutOfTime, Patience
from fog_compute.cli.starting import start_in_background
from fog_compute.client.folders import OutputFolder
from fog_compute.client.lock import HeldBy, HeldByUnknown, HomeLock
from fog_compute.client.places import Home
from fog_compute.errors import PROBLEM, BackendError, NotRunning, StoreAway
from fog_compute.layout import HomeLayout
from tests.unit.fog_compute.cli.backends import ID, RESULT, TASK, backend

OPEN: dict[str, Any] = {**TASK, "final": False, "result": None, "state": "running"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FOG_HOME", str(tmp_path))
    return tmp_path


def answer(body: object, status: int = 200) -> tuple[int, bytes]:
    return (status, body if isinstance(body, bytes) else json.dumps(body).encode())


@pytest.mark.parametrize(
    ("raised", "code", "kind", "text"),
    [
        (OutOfTime(), 124, "timed-out", "is not over after"),
        (KeyboardInterrupt(), 130, "interrupted", "stop it with `fog task cancel"),
        (NotRunning("gone"), 3, "not-running", "goes on with the next `fog up`"),
        (StoreAway("it is away"), 1, "store-away", "it is away; task"),
        (BackendError("lost"), 1, "backend-error", "see it with `fog task show"),
    ],
)
def test_task_that_is_followed_no_longer_goes_on_and_is_named(
    raised: BaseException,
    code: int,
    kind: str,
    text: str,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(_: Follower) -> None:
        raise raised

    monkeypatch.setattr(Follower, "_wait", fail)
    with backend(home):
        assert main.run(["task", "show", ID, "--wait", "--timeout", "90s", "--json"]) == code
    told = json.loads(capsys.readouterr().out)
    assert told["error"]["type"] == PROBLEM + kind
    assert ID in told["error"]["message"]
    assert isinstance(raised, NotRunning) or told["id"] == ID
    assert text in told["error"]["message"]


@pytest.mark.parametrize(("kind", "told"), [("python", True), ("wasm", False)])
def test_script_that_waits_is_told_why_the_own_workers_take_none(
    kind: str,
    told: bool,
    home: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(follow, "lacking_scripts", lambda layout: ["worker-0: compiling"])
    waits = {**OPEN, "state": "queued", "reason": "1 without python", "kind": kind}
    with backend(home, answer(waits), answer(TASK), answer(b""), answer(b"")):
        assert main.run(["task", "show", ID, "--wait"]) == 0
    shown = capsys.readouterr().err
    assert ("(1 without python; worker-0: compiling)" in shown) is told
    assert "(1 without python" in shown


def test_files_that_cannot_be_written_are_an_error_beside_the_result(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "out").mkdir()
    (home / "out" / "a").write_text("old")
    done = {**TASK, "result": {**RESULT, "files": [{"path": "a", "size": 1}]}}
    monkeypatch.setattr(Follower, "_wait", lambda _: done)
    monkeypatch.setattr(Follower, "_output", lambda *_: None)
    with backend(home):
        follower = Follower(Backend(Home(HomeLayout(home))), ID, as_json=True)
        with (
            pytest.raises(CommandError) as caught,
            OutputFolder(str(home / "out"), force=False) as folder,
        ):
            follower.follow(Patience(None), folder)
    assert caught.value.problem == f"{PROBLEM}not-written"
    assert list(caught.value.beside["not_written"]) == ["a"]  # type: ignore[call-overload]


def test_progress_is_one_line_that_moves_on_a_terminal(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    shown: list[str] = []
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(Status, "update", lambda _, text: shown.append(text.plain))
    monkeypatch.setattr(follow, "PAUSE_S", 0.0)
    stage = {"doing": "sending", "done": 1, "total": 2}
    running = {**OPEN, "stage": stage, "log_tail": "one\nhalf done\n", "version": 3}
    queued = {**OPEN, "state": "queued", "reason": "no worker", "attempts": [], "version": 3}
    answers = map(answer, (running, queued, TASK, b"", b""))
    with backend(home, *answers):
        assert main.run(["task", "show", ID, "--wait"]) == 0
    assert shown[0].endswith("at w: half done")
    assert "queued (no worker)" in shown[1]


@pytest.mark.parametrize("as_json", [False, True])
def test_logs_are_followed_to_the_end(
    as_json: bool, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(task_logs, "POLL_S", 0.0)
    tails = ("one", "one two", "one two")
    answers = [answer({**OPEN, "log_tail": tail}) for tail in tails]
    with backend(home, *answers, answer(TASK), answer(b"one two\nthree\n")):
        more = ["--json"] if as_json else []
        assert main.run(["task", "logs", ID, "--follow", *more]) == 0
    out = capsys.readouterr().out
    if as_json:
        told = [json.loads(line) for line in out.splitlines()]
        assert "".join(one["text"] for one in told) == "one two\nthree\n"
        assert [one["state"] for one in told] == ["running", "running", "accepted"]
    else:
        assert out == "one two\nthree\n"


def test_task_that_wrote_nothing_is_said_to_have_written_nothing(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with backend(home, answer(TASK), answer(b""), answer(b"")):
        assert main.run(["task", "logs", ID]) == 0
    assert "nothing of what it wrote is here" in capsys.readouterr().err


# Ending what runs


class Process:
    """A process that bears signals, or is another user's."""

    pid = 7

    def __init__(self, refusal: Exception | None = None) -> None:
        self.refusal = refusal
        self.got: list[signal.Signals] = []

    def send(self, number: signal.Signals) -> None:
        self.got.append(number)
        if self.refusal is not None:
            raise self.refusal


def held_by(monkeypatch: pytest.MonkeyPatch, *holders: object) -> None:
    left = list(holders)
    monkeypatch.setattr(HomeLock, "holder", lambda _: left.pop(0) if len(left) > 1 else left[0])
    monkeypatch.setattr(down, "PAUSE_S", 0.0)


def test_holder_is_asked_until_it_is_gone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process: Any = Process()
    held_by(monkeypatch, HeldBy(process), HeldBy(process), None)
    assert stop_holder(HomeLayout(home), "fog", "fog down") == 0.0
    assert process.got == [signal.SIGTERM]


def test_holder_that_does_not_stop_or_is_anothers_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(down, "PATIENCE_S", 0.0)
    monkeypatch.setattr(down, "KILL_PATIENCE_S", 0.0)
    stubborn: Any = Process()
    held_by(monkeypatch, HeldBy(stubborn))
    with pytest.raises(CommandError, match="kill -9 7"):
        stop_holder(HomeLayout(home), "fog", "fog down")
    assert stubborn.got == [signal.SIGTERM] * 2
    foreign: Any = Process(PermissionError())
    held_by(monkeypatch, HeldBy(foreign))
    with pytest.raises(CommandError, match="another user's"):
        stop_holder(HomeLayout(home), "fog", "fog down")
    held_by(monkeypatch, HeldByUnknown("somewhere"))
    with pytest.raises(CommandError, match="is somewhere, and no signal"):
        stop_holder(HomeLayout(home), "fog", "fog down")


@pytest.mark.parametrize("ready", [True, False])
def test_start_in_the_background_is_let_go_once_it_is_ready_and_ended_otherwise(
    ready: bool, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = {"event": "ready"} if ready else {"event": "error", "message": "no port"}
    code = f"print({json.dumps(event)!r}, flush=True)"
    monkeypatch.setattr(spawn, "python_command", lambda *_: [sys.executable, "-c", code])
    heard: list[str] = []
    layout = HomeLayout(home)

    def start() -> None:
        environment = spawn.child_environment()
        start_in_background(["up"], layout, environment, lambda name, _: heard.append(name))

    if ready:
        start()
    else:
        with pytest.raises(CommandError, match="no port"):
            start()
    assert heard == (["ready"] if ready else [])
    assert (layout.logs / "up.log").exists()
