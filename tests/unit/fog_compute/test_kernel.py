"""What is asked of the kernel about children."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fog_compute.kernel import let_others_go_first

NICEST = 19
CHILD = """
import os, sys, threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
print(flush=True)
sys.stdin.buffer.readline()
later = threading.Thread(target=lambda: print(os.getpriority(os.PRIO_PROCESS, 0), flush=True))
later.start()
"""


@pytest.fixture
def child() -> Iterator[subprocess.Popen[str]]:
    """A process in a session of its own, with a thread beside its first one."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "\n"
        yield process
        process.kill()


def test_process_that_lets_others_go_first_is_last_with_all_its_threads(
    child: subprocess.Popen[str],
) -> None:
    let_others_go_first(child.pid)

    threads = [int(one.name) for one in Path(f"/proc/{child.pid}/task").iterdir()]
    assert len(threads) == 2
    assert {os.getpriority(os.PRIO_PROCESS, thread) for thread in threads} == {NICEST}
    later, _ = child.communicate("\n", timeout=30)
    assert later == f"{NICEST}\n"


@pytest.mark.skipif(
    not Path("/proc/self/autogroup").exists(), reason="this kernel does not group by session"
)
def test_session_of_a_process_that_lets_others_go_first_is_last(
    child: subprocess.Popen[str],
) -> None:
    let_others_go_first(child.pid)

    group = Path(f"/proc/{child.pid}/autogroup").read_text("ascii")
    assert group.split()[-1] == str(NICEST)


def test_process_that_has_ended_lets_others_go_first_anyway() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass

    let_others_go_first(process.pid)
