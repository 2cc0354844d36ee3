"""Process 1: it collects orphans, hands signals on, and ends as its child does."""

from __future__ import annotations

import signal
import subprocess
import sys

import psutil

from tests.namespaces import in_pid_namespace

WAIT_S = 30
ORPHAN = """
import os, sys, time
from pathlib import Path
from fog_compute.first import go_below_first_process
assert os.getpid() == 1
go_below_first_process()
assert os.getpid() != 1 and os.getppid() == 1
if not (parent := os.fork()):
    if orphan := os.fork():
        print(orphan, flush=True)
    os._exit(0)
assert os.waitpid(parent, 0)[1] == 0
deadline = time.monotonic() + 30
def zombies():
    stats = [path.read_text() for path in Path("/proc").glob("[0-9]*/stat")]
    return [text for text in stats if ") Z " in text]
while (seen := len(list(Path("/proc").glob("[0-9]*")))) > 2 or zombies():
    assert time.monotonic() < deadline, (seen, zombies())
    time.sleep(0.01)
sys.exit(7)
"""
SIGNALLED = """
import signal, sys, time
from fog_compute.first import go_below_first_process
go_below_first_process()
heard = []
signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
print("ready", flush=True)
while not heard:
    time.sleep(0.05)
sys.exit(50 + heard[0])
"""
KILLED = """
import os, signal
from fog_compute.first import go_below_first_process
go_below_first_process()
os.kill(os.getpid(), signal.SIGKILL)
"""
ELSEWHERE = """
import os
from fog_compute.first import go_below_first_process
before = os.getpid()
go_below_first_process()
assert os.getpid() == before
"""


def run_first(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        in_pid_namespace(sys.executable, "-c", code),
        capture_output=True,
        check=False,
        text=True,
        timeout=WAIT_S,
    )


def test_process_1_collects_what_belongs_to_nobody() -> None:
    done = run_first(ORPHAN)

    assert done.returncode == 7, done.stderr


def test_process_1_hands_signals_on() -> None:
    with subprocess.Popen(
        in_pid_namespace(sys.executable, "-c", SIGNALLED), stdout=subprocess.PIPE, text=True
    ) as outer:
        assert outer.stdout is not None
        assert outer.stdout.readline() == "ready\n"
        (first,) = psutil.Process(outer.pid).children()
        first.send_signal(signal.SIGTERM)
        assert outer.wait(WAIT_S) == 50 + signal.SIGTERM


def test_process_1_ends_as_its_child_was_ended() -> None:
    assert run_first(KILLED).returncode == 128 + signal.SIGKILL


def test_any_other_process_goes_on_as_it_is() -> None:
    subprocess.run([sys.executable, "-c", ELSEWHERE], check=True, timeout=WAIT_S)
