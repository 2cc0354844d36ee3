"""``fog up --detach``: what it hears from the fog in the background."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from fog_compute import spawn
from fog_compute.cli.common import CommandError
from fog_compute.cli.starting import relay

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
