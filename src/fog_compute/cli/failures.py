"""How a command fails: one line on standard error, an exit code and, with ``--json``, an object.

The types are those of the backend's problems where the failure came from there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from cyclopts import CycloptsError

from fog_compute.cli.codes import FAILED, INTERRUPTED, NOT_RUNNING, USAGE
from fog_compute.cli.common import LINE_LENGTH, CommandError, in_flags, print_json
from fog_compute.descriptors import LostOutput, drop_output, tell, why
from fog_compute.errors import (
    EXHAUSTED,
    PROBLEM,
    ConfigError,
    FogError,
    FolderUnusable,
    InvalidTask,
    NotRunning,
    PrivacyUnavailable,
    Unreadable,
    is_exhaustion,
)
from fog_compute.text import one_line

__all__ = ["Failure", "exit_code_of", "failure_of", "report", "wants_json"]

END_OF_OPTIONS: Final = "--"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a command failed.

    Attributes:
        kind: the type of problem.
        message: the one line for a person; it may hold words of others.
        exit_code: the command's.
        more: members of the error that only this type has.
        beside: members beside the error: what the command can tell all the same.
        said: whether a person knows: no line tells of it.
    """

    kind: str
    message: str
    exit_code: int
    more: Mapping[str, object] = field(default_factory=dict)
    beside: Mapping[str, object] = field(default_factory=dict)
    said: bool = False

    def document(self) -> dict[str, object]:
        """The failure as JSON."""
        error = {
            "type": self.kind,
            "message": one_line(self.message, LINE_LENGTH),
            "exit_code": self.exit_code,
            **self.more,
        }
        return {**self.beside, "error": error}


def failure_of(error: BaseException) -> Failure | None:
    """What an exception means for the user of a command; None if it is a fault of the command."""
    match error:
        case CycloptsError():
            command = " ".join(("fog", *(error.command_chain or ()), "--help"))
            return Failure(f"{PROBLEM}usage", f"{error} See `{command}`.", USAGE)
        case CommandError():
            return Failure(error.problem, str(error), error.exit_code, beside=error.beside)
        case PrivacyUnavailable():
            more = {"needed": error.needed, "available": error.available}
            return Failure(error.problem, in_flags(str(error)), FAILED, more)
        case FogError():
            return Failure(error.problem, in_flags(str(error)), exit_code_of(error))
        case OSError() if not isinstance(error, LostOutput):
            return Failure(f"{PROBLEM}system", why(error), FAILED)
        case KeyboardInterrupt():
            return Failure(f"{PROBLEM}interrupted", "interrupted", INTERRUPTED, said=True)
        case _ if is_exhaustion(error):
            return Failure(f"{PROBLEM}exhausted", EXHAUSTED, FAILED)
    return None


def exit_code_of(error: FogError) -> int:
    """The exit code of an error that this package raises."""
    match error:
        case CommandError():
            return error.exit_code
        case ConfigError() | FolderUnusable() | InvalidTask() | Unreadable():
            return USAGE
        case NotRunning():
            return NOT_RUNNING
    return FAILED


def report(failure: Failure, *, as_json: bool) -> int:
    """Tell of a failure and return the exit code, which stays true where nobody can be told."""
    if not failure.said:
        tell("fog", failure.message)
    if as_json:
        try:
            print_json(failure.document())
        except LostOutput:
            drop_output()
    return failure.exit_code


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether a command was asked for JSON, also where it could not be understood otherwise."""
    own = arguments
    if END_OF_OPTIONS in arguments:
        own = arguments[: arguments.index(END_OF_OPTIONS)]
    return "--json" in own
