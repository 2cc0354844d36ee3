"""What one thing of a task is called on the command line, over HTTP and in Python.

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

__all__ = ["FIELDS", "Face", "Field", "in_words_of"]


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
