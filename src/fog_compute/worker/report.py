"""What a worker tells its owner of itself, in a file that `fog worker status` reads.

Nothing of it goes anywhere else, and nothing in it is about single attempts or who asked.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec

from fog_compute.errors import ConfigError
from fog_compute.levels import PrivacyLevel
from fog_compute.reading import read_state
from fog_compute.worker.protocol import Wall
from fog_compute.writing import write_private

__all__ = [
    "REPORT_FILE",
    "TOLD_EVERY_S",
    "Counts",
    "Listing",
    "ReportFile",
    "WorkerReport",
    "read_report",
    "write_report",
]

REPORT_FILE: Final = "report.json"
TOLD_EVERY_S: Final = 10.0


class Listing(msgspec.Struct):
    """How a worker stands in the list of one level.

    Attributes:
        name: its name there.
        level: whose tasks it takes; None for any.
        listed: whether the directory has its offer.
        reason: why it has not; empty if it has, or before the first try.
    """

    name: str
    level: PrivacyLevel | None = None
    listed: bool = False
    reason: str = ""


class Counts(msgspec.Struct):
    """What a worker did since it was started.

    Attributes:
        taken: attempts that it took.
        finished: attempts that brought a result, be it a fault of the module.
        lost: attempts that this machine lost.
        returned: attempts that it gave back unfinished.
        turned_away: requests that no group of its vouched for.
    """

    taken: int = 0
    finished: int = 0
    lost: int = 0
    returned: int = 0
    turned_away: int = 0


class WorkerReport(msgspec.Struct, frozen=True):
    """A worker as it stands.

    Attributes:
        levels: how it stands in the lists.
        groups: groups whose members it serves.
        kinds: kinds of task that it runs.
        slots: tasks that it runs at once, if the machine lets it.
        able: slots in which tasks can run now.
        running: attempts that run.
        waiting: attempts that wait for a slot.
        queue: attempts that may wait.
        memory_bytes: memory that one task may have.
        walls: what stands around the sandbox on this machine, and what cannot.
        trouble: why slots cannot be used; empty if they can.
        cache_bytes: modules and inputs that it keeps.
        cache_limit: what it keeps of them at most.
        kept_bytes: results that wait for their owners.
        kept_limit: what it keeps of them at most.
        counts: what it did since it was started.
        lacking: why it runs no scripts although it is to; empty otherwise.
        wall_s: seconds that one task may run.
        scratch_bytes: what a task's working directory may hold.
        output_bytes: what a task may write, to each stream and as files.
        http: where it shows its health and metrics; empty if nowhere.
    """

    levels: tuple[Listing, ...]
    groups: tuple[str, ...]
    kinds: tuple[str, ...]
    slots: int
    able: int
    running: int
    waiting: int
    queue: int
    memory_bytes: int
    walls: tuple[Wall, ...]
    trouble: str
    cache_bytes: int
    cache_limit: int
    kept_bytes: int
    kept_limit: int
    counts: Counts
    lacking: str = ""
    wall_s: float = 0
    scratch_bytes: int = 0
    output_bytes: int = 0
    http: str = ""


class ReportFile:
    """The report in a worker's home: written when it changed, and marked now and then if not.

    So the time of the file says when the worker last did anything; one that hangs marks nothing.

    Args:
        home: the worker's folder.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._written = b""
        self._told_at = 0.0

    def tell(self, report: bytes, now: float) -> None:
        """Take an encoded report at a time, in seconds of any clock; raises `OSError`."""
        if report != self._written:
            write_report(self._home, report)
            self._written = report
        elif now - self._told_at >= TOLD_EVERY_S:
            os.utime(self._home / REPORT_FILE)
        else:
            return
        self._told_at = now


def write_report(home: Path, report: bytes) -> None:
    """Put an encoded report into a worker's home; raises `OSError`."""
    write_private(home / REPORT_FILE, report, lasting=False)


def read_report(home: Path) -> WorkerReport | None:
    """Read what a worker last told of itself; None if it told nothing yet.

    Raises:
        ConfigError: it cannot be read.
    """
    path = home / REPORT_FILE
    try:
        return msgspec.json.decode(read_state(path), type=WorkerReport)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError):
        raise ConfigError(f"{path} is damaged: the worker writes it anew when it runs") from None
