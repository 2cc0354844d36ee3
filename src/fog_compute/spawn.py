"""Starting programs: the one place that does, so that none runs or reads what lies around.

A fog is started from any folder and with any environment. Whatever it starts stands in a folder
where nobody but the system writes, does not look for modules, libraries or programs in the current
folder, and gets no variable that changes how an interpreter or the loader works unless the table
below lets it through. Paths in a command must be whole for that reason.
"""

from __future__ import annotations

import asyncio
import enum
import errno
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn, TypeAlias

from fog_compute.errors import FogError

__all__ = [
    "FOLDER",
    "Detached",
    "absolute_elements",
    "become",
    "bound_command",
    "child_environment",
    "let_go",
    "loader_environment",
    "output_of",
    "python_command",
    "start",
    "start_detached",
]

Detached: TypeAlias = "subprocess.Popen[bytes]"
"""A program that outlives this one."""

FOLDER: Final = "/"
"""Where every child stands: it is always there, and holds no file of a stranger."""

_JUDGED: Final = ("PYTHON", "LD_")
"""Variables that begin so are dropped unless the table has them."""


class _Pass(enum.Enum):
    AS_GIVEN = enum.auto()
    ABSOLUTE = enum.auto()
    """Of a list of folders those elements that begin with a slash: an empty one, too, would mean
    the current folder."""


_TABLE: Final[Mapping[str, _Pass]] = {
    # Where programs, libraries and modules are found.
    "PATH": _Pass.ABSOLUTE,
    "LD_LIBRARY_PATH": _Pass.ABSOLUTE,
    "PYTHONPATH": _Pass.ABSOLUTE,
    "PYTHONHOME": _Pass.ABSOLUTE,
    "PYTHONUSERBASE": _Pass.ABSOLUTE,
    "PYTHONNOUSERSITE": _Pass.AS_GIVEN,
    # Allocators and other libraries that somebody puts in front on purpose.
    "LD_PRELOAD": _Pass.AS_GIVEN,
    # Compiled files beside the modules, or not.
    "PYTHONDONTWRITEBYTECODE": _Pass.AS_GIVEN,
    "PYTHONPYCACHEPREFIX": _Pass.ABSOLUTE,
    # The encoding of names of files, as this process has it.
    "PYTHONUTF8": _Pass.AS_GIVEN,
    "PYTHONCOERCECLOCALE": _Pass.AS_GIVEN,
    # For who looks for an error.
    "PYTHONASYNCIODEBUG": _Pass.AS_GIVEN,
    "PYTHONDEVMODE": _Pass.AS_GIVEN,
    "PYTHONFAULTHANDLER": _Pass.AS_GIVEN,
    "PYTHONHASHSEED": _Pass.AS_GIVEN,
    "PYTHONMALLOC": _Pass.AS_GIVEN,
    "PYTHONTRACEMALLOC": _Pass.AS_GIVEN,
    "PYTHONWARNINGS": _Pass.AS_GIVEN,
    # Dropped with all others, for example: PYTHONSTARTUP and PYTHONBREAKPOINT name code to run,
    # PYTHONINSPECT keeps a process that has ended, PYTHONIOENCODING changes what a parent reads,
    # PYTHONOPTIMIZE takes checks away; LD_AUDIT loads code, LD_DEBUG writes between the lines.
}


def python_command(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of this package with this interpreter.

    Raises:
        FogError: the interpreter does not know where it lies.
    """
    if not sys.executable:
        raise FogError("this Python does not know its own path: start `fog` by its whole path")
    return [sys.executable, "-P", "-m", module, *arguments]


def bound_command(*command: str, folder: str = FOLDER) -> list[str]:
    """The command that runs a program which ends with this process, whatever that program is.

    It runs in ``folder``.

    Raises:
        FogError: the interpreter does not know where it lies.
    """
    return python_command("fog_compute.bound", str(os.getpid()), folder, *command)


def become(command: Sequence[str]) -> NoReturn:
    """Turn this process into another program, which has its environment and open files.

    Raises:
        OSError: it cannot be started.
    """
    os.execv(command[0], list(command))  # noqa: S606  # as all here: no shell


def child_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment as a child gets it, with ``extra`` on top."""
    kept = {name: _passed(name, value) for name, value in os.environ.items()}
    passed = {name: value for name, value in kept.items() if value is not None}
    return {**passed, "PYTHONSAFEPATH": "1", **(extra or {})}


def loader_environment() -> dict[str, str]:
    """Only what interpreter and loader need to find this package: no variable of a person."""
    return {
        name: value for name, value in child_environment().items() if name.startswith(_JUDGED)
    } | {"LC_ALL": "C.UTF-8"}


def absolute_elements(folders: str) -> str:
    """A list of folders, as ``PATH`` is one, without those that depend on the current folder."""
    return os.pathsep.join(part for part in folders.split(os.pathsep) if Path(part).is_absolute())


async def start(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    stderr: int | None = None,
    pass_fds: Sequence[int] = (),
    line_bytes: int = 64 * 1024,
) -> asyncio.subprocess.Process:
    """Start a child in a session of its own, with pipes for its standard input and output.

    ``line_bytes`` bounds what a line of its output may hold.

    Raises:
        OSError: it cannot be started.
    """
    return await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=stderr,
        cwd=FOLDER,
        env=environment,
        pass_fds=pass_fds,
        start_new_session=True,
        limit=line_bytes,
    )


def start_detached(
    command: Sequence[str], environment: Mapping[str, str], *, stderr: int
) -> Detached:
    """Start a program that outlives this one: no standard input, a pipe for its output.

    Raises:
        OSError: it cannot be started.
    """
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        cwd=FOLDER,
        env=environment,
        start_new_session=True,
    )


def output_of(command: Sequence[str], seconds: float) -> bytes:
    """Run a short program to its end, whatever that is, and return what it printed.

    Raises:
        OSError: it cannot be started, or takes longer.
    """
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=FOLDER,
            env=child_environment(),
            check=False,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT), command[0]) from None
    return done.stdout


def let_go(process: Detached) -> None:
    """Leave a program to itself: its output is read no more, and nobody will ask how it ended."""
    if process.stdout is not None:
        process.stdout.close()
    process.returncode = 0  # or its record, thrown away, would warn that it still runs


def _passed(name: str, value: str) -> str | None:
    """What a child gets of a variable; None for nothing."""
    match _TABLE.get(name):
        case _Pass.AS_GIVEN:
            return value
        case _Pass.ABSOLUTE:
            return absolute_elements(value) or None
        case None:
            return None if name.startswith(_JUDGED) else value
