"""Each wait of a command is within its --timeout, whatever is waited for."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fog_compute.cli.patience import OutOfTime, Patience
from fog_compute.client import asking as rules
from fog_compute.client import backend as client
from fog_compute.client.lock import HomeLock
from fog_compute.client.places import Home
from fog_compute.errors import BackendError
from fog_compute.layout import HomeLayout
from tests.unit.fog_compute.cli.backends import TASK, WORDCOUNT, announced, backend
from tests.unit.fog_compute.modules import command_of

TIMEOUT_S = 60  # less than what a command waits for an upload without --timeout


def run_fog(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fog_compute.cli.main", *arguments],
        capture_output=True,
        check=False,
        env={**os.environ, "FOG_HOME": str(home)},
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=TIMEOUT_S,
    )


@contextlib.contextmanager
def silent_backend(home: Path, *, listens: bool = True) -> Iterator[None]:
    """A backend that takes connections and says nothing, or is always just about to be back."""
    lock = HomeLock(HomeLayout(home))
    assert lock.take()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if listens:
            listener.listen()
        try:
            with announced(home, f"http://127.0.0.1:{listener.getsockname()[1]}"):
                yield
        finally:
            lock.give_back()


@pytest.mark.parametrize("listens", [True, False])
def test_silent_backend_is_given_no_more_time_than_allowed(tmp_path: Path, listens: bool) -> None:
    module = tmp_path / "module"
    module.write_bytes(command_of(20_000_000))
    with silent_backend(tmp_path, listens=listens):
        running = run_fog(tmp_path, "run", str(module), "--timeout", "3s")
        showing = run_fog(tmp_path, "task", "show", "0" * 26, "--wait", "--timeout", "3s")

    for done in (running, showing):
        assert done.returncode == 124, done.stderr
        assert "3.0 s" in done.stderr
        assert "Traceback" not in done.stderr
    assert "`fog task ls` shows whether it is there" in running.stderr


def test_pipe_that_nobody_fills_is_given_no_more_time_either(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    for begin in (), (__file__, "--stdin"), (__file__, "--input"):
        done = run_fog(tmp_path, "run", *begin, str(tmp_path / "pipe"), "--timeout", "3s")

        assert done.returncode == 124
        assert done.stderr.count("\n") == 1
        assert f"{tmp_path / 'pipe'} did not come to its end in time" in done.stderr
        assert "nothing was sent" in done.stderr


def test_task_that_is_not_over_in_time_goes_on(tmp_path: Path) -> None:
    blob = b'{"sha256": "' + b"0" * 64 + b'"}'
    running = {**TASK, "id": "01k", "state": "running", "final": False, "version": 1}
    answers = [(200, json.dumps(running).encode())] * 100_000
    with backend(
        tmp_path, (201, blob), (201, b'{"id": "01k", "state": "queued", "warning": ""}'), *answers
    ):
        done = run_fog(tmp_path, "run", WORDCOUNT, "--timeout", "5s")

    assert done.returncode == 124
    assert "task 01k is not over after 5.0 s and goes on" in done.stderr


def test_no_time_at_all_is_over_at_once_and_much_is_no_error() -> None:
    with pytest.raises(OutOfTime), Patience(0.0):
        signal.pause()
    with Patience(1e300) as patience:
        patience.end()
    with Patience(None):
        pass


def test_answer_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "ANSWER_BYTES", 1000)
    fits, too_long = b'{"x": 1}'.ljust(1000), b'{"x": 1}'.ljust(1001)
    with (
        backend(tmp_path, (200, fits), (200, too_long), (200, fits), (200, too_long)),
        client.Backend(Home(HomeLayout(tmp_path))) as asking,
    ):
        assert asking.get("/x", dict[str, int]) == {"x": 1}
        with pytest.raises(BackendError, match="is it another program"):
            asking.get("/x", dict[str, int])
        taken = bytearray()
        asking.stream("/x", taken.extend, 1000)
        assert taken == fits
        with pytest.raises(BackendError, match="is it another program"):
            asking.stream("/x", taken.extend, 1000)
        assert len(taken) <= 2000


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5), st.integers(1, 50))
def test_what_begins_anew_is_handed_on_once(data: bytes, breaks: list[int], size: int) -> None:
    taken = bytearray()
    once = rules.Once(taken.extend, len(data))
    for end in (*breaks, len(data)):
        once.begin()
        for at in range(0, min(end, len(data)), size):
            once.add(data[at : min(at + size, end)])
    assert taken == data
