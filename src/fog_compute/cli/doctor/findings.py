"""What an examination finds: one record for each check, whatever it looks at."""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["Finding", "Verdict", "of_problem"]


class Verdict(enum.StrEnum):
    """How a check ended; the later ones are worse."""

    OK = "ok"
    SKIPPED = "skipped"
    """It could not be looked at, which is no fault of the machine."""
    WARNING = "warning"
    """A fog runs, and does without something."""
    PROBLEM = "problem"
    """A fog cannot run, or cannot do what it is for."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        check: names it.
        verdict: how it is.
        found: what was found.
        means: what follows from that; empty where all is well.
        do: what mends it; empty where nothing is to be done.
    """

    check: str
    verdict: Verdict
    found: str
    means: str = ""
    do: str = ""


def of_problem(check: str, text: str, means: str, verdict: Verdict = Verdict.PROBLEM) -> Finding:
    """A finding of one line that says what is wrong and, behind its last colon, what mends it."""
    found, colon, do = text.rpartition(": ")
    return Finding(check, verdict, found if colon else text, means, do if colon else "")
