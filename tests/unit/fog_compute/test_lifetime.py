"""What a process makes of what it was started with."""

from __future__ import annotations

import subprocess
import sys

WAIT_S = 30
STRANGE = """
import os, signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
"""
STARTED_SO = """
import asyncio, os, signal, sys
from fog_compute import spawn
from fog_compute.lifetime import stop_event, undo_inherited_signals

async def main():
    stop = stop_event()
    child = await spawn.start([sys.executable, "-c", "raise SystemExit(7)"], os.environ)
    assert await child.wait() == 7
    os.kill(os.getpid(), signal.SIGTERM)
    await stop.wait()

undo_inherited_signals()
assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
asyncio.run(main())
"""


def test_signals_that_somebody_ignored_or_blocked_are_heard_all_the_same() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STRANGE, STARTED_SO],
        capture_output=True,
        check=False,
        text=True,
        timeout=WAIT_S,
    )

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
