"""What commands share: errors with exit codes, output as text or JSON."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from typing import Annotated, Final

from cyclopts import Parameter, Token

from fog_compute.cli.codes import FAILED, INTERRUPTED, NOT_RUNNING, TIMED_OUT, USAGE
from fog_compute.cli.output import is_terminal, speaks_unicode, write
from fog_compute.descriptors import LINE_LENGTH, tell
from fog_compute.errors import PROBLEM, FogError
from fog_compute.faces import Face, in_words_of
from fog_compute.levels import PrivacyLevel
from fog_compute.text import escape_json, one_line

__all__ = [
    "LINE_LENGTH",
    "CommandError",
    "EnvFlag",
    "ForceFlag",
    "JsonFlag",
    "PrivacyFlag",
    "TaskId",
    "in_flags",
    "note",
    "print_fields",
    "print_json",
    "print_table",
    "whole",
]

JsonFlag = Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON.")]

PrivacyFlag = Annotated[
    PrivacyLevel,
    Parameter(
        name="--privacy",
        help="1, 3, 5 or 7 mix nodes on each path; at public, one node sees you and the worker.",
    ),
]

EnvFlag = Annotated[
    tuple[str, ...],
    Parameter(
        name="--env",
        negative=(),
        allow_leading_hyphen=True,
        help="Environment variable for the module, as NAME=VALUE; may be given many times.",
    ),
]

ForceFlag = Annotated[
    bool,
    Parameter(name="--force", negative=(), help="Replace files that stand in that folder already."),
]

TaskId = Annotated[
    str,
    Parameter(
        help="The task: @last, @2 for the last but one, its id, or how that alone begins or ends."
    ),
]

_GAP: Final = "  "
_DIGITS: Final = re.compile(r"[+-]?[0-9]{1,30}", re.ASCII)


def whole(_: object, tokens: Sequence[Token]) -> int:
    """Read the value of an option as it stands: nothing is rounded, nor in another base."""
    text = tokens[0].value
    if _DIGITS.fullmatch(text) is None:
        raise ValueError(f"{text!r} is no whole number.")
    return int(text)


_BY_CODE: Final[Mapping[int, str]] = {
    FAILED: "failed",
    USAGE: "usage",
    NOT_RUNNING: "not-running",
    TIMED_OUT: "timed-out",
    INTERRUPTED: "interrupted",
}


class CommandError(FogError):
    """Ends a command with one line and an exit code.

    Attributes:
        exit_code: the command's.
        beside: members of the JSON object that tells of the error with ``--json``, beside it.
    """

    def __init__(
        self,
        message: str,
        exit_code: int = FAILED,
        *,
        kind: str = "",
        beside: Mapping[str, object] | None = None,
    ) -> None:
        """``kind`` is a type of problem, whole or its last word; by default the exit code's."""
        super().__init__(message)
        self.exit_code = exit_code
        self.beside = beside or {}
        self._kind = kind or _BY_CODE.get(exit_code, "failed")

    @property
    def problem(self) -> str:
        """The type of problem that it is, for programs."""
        return self._kind if ":" in self._kind else PROBLEM + self._kind


def in_flags(text: str) -> str:
    """Return a text of the backend's, or about a task, in the words of the command line."""
    return in_words_of(Face.COMMAND, text)


def note(text: str) -> None:
    """Tell a person something beside the result, if anybody can be told."""
    tell("fog", text)


def print_json(value: object) -> None:
    """Print one JSON document: in lines for a terminal, in one line otherwise."""
    indent = 2 if is_terminal() else None
    document = json.dumps(value, indent=indent, ensure_ascii=not speaks_unicode())
    write(escape_json(document) + "\n")


def print_fields(fields: Sequence[tuple[str, str]]) -> None:
    """Print names and texts in two columns."""
    width = max(len(name) for name, _ in fields)
    lines = [
        f"{name.ljust(width)}  {one_line(text, LINE_LENGTH)}".rstrip() for name, text in fields
    ]
    write("\n".join(lines) + "\n")


def print_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print columns that line up, with nothing but spaces between them, so that scripts can cut.

    On a terminal that is wide enough the head stands out.
    """
    texts = [[one_line(str(cell), LINE_LENGTH) for cell in row] for row in rows]
    if is_terminal() and (drawn := _drawn(head, texts)):
        write(drawn)
        return
    widths = [max(map(len, column)) for column in zip(head, *texts, strict=True)]
    lines = [
        _GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *texts)
    ]
    write("\n".join(lines) + "\n")


def _drawn(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for a terminal, or nothing where it is too wide; no word in it is markup."""
    from rich.console import Console  # slow; not needed in scripts
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, len(_GAP), 0, 0), header_style="bold")
    for name in head:
        table.add_column(Text(name), no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    # Drawn first and written afterwards: what a terminal does not take is an error here as well.
    width = shutil.get_terminal_size().columns
    console = Console(file=io.StringIO(), force_terminal=True, width=width)
    free = console.options.update(max_width=LINE_LENGTH * len(head))
    if console.measure(table, options=free).maximum > width:
        return ""
    with console.capture() as drawn:
        console.print(table)
    return drawn.get()
