"""Signals that end a command interrupt it: it says what goes on, and leaves the terminal tidy."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from fog_compute.cli.interrupts import SAME_S, SIGNALS, Interrupts

WAIT_S = 60
TOLD_TO_END = """
import os, signal, sys
from fog_compute.cli import main

def run(arguments):
    try:
        os.kill(os.getpid(), signal.Signals[arguments[0]])
        signal.pause()
    except KeyboardInterrupt:
        print("taken back")
        return 130

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may ignore it
main.run = run
sys.exit(main.main())
"""
IGNORED = """
import os, signal, sys
from fog_compute.cli import main

def run(arguments):
    os.kill(os.getpid(), signal.SIGHUP)
    return 0

signal.signal(signal.SIGHUP, signal.SIG_IGN)
main.run = run
sys.exit(main.main())
"""


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        check=False,
        text=True,
        timeout=WAIT_S,
    )


@pytest.mark.parametrize("number", SIGNALS)
def test_command_that_is_told_to_end_takes_back_what_it_began(number: signal.Signals) -> None:
    """INV-WORDS-10."""
    done = run(TOLD_TO_END, number.name)

    assert (done.returncode, done.stdout, done.stderr) == (130, "taken back\n", "")


def test_command_that_is_to_outlive_its_terminal_does() -> None:
    done = run(IGNORED)

    assert (done.returncode, done.stderr) == (0, "")


def test_signals_that_come_together_are_one_and_a_later_one_interrupts_again() -> None:
    """INV-WORDS-10."""
    now = 5.0
    interrupts = Interrupts(lambda: now)

    with pytest.raises(KeyboardInterrupt):
        interrupts(signal.SIGTERM, None)
    interrupts(signal.SIGTERM, None)
    now += SAME_S * 0.9
    interrupts(signal.SIGINT, None)
    now += SAME_S * 0.2
    with pytest.raises(KeyboardInterrupt):
        interrupts(signal.SIGINT, None)
