"""A machine that gives few threads: an error that says so, and never a panic or an endless wait."""

from __future__ import annotations

import subprocess
import sys

PATIENCE_S = 20
TIMEOUT_S = 60
MOST_KIB = 16 * 1024

BRIDGES = f"""
import os, resource, signal, sys
from betanet._core import Bridge
for kib in range(0, {MOST_KIB}, 500):
    sys.stdout.flush()
    child = os.fork()
    if not child:
        signal.alarm({PATIENCE_S})
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + kib * 1024,) * 2)
        try:
            Bridge(print)
            os._exit(0)
        except Exception as error:
            os._exit(11 if "cannot start the threads" in str(error) else 12)
        finally:
            os._exit(13)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_client_gets_all_its_threads_or_says_that_it_cannot() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BRIDGES], capture_output=True, check=False, timeout=TIMEOUT_S
    )

    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == {b"0", b"11"}, (done.stdout, done.stderr)
