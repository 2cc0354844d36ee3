"""Starting what stays, in this process or in the background, and saying what happens to it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from fog_compute import spawn
from fog_compute.cli.children import LINE_BYTES, event_of
from fog_compute.cli.codes import FAILED, USAGE
from fog_compute.cli.common import CommandError, note
from fog_compute.cli.failures import exit_code_of
from fog_compute.cli.log_files import open_log
from fog_compute.cli.needs import UnmetNeeds
from fog_compute.cli.output import write
from fog_compute.cli.supervisor import Report, Supervisor
from fog_compute.client.lock import Free, HomeLock, where
from fog_compute.clock import SystemClock
from fog_compute.descriptors import LostOutput, drop_output, why
from fog_compute.errors import FogError
from fog_compute.first import go_below_first_process, is_first_process
from fog_compute.layout import HomeLayout

__all__ = ["already", "foreground", "may_stay", "relay", "reporting", "start_in_background"]

_PARTS: Final = {"net": "local net", "backend": "backend"}


@contextlib.contextmanager
def reporting(*, as_json: bool) -> Iterator[Report]:
    """Give the way in which events are told; an error that ends them is an event too."""
    try:
        yield _report_json if as_json else _report_text
    except UnmetNeeds as error:
        for problem in error.problems[:-1]:
            note(problem)
        problems = {"message": str(error), "problems": error.problems}
        raise _as_event(CommandError(error.problems[-1], kind=error.problem), problems) from None
    except FogError as error:
        raise _as_event(error, {}) from error


def _as_event(error: FogError, more: Mapping[str, object]) -> CommandError:
    """The error as the last event, which programs know by its name as all others."""
    event = {"event": "error", "message": str(error), **more}
    return CommandError(str(error), exit_code_of(error), kind=error.problem, beside=event)


def may_stay(*, detach: bool) -> None:
    """Go below process 1 of a container, or refuse to leave it with nothing to wait for.

    Raises:
        CommandError: this is process 1, and would end.
    """
    if not detach:
        go_below_first_process()
    elif is_first_process():
        raise CommandError(
            "this is process 1 of a container, which ends with this command: leave out --detach",
            USAGE,
        )


def already(lock: HomeLock) -> str:
    """Say in brackets who holds a home, if that is known."""
    holder = lock.holder()
    return "" if isinstance(holder, Free) else f" ({where(holder)})"


def foreground(lock: HomeLock, supervisor: Supervisor) -> None:
    """Stay until it is over, and give the home back."""
    try:
        asyncio.run(supervisor.run())
    finally:
        lock.give_back()


def start_in_background(
    words: Sequence[str], layout: HomeLayout, environment: dict[str, str], report: Report
) -> None:
    """Run a `fog` command with ``--json`` in a session of its own; wait until it is ready."""
    layout.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
    command = spawn.python_command("fog_compute.cli.main", *words, "--json")
    log = open_log(layout.logs / "up.log")
    process = spawn.start_detached(command, environment, stderr=log)
    os.close(log)
    ready = False
    try:
        ready = relay(process, report)
    finally:
        if ready:
            spawn.let_go(process)
        else:
            # Not ready means not wanted: an interrupted start leaves nothing behind.
            with process:
                process.terminate()


def relay(process: spawn.Detached, report: Report) -> bool:
    """Hand on what the background process reports until it is ready."""
    if process.stdout is None:
        return False
    while line := process.stdout.readline(LINE_BYTES):
        event = event_of(line)
        if event is None or not isinstance(event.get("event"), str):
            continue
        name = str(event.pop("event"))
        if name == "error":
            process.wait()
            raise _error_of(event)
        report(name, event)
        if name == "ready":
            return True
    raise CommandError(f"the fog ended with {process.wait()} before it was ready: see logs/up.log")


def _error_of(event: Mapping[str, object]) -> CommandError:
    """The error that ended the background process, as its own command's."""
    message = str(event.get("message", "it did not say why"))
    error = event.get("error")
    if not isinstance(error, dict):
        return CommandError(message)
    kind, code = error.get("type"), error.get("exit_code")
    return CommandError(
        message,
        code if isinstance(code, int) and code else FAILED,
        kind=kind if isinstance(kind, str) else "",
    )


def _report_json(event: str, fields: dict[str, object]) -> None:
    """Tell one event as a line of JSON; what a log is to keep, on standard error as well."""
    if event in _NOTES:
        note(f"{SystemClock().now():%Y-%m-%d %H:%M:%S} {_NOTES[event](fields)}")
    _write(json.dumps({"event": event, **fields}))


def _report_text(event: str, fields: dict[str, object]) -> None:
    """Tell one event to a person."""
    match event:
        case "started":
            _write(f"{_part(fields)} started ({fields.get('seconds')} s)")
        case "ready":
            url = fields.get("url")
            _write(f"ready after {fields.get('seconds')} s" + (f": {url}" if url else ""))
        case "stopping":
            _write("stopping; once more Ctrl-C stops at once")
        case "stopped":
            _write(f"stopped in {fields.get('seconds')} s")
        case _ if event in _NOTES:
            note(_NOTES[event](fields))


def _part(fields: Mapping[str, object]) -> str:
    name = str(fields.get("name", ""))
    return _PARTS.get(name, name)


def _ended(fields: Mapping[str, object]) -> str:
    return f"{_part(fields)} is started again: {fields.get('reason')}"


def _restarted(fields: Mapping[str, object]) -> str:
    return f"{_part(fields)} is back"


def _trouble(fields: Mapping[str, object]) -> str:
    reason = fields.get("reason")
    return f"{_part(fields)}: {reason}" if reason else f"{_part(fields)} can run tasks again"


_NOTES: Final[Mapping[str, Callable[[Mapping[str, object]], str]]] = {
    "ended": _ended,
    "restarted": _restarted,
    "trouble": _trouble,
}
"""What happens to a fog that runs, in words."""


def _write(line: str) -> None:
    try:
        write(line + "\n")
    except LostOutput as error:
        drop_output()
        # In the background nobody reads any more once it is ready; the fog itself is well.
        if error.errno != errno.EPIPE:
            note(f"{why(error)}: what happens is told no more, and the fog runs on")
