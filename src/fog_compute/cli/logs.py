"""``fog logs``: what the parts of a fog have written to their logs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Literal

from cyclopts import Parameter

from fog_compute.cli.codes import USAGE
from fog_compute.cli.common import CommandError, JsonFlag, print_json, whole
from fog_compute.cli.log_lines import (
    Follower,
    Line,
    Wanted,
    chosen_logs,
    last_lines,
    logs_of,
    shown,
)
from fog_compute.cli.output import is_terminal, write
from fog_compute.clock import SystemClock
from fog_compute.layout import HomeLayout, home_from_environment
from fog_compute.units import parse_duration

__all__ = ["logs"]

POLL_S: Final = 0.25
MOST: Final = 100_000
DEFAULT_LINES: Final = 100

_COLORS: Final = {"WARN": "\x1b[33m", "ERROR": "\x1b[31m"}
_PLAIN: Final = "\x1b[0m"


def logs(
    names: Annotated[
        tuple[str, ...],
        Parameter(
            name="PART",
            help="Whose lines: backend, worker-0, net, authority, entry-0 …; `middle` means all"
            " whose names begin so. By default all.",
        ),
    ] = (),
    /,
    *,
    follow: Annotated[
        bool, Parameter(name=("--follow", "-f"), negative=(), help="Go on with what comes.")
    ] = False,
    lines: Annotated[
        int | None,
        Parameter(
            name=("--lines", "-n"),
            help="How many lines of before to show; by default 100, and with --since all.",
            converter=whole,
        ),
    ] = None,
    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Parameter(help="The least severe lines; those without a level are always shown."),
    ] = "info",
    since: Annotated[str, Parameter(help="Only lines that are no older, such as 10m.")] = "",
    json: JsonFlag = False,
) -> int:
    """Show the last lines of all logs of this fog together, in the order of their times.

    It need not run. Debug lines are there only where FOG_LOG_LEVEL=debug had them written. With
    --json each line is an object, of docs/spec/logs.md; with --follow one a line.

    For example: `fog logs worker --level warning --since 1h`
    """
    if lines is None:
        lines = MOST if since else DEFAULT_LINES
    if not 0 <= lines <= MOST:
        raise CommandError(f"--lines {lines}: give 0 to {MOST}", USAGE)
    layout = HomeLayout(home_from_environment())
    found = logs_of(layout)
    if not found:
        raise CommandError(f"there are no logs in {layout.root}: `fog up` begins them")
    try:
        found = chosen_logs(found, names)
    except KeyError as error:
        raise CommandError(_no_log(layout, error.args[0], found), USAGE) from None
    wanted = Wanted(level, _begin(since))
    follower = Follower(layout, names, wanted)
    last = last_lines(found, wanted, lines)
    if json and not follow:
        print_json([_object(line) for line in last])
        return 0
    tell = print_json_line if json else _teller(max(map(len, found)))
    for line in last:
        tell(line)
    told = {(line.part, line.at, line.message) for line in last}  # some came after its beginning
    while follow:
        for line in follower.new():
            if (line.part, line.at, line.message) not in told:
                tell(line)
        told.clear()
        time.sleep(POLL_S)
    return 0


def _no_log(layout: HomeLayout, name: str, found: Iterable[str]) -> str:
    own = layout.monitoring_logs / f"{name}.log"
    if "/" not in name and own.exists():
        return f"{name} writes in words of its own: read {own}"
    return f"{name!r} has no log here: there are {', '.join(found)}"


def _begin(since: str) -> str:
    """The earliest time that is wanted, as log lines have it."""
    if not since:
        return ""
    begin = SystemClock().now() - timedelta(seconds=parse_duration(since))
    return begin.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _object(line: Line) -> dict[str, object]:
    fields = line.fields or {"message": line.message}
    return {"timestamp": line.at, "part": line.part, **fields}


def print_json_line(line: Line) -> None:
    """Print one line as an object."""
    print_json(_object(line))


def _teller(width: int) -> Callable[[Line], None]:
    colored = is_terminal() and not os.environ.get("NO_COLOR")

    def tell(line: Line) -> None:
        color = _COLORS.get(line.level, "") if colored else ""
        text = f"{_clock_time(line.at)}  {shown(line, width)}"
        write(f"{color}{text}{_PLAIN}\n" if color else f"{text}\n")

    return tell


def _clock_time(at: str) -> str:
    """The time of a line as clocks here show it; a line before the first time has none."""
    try:
        return f"{datetime.fromisoformat(at).astimezone():%Y-%m-%d %H:%M:%S}"
    except ValueError:
        return " " * 19
