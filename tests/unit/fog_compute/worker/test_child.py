"""Ending a child: with a handle of the kernel's, and where a container refuses such handles."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections.abc import Callable, Iterator

import pytest

from fog_compute.processes import ProcessMark
from fog_compute.worker.child import ChildHandle

WAIT_S = 30


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A child that uses no processor time, and so ends by no limit on that."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process
        process.kill()


def refusing(error: int) -> Callable[..., int]:
    def refuse(*_: object) -> int:
        raise OSError(error, os.strerror(error))

    return refuse


@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOSYS])
@pytest.mark.parametrize(
    "refused",
    [(), ((os, "pidfd_open"),), ((signal, "pidfd_send_signal"),)],
    ids=["nothing", "handles", "signals"],
)
def test_child_is_killed_whatever_a_container_refuses(
    refused: tuple[tuple[object, str], ...],
    error: int,
    child: subprocess.Popen[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """INV-TASK-26."""
    for module, name in refused:
        monkeypatch.setattr(module, name, refusing(error))
    handle = ChildHandle(child.pid)

    handle.kill()

    assert child.wait(WAIT_S) == -signal.SIGKILL
    handle.kill()  # once more is no error


def test_number_that_came_to_mean_another_process_is_not_killed(
    child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "pidfd_open", refusing(errno.EPERM))
    mark = ProcessMark.of(child.pid)
    assert mark is not None
    handle = ChildHandle(child.pid)
    later = ProcessMark(mark.pid, mark.space, mark.boot, mark.started + 1)
    monkeypatch.setattr(handle, "_mark", later)

    handle.kill()

    child.send_signal(signal.SIGTERM)
    assert child.wait(WAIT_S) == -signal.SIGTERM
