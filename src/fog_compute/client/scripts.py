"""Scripts that are given as modules: told from modules, looked through, sent with their files."""

from __future__ import annotations

import ast
import posixpath
import re
import stat
import sys
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from fog_compute.descriptors import LINE_LENGTH
from fog_compute.errors import InvalidTask
from fog_compute.tasks import TaskKind
from fog_compute.tasks.folder import check_guest_path
from fog_compute.tasks.runtimes import PYTHON
from fog_compute.text import as_named, one_line
from fog_compute.units import MIB

__all__ = ["argument_files", "check_script", "kind_of", "own_name"]

LOOKED_THROUGH_BYTES: Final = MIB
"""A larger script is sent as it is: to parse it takes a hundred times its size in memory."""

_INTERPRETER: Final = re.compile(rb"#![^\n]*\bpython[0-9.]*\b")


def kind_of(path: str, data: bytes, asked: TaskKind | None) -> TaskKind:
    """Return what a file is: as asked, by its name, or by its first line."""
    if asked is not None:
        return asked
    script = path.endswith(".py") or _INTERPRETER.match(data) is not None
    return TaskKind.PYTHON if script else TaskKind.WASM


def own_name(path: str) -> str | None:
    """Return the name under which a script stands in its task's folder; None if it has none."""
    name = Path(path).name
    try:
        check_guest_path(name)
    except InvalidTask:
        return None
    return name


def check_script(path: str, source: bytes, brought: Collection[str]) -> list[str]:
    """Return lines about what may end a script; ``brought`` are the names of its input files.

    A syntax error is certain where this Python has the grammar of the one that will run it.

    Raises:
        InvalidTask: it has one for certain.
    """
    if len(source) > LOOKED_THROUGH_BYTES:
        return []
    name = as_named(path)
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(source, path)
            compile(tree, path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        where = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        what = error.msg if isinstance(error, SyntaxError) else str(error) or "it is too deep"
        line = one_line(f"script {name}{where}: {what}", LINE_LENGTH)
        if sys.version_info[:2] == PYTHON.version and not isinstance(error, RecursionError):
            raise InvalidTask(line) from None
        here = ".".join(map(str, sys.version_info[:2]))
        return [f"{line} (says Python {here}; the task runs in {PYTHON.name}, which may differ)"]
    if absent := sorted(_needed(tree) - PYTHON.modules - set(_modules_in(brought))):
        names = one_line(", ".join(absent), LINE_LENGTH // 2)
        lacks = f"which {PYTHON.name} on the workers does not have: bring pure Python as --input"
        return [f"script {name} imports {names}, {lacks}"]
    return []


def argument_files(args: Sequence[str]) -> dict[str, str]:
    """Return the arguments that name files below the current folder, by their names in the task.

    Raises:
        OSError: never for a path that cannot be one.
    """
    found: dict[str, str] = {}
    for argument in args:
        name = posixpath.normpath(argument)
        try:
            if argument.startswith("/") or not stat.S_ISREG(Path(argument).stat().st_mode):
                continue
            check_guest_path(name)
        except (OSError, ValueError, InvalidTask):
            continue
        found[name] = argument
    return found


def _needed(tree: ast.Module) -> set[str]:
    """Return the first names of modules that a script imports whatever happens."""
    names: set[str] = set()
    for statement in tree.body:
        if isinstance(statement, ast.Import):
            names.update(alias.name.split(".")[0] for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom) and not statement.level and statement.module:
            names.add(statement.module.split(".")[0])
    return {name for name in names if not name.startswith("_")}


def _modules_in(paths: Iterable[str]) -> Iterator[str]:
    """Return what input files may be imported as: their own names and those of their folders."""
    for path in paths:
        for part in path.split("/"):
            yield part.removesuffix(".py")
