"""What one thing of a task is called on the command line, over HTTP and in Python.

What is told of a task, its result or a worker has one name, that of HTTP, in ``--json`` and in
Python too; what only they tell is one table here, and what somebody gives is another.

A text about a field of a task names it as JSON does, in backquotes: `limits.memory_bytes`. So it is
stored, logged and answered over HTTP; whoever shows it elsewhere says it in the words of that face.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

__all__ = ["FIELDS", "TOLD", "Face", "Field", "Told", "in_words_of"]


class Face(enum.StrEnum):
    """Where somebody describes a task, and reads what became of it."""

    COMMAND = "command"
    HTTP = "http"
    PYTHON = "python"


@dataclass(frozen=True, slots=True)
class Field:
    """One thing that a task is described with.

    Attributes:
        http: where it stands in the JSON of a task.
        command: how a command is given it.
        python: the argument of a call.
    """

    http: str
    command: str
    python: str


FIELDS: Final = (
    Field("module", "MODULE", "module"),
    Field("kind", "--kind", "kind"),
    Field("argv", "ARGS", "args"),
    Field("stdin", "--stdin", "stdin"),
    Field("inputs", "--input", "inputs"),
    Field("env", "--env", "env"),
    Field("seed", "--seed", "seed"),
    Field("limits.memory_bytes", "--memory", "memory"),
    Field("limits.fuel", "--fuel", "fuel"),
    Field("limits.wall_s", "--wall", "wall"),
    Field("limits.output_bytes", "--output", "output"),
    Field("limits.scratch_bytes", "--scratch", "scratch"),
    Field("privacy", "--privacy", "privacy"),
    Field("group", "--group", "group"),
    Field("strategy", "--strategy", "strategy"),
    Field("max_attempts", "--attempts", "attempts"),
    Field("wait_for_worker", "--wait-for-worker", "wait_for_worker"),
)
"""The one table of names; a test holds it against the commands and the JSON of a task."""


@dataclass(frozen=True, slots=True)
class Told:
    """One thing that faces tell of tasks and HTTP does not, or has a route for.

    Attributes:
        name: what they call it.
        faces: who they are.
        means: the one thing that it is.
    """

    name: str
    faces: frozenset[Face]
    means: str


_COMMAND: Final = frozenset((Face.COMMAND,))
_PYTHON: Final = frozenset((Face.PYTHON,))

TOLD: Final = (
    Told("input", _COMMAND | _PYTHON, "what an input of a map is called"),
    Told("stdout", _COMMAND | _PYTHON, "all that a task wrote to standard output"),
    Told("stderr", _COMMAND | _PYTHON, "all that a task wrote to standard error"),
    Told("stdout_base64", _COMMAND, "the bytes of `stdout`, where it is no UTF-8"),
    Told("stderr_base64", _COMMAND, "the bytes of `stderr`, where it is no UTF-8"),
    Told("text", _COMMAND, "what a task has written since it was last asked"),
    Told("seconds", _COMMAND, "how long the command took; a task ran for `wall_ms`"),
    Told("written", _COMMAND, "files of a task that were written here"),
    Told("not_written", _COMMAND, "files of a task that could not be written here, and why"),
    Told("task_id", _PYTHON, "the id of the task that an exception is about"),
)
"""The one table of what is told beside HTTP; a test holds commands and records of Python to it."""

_BY_HTTP: Final[Mapping[str, Field]] = MappingProxyType({one.http: one for one in FIELDS})
_NAMED: Final = re.compile("`(" + "|".join(re.escape(name) for name in _BY_HTTP) + ")`")


def in_words_of(face: Face, text: str) -> str:
    """Return a text in which every field that it names is called as a face calls it."""
    match face:
        case Face.HTTP:
            return text
        case Face.COMMAND:
            return _NAMED.sub(lambda found: _BY_HTTP[found[1]].command, text)
        case Face.PYTHON:
            return _NAMED.sub(lambda found: f"`{_BY_HTTP[found[1]].python}`", text)
