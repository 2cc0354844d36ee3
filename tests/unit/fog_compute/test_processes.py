"""Marks of processes: a number is signalled only where the kernel says that it still means it."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from fog_compute import processes
from fog_compute.processes import ProcessMark

WAIT_S = 30
MARKED = """
import json, sys
from fog_compute.processes import ProcessMark
print(json.dumps(ProcessMark.of_this_process().as_json()), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other() -> Iterator[tuple[subprocess.Popen[str], ProcessMark]]:
    """Another process, which waits, and its mark."""
    with subprocess.Popen(
        [sys.executable, "-c", MARKED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process, ProcessMark.parse(json.loads(process.stdout.readline()))
        process.kill()


def own_mark() -> ProcessMark:
    mark = ProcessMark.of_this_process()
    assert mark is not None
    return mark


def test_process_knows_itself_by_its_mark() -> None:
    mark = own_mark()

    assert mark.pid == os.getpid()
    assert mark.alive()
    assert mark.elsewhere() is None
    assert ProcessMark.parse(mark.as_json()) == mark


def test_signal_reaches_the_process_of_the_mark(
    other: tuple[subprocess.Popen[str], ProcessMark],
) -> None:
    process, mark = other

    assert mark.send(signal.SIGTERM)
    assert process.wait(WAIT_S) == -signal.SIGTERM
    assert not mark.alive()
    assert not mark.send(signal.SIGTERM)


@pytest.mark.parametrize("refusal", [errno.EPERM, errno.ENOSYS])
def test_signal_is_sent_where_handles_of_processes_are_refused(
    other: tuple[subprocess.Popen[str], ProcessMark],
    refusal: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(pid: int, flags: int = 0) -> int:
        raise OSError(refusal, os.strerror(refusal))

    monkeypatch.setattr(os, "pidfd_open", refuse)
    process, mark = other

    assert mark.send(signal.SIGTERM)
    assert process.wait(WAIT_S) == -signal.SIGTERM


@pytest.mark.parametrize(
    ("changed", "where"),
    [
        ({"started": 1}, None),
        ({"space": "pid:[1]"}, "in another container"),
        ({"boot": "00000000-0000-0000-0000-000000000000"}, "on another machine"),
    ],
)
def test_number_that_came_to_mean_another_process_is_not_signalled(
    other: tuple[subprocess.Popen[str], ProcessMark], changed: dict[str, Any], where: str | None
) -> None:
    process, mark = other
    before = dataclasses.replace(mark, **changed)

    assert before.elsewhere() == where
    assert not before.alive()
    assert not before.send(signal.SIGKILL)
    assert mark.alive()
    assert process.poll() is None


@pytest.mark.parametrize(
    "fields",
    [
        None,
        7,
        [],
        {},
        {"pid": 5},
        {"pid": 0, "space": "s", "boot": "b", "started": 1},
        {"pid": -1, "space": "s", "boot": "b", "started": 1},
        {"pid": True, "space": "s", "boot": "b", "started": 1},
        {"pid": "5", "space": "s", "boot": "b", "started": 1},
    ],
)
def test_what_is_no_mark_is_refused(fields: object) -> None:
    with pytest.raises(ValueError, match="no mark"):
        ProcessMark.parse(fields)


def test_process_without_a_kernel_that_tells_has_no_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    mark = own_mark()

    def missing() -> str:
        raise FileNotFoundError(errno.ENOENT, "No such file", "/proc/self/ns/pid")

    monkeypatch.setattr(processes, "_space", missing)

    assert ProcessMark.of_this_process() is None
    assert "cannot be seen" in (mark.elsewhere() or "")
