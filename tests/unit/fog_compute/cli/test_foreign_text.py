"""What strangers wrote, shown on a terminal: printable, bounded, on its own line."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.text import Text

from fog_compute.cli import status, task
from fog_compute.cli.client import Backend
from fog_compute.cli.common import note, print_json, print_table
from fog_compute.cli.failures import Failure, report
from fog_compute.cli.follow import Follower
from fog_compute.client.answers import Attempt, Net, Status, Worker
from fog_compute.client.answers import Task as TaskAnswer
from fog_compute.server.task_schemas import TaskOut
from fog_compute.tasks import Task, TaskSpec, TaskState
from fog_compute.tasks.model import TaskEvent
from fog_compute.text import one_line

WORDS = "\x1b]0;owned\x07\x1b[2J\nsecond line\x9b\u202e" + "N" * 50_000
BOUND = 2000


def shown(text: str) -> list[str]:
    """The lines, none of which a terminal does more than show."""
    assert not {c for c in text if not c.isprintable()} - {"\n"}
    lines = text.splitlines()
    assert all(len(line) <= BOUND + 40 for line in lines)
    return lines


def test_a_table_has_one_line_for_each_row_whatever_the_words(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """INV-TASK-33."""
    print_table(("WORKER", "STATE"), [(WORDS, "ready"), ("b", "lost")])
    assert len(shown(capsys.readouterr().out)) == 3


def test_a_task_is_shown_with_nothing_that_a_terminal_obeys(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """INV-TASK-33."""
    attempt: Attempt = {
        "number": 1,
        "worker": WORDS,
        "state": "failed",
        "reason": WORDS,
        "placement": WORDS,
    }
    body: TaskAnswer = {
        "id": "x",
        "state": "failed",
        "reason": WORDS,
        "privacy": "private",
        "kind": WORDS,
        "hops": 3,
        "version": 1,
        "final": True,
        "created_at": "2026-01-01T00:00:00Z",
        "tries": 0,
        "max_attempts": 3,
        "argv": [WORDS, "a\tb"],
        "seed": WORDS,
        "stage": None,
        "log_tail": WORDS,
        "result": None,
        "attempts": [attempt],
    }
    task._print(body)
    assert len(shown(capsys.readouterr().out)) == 7 + 3


def test_a_status_is_shown_with_nothing_that_a_terminal_obeys(
    capsys: pytest.CaptureFixture[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """INV-TASK-33."""
    worker: Worker = {
        "name": WORDS,
        "level": "private",
        "state": "ready",
        "kinds": [],
        "slots": 1,
        "leased": 0,
        "memory_bytes": 5,
        "groups": [],
    }
    net: Net = {
        "name": WORDS,
        "nodes": {"entry": 1},
        "mean_delay_ms": 1.0,
        "epoch": 3,
        "paths": [{"hops": 3, "tries": 9, "lost": 1, "round_trip_ms": 80}],
        "excluded": [{"id": "0f" * 32, "tries": 9, "lost": 8, "expected": 1, "seconds_left": 7.5}],
        "warnings": [WORDS],
    }
    report: Status = {
        "workers": [worker],
        "tasks": {},
        "net": net,
        "services": [],
        "circuits": {WORDS: {"circuits": 1, "sessions": 1, "in_flight": 0}},
        "damaged": [{"table": WORDS, "key": WORDS, "reason": WORDS}] * 12,
    }
    status._print(("home", WORDS), None, report, [WORDS], [WORDS], [])
    lines = shown(capsys.readouterr().out)
    assert len(lines) == 22
    assert lines[-1].strip() == "and 2 more: `fog db check` names them"
    assert "3 hops: 1 of 9 packets lost, 80 ms there and back" in lines[4]
    assert "lost 8 of 9 packets, 1 by chance; tried again in 8 s" in lines[5]


class Line:
    """The line that moves, as the terminal's library gets it."""

    def __init__(self) -> None:
        self.updates: list[Text] = []

    def update(self, status: Text) -> None:
        self.updates.append(status)


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=80))
@example("lost at [/bold] [red]x[link=https://example.org]")
@example("\\\\[")
@example("ends in a backslash \\\\[bold]")
def test_a_line_that_moves_takes_no_orders_from_the_words_in_it(words: str) -> None:
    """INV-TASK-33."""
    line = Line()
    follower = Follower(_nobody(), "x", as_json=False)
    follower._status = line
    follower._show(f"waits ({words})")
    follower._show("the end")
    shown = [update.plain for update in line.updates]
    assert not any(update.spans for update in line.updates)
    assert shown == [one_line(f"waits ({words})"), "the end"]


def _nobody() -> Backend:
    backend = object.__new__(Backend)
    backend.on_lost = lambda _: None
    return backend


def test_why_an_open_task_waits_is_a_bounded_line() -> None:
    """INV-TASK-33."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    task = Task("x", TaskSpec("0" * 64), TaskState.QUEUED, 1, now, now)
    reason = TaskOut.of(task, WORDS).reason
    assert reason.isprintable()
    assert len(reason) < BOUND
    lost = dataclasses.replace(task, state=TaskState.LEASED).after(
        TaskEvent.RETRY, now, reason=WORDS
    )
    assert TaskOut.of(lost).reason == reason


def test_an_error_and_a_note_are_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    """INV-TASK-33."""
    note(WORDS)
    report(Failure(WORDS, WORDS, 1), as_json=False)
    assert len(shown(capsys.readouterr().err)) == 2


def test_json_keeps_the_words_and_escapes_what_a_terminal_obeys(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """INV-TASK-33."""
    print_json({"reason": WORDS})
    out = capsys.readouterr().out
    assert json.loads(out) == {"reason": WORDS}
    assert not {c for c in out if not c.isprintable()} - {"\n"}
