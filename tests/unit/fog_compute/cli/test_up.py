"""``fog up --detach``: what it hears from the fog in the background."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from fog_compute import spawn
from fog_compute.cli.common import CommandError
from fog_compute.cli.starting import relay, reporting

NOISE = (
    "a library says hello",
    "",
    "[1, 2",
    "[" * 200_000,
    json.dumps(["event"]),
    json.dumps({"event": 7}),
    json.dumps({"no": "event"}),
    '"\\ud800"',
)


def background(tmp_path: Path, *lines: str) -> spawn.Detached:
    script = tmp_path / "lines"
    script.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    with (tmp_path / "errors").open("wb") as errors:
        return spawn.start_detached(
            [sys.executable, "-c", f"print(open({str(script)!r}).read())"],
            spawn.child_environment(),
            stderr=errors.fileno(),
        )


def test_lines_that_are_no_event_are_skipped(tmp_path: Path) -> None:
    heard: list[tuple[str, dict[str, object]]] = []
    ready = json.dumps({"event": "ready", "url": "http://here"})

    with background(tmp_path, *NOISE, '{"event": "started", "name": "net"}', *NOISE, ready) as fog:
        assert relay(fog, lambda name, fields: heard.append((name, fields)))

    assert heard == [("started", {"name": "net"}), ("ready", {"url": "http://here"})]


def test_the_error_of_the_background_is_that_of_the_command(tmp_path: Path) -> None:
    error = json.dumps({"event": "error", "message": "no port is free"})

    with (
        background(tmp_path, *NOISE, error) as fog,
        pytest.raises(CommandError, match="no port is free"),
    ):
        relay(fog, lambda name, fields: None)


def test_an_end_without_an_event_names_the_log(tmp_path: Path) -> None:
    with (
        background(tmp_path, *NOISE) as fog,
        pytest.raises(CommandError, match=r"ended with 0 before it was ready: see logs/up\.log"),
    ):
        relay(fog, lambda name, fields: None)


def test_error_of_the_background_keeps_its_type_and_exit_code(tmp_path: Path) -> None:
    error = {"type": "urn:fog-compute:problem:config-error", "exit_code": 2}
    line = json.dumps({"event": "error", "message": "no such net", "error": error})

    with background(tmp_path, line) as fog, pytest.raises(CommandError) as caught:
        relay(fog, lambda name, fields: None)

    assert (caught.value.exit_code, caught.value.problem) == (2, error["type"])


@pytest.mark.parametrize("as_json", [False, True])
def test_what_was_started_again_and_why_is_on_standard_error(
    as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with reporting(as_json=as_json) as report:
        report("ended", {"name": "backend", "code": -9, "reason": "it was killed"})
        report("restarted", {"name": "backend", "pid": 7})
        report("trouble", {"name": "worker-0", "reason": "few files"})
        report("trouble", {"name": "worker-0", "reason": ""})
    done = capsys.readouterr()
    said = [
        "backend is started again: it was killed",
        "backend is back",
        "worker-0: few files",
        "worker-0 can run tasks again",
    ]
    lines = done.err.splitlines()
    if as_json:
        assert [line.split(" ", 3)[3] for line in lines] == said
        assert json.loads(done.out.splitlines()[0])["reason"] == "it was killed"
    else:
        assert lines == [f"fog: {text}" for text in said]
        assert done.out == ""
