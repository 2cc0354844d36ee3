"""What a person means who types several files behind one ``--input``, as a shell's ``*`` does."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Final

from fog_compute.cli.codes import USAGE
from fog_compute.cli.common import LINE_LENGTH, CommandError
from fog_compute.cli.sources import names_something
from fog_compute.text import as_named, one_line

__all__ = ["inputs_apart"]

INPUT: Final = "--input"
END: Final = "--"


def inputs_apart(arguments: Sequence[str], flags: Collection[str]) -> list[str]:
    """Return the arguments of ``fog run`` with an ``--input`` before each file of a row of them.

    Only ``--input FILE`` begins a row, which ends at the next option; in ``--input=FILE`` there is
    one.

    Args:
        arguments: those behind ``run``.
        flags: the options that take no value.

    Raises:
        CommandError: what is in a row may be meant otherwise; the text says how to say which.
    """
    made: list[str] = []
    has_module = False
    at = 0
    while at < len(arguments) and arguments[at] != END:
        token = arguments[at]
        at += 1
        made.append(token)
        if token == INPUT:
            row = list(_row(arguments[at:]))
            made += _inputs(row, has_module=has_module)
            has_module |= len(row) > 1
            at += len(row)
        elif _is_option(token):
            if "=" not in token and token not in flags and at < len(arguments):
                made.append(arguments[at])
                at += 1
        else:
            has_module = True
    return [*made, *arguments[at:]]


def _row(arguments: Sequence[str]) -> Iterator[str]:
    """The value of an option, whatever it is, and what follows until the next option."""
    for number, token in enumerate(arguments):
        if number and (_is_option(token) or token == END):
            return
        yield token


def _inputs(row: Sequence[str], *, has_module: bool) -> list[str]:
    """Say of each file of a row that it is an input; of two before a module the last is that."""
    if not has_module and len(row) <= 2:  # --input FILE MODULE
        return list(row)
    if not has_module:
        shown = one_line(" ".join(map(as_named, row)), LINE_LENGTH // 2)
        raise CommandError(
            f"which of {shown} is the module? Give it before {INPUT}: `fog run MODULE {INPUT}"
            " FILE…`",
            USAGE,
        )
    for token in row[1:]:
        if not names_something(token):
            raise CommandError(
                f"{as_named(token)} stands behind {INPUT} and is no file: arguments of the module"
                f" stand before {INPUT}, or behind {END}",
                USAGE,
            )
    return [*row[:1], *(part for token in row[1:] for part in (INPUT, token))]


def _is_option(token: str) -> bool:
    return len(token) > 1 and token.startswith("-")
