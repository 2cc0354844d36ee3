"""The folders that a runner is left with."""

from __future__ import annotations

import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["NULL", "OWN", "Rooms", "of_python"]

OWN: Final = Path("/proc/self")
"""What the kernel shows of the process itself: it counts what a task left, and opens its output."""

NULL: Final = Path("/dev/null")


@dataclass(frozen=True, slots=True)
class Rooms:
    """Folders by absolute path: those that may be changed, and those that can only be read."""

    changed: tuple[Path, ...]
    read: tuple[Path, ...]


def of_python() -> tuple[Path, ...]:
    """Return where modules of this interpreter lie, from which one may be imported late."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    own = Path(__file__).parents[2]
    found = [own, *(Path(sysconfig.get_path(name)) for name in names)]
    found += [Path(one) for one in sys.path if one.endswith("lib-dynload")]
    return tuple(one for one in dict.fromkeys(found) if one.is_absolute() and one.is_dir())
