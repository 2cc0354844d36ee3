"""``fog up``: start a fog and stay with it, or leave it in the background."""

from __future__ import annotations

import asyncio
import errno
import json as json_module
import os
from collections.abc import Sequence
from typing import Annotated, Final

from cyclopts import Parameter

from fog_compute import spawn
from fog_compute.cli.children import LINE_BYTES, event_of
from fog_compute.cli.codes import USAGE
from fog_compute.cli.common import CommandError, JsonFlag, note, whole
from fog_compute.cli.lock import Free, Holder, HomeLock, where
from fog_compute.cli.logs import open_log
from fog_compute.cli.needs import UnmetNeeds, check_needs
from fog_compute.cli.output import write
from fog_compute.cli.supervisor import Report, Supervisor, net_times, settings_environment
from fog_compute.config import Settings, load_settings
from fog_compute.descriptors import LostOutput, drop_output, why
from fog_compute.errors import FogError
from fog_compute.first import go_below_first_process, is_first_process
from fog_compute.layout import HomeLayout
from fog_compute.lifetime import (
    interrupt_when_told_to_end,
    keep_files_private,
    undo_inherited_signals,
)
from fog_compute.units import parse_duration

__all__ = ["relay", "report_json", "report_text", "start_in_background", "up"]

_PARTS: Final = {"net": "local net", "backend": "backend"}


def up(
    *,
    detach: Annotated[
        bool, Parameter(negative=(), help="Leave it in the background once it is ready.")
    ] = False,
    workers: Annotated[
        int | None, Parameter(help="Local workers to start.", converter=whole)
    ] = None,
    slots: Annotated[
        int | None, Parameter(help="Tasks that one worker runs at once.", converter=whole)
    ] = None,
    port: Annotated[
        int | None,
        Parameter(help="Port of the backend on 127.0.0.1; 0 for any free one.", converter=whole),
    ] = None,
    listen: Annotated[
        str | None,
        Parameter(
            help="Address of this machine at which others reach the local net's links; whoever gets"
            " there can use the network. The backend stays on loopback."
        ),
    ] = None,
    epoch: Annotated[
        str | None,
        Parameter(help="Key period of a new local net, such as 600s; it stays with the net."),
    ] = None,
    mean_delay: Annotated[
        str | None, Parameter(help="Mean delay of each hop of the local net, such as 15ms.")
    ] = None,
    exact_metrics: Annotated[
        bool, Parameter(negative=(), help="Let mix nodes export exact counters (for debugging).")
    ] = False,
    json: JsonFlag = False,
) -> int:
    """Start a local net, a backend and workers, and keep them running until Ctrl-C.

    Tasks survive: what was not over when a fog ended goes on with the next one.

    The end of the terminal stops it too, unless SIGHUP is ignored when it starts, as under `nohup`.
    """
    keep_files_private()
    undo_inherited_signals()
    settings = load_settings(
        workers=workers,
        slots=slots,
        port=port,
        listen=listen,
        epoch_s=None if epoch is None else parse_duration(epoch),
        mean_delay_ms=None if mean_delay is None else round(parse_duration(mean_delay) * 1000),
        exact_metrics=exact_metrics or None,
    )
    try:
        _up(settings, detach=detach, as_json=json)
    except UnmetNeeds as error:
        if json:
            report_json("error", {"message": str(error), "problems": error.problems})
        for problem in error.problems[:-1]:
            note(problem)
        raise CommandError(error.problems[-1]) from None
    except FogError as error:
        if json:
            report_json("error", {"message": str(error)})
        raise
    return 0


def _up(settings: Settings, *, detach: bool, as_json: bool) -> None:
    if not detach:
        go_below_first_process()
    elif is_first_process():
        raise CommandError(
            "this is process 1 of a container, which ends with this command: leave out --detach",
            USAGE,
        )
    lock = HomeLock(settings.layout)
    if isinstance(_holder(lock), Free):
        check_needs(settings)
    if not lock.take():
        raise CommandError(_running_already(lock, settings))
    report = report_json if as_json else report_text
    if detach:
        lock.give_back()
        _detach(settings, report)
        return
    try:
        asyncio.run(Supervisor(settings, report).run())
    finally:
        lock.give_back()


def _holder(lock: HomeLock) -> Holder:
    try:
        return lock.holder()
    except CommandError:  # what cannot be seen is among the needs
        return Free()


def _running_already(lock: HomeLock, settings: Settings) -> str:
    holder = lock.holder()
    known = "" if isinstance(holder, Free) else f" ({where(holder)})"
    return (
        f"a fog is running in {settings.home} already{known}:"
        " see it with `fog status`, stop it with `fog down`"
    )


def _detach(settings: Settings, report: Report) -> None:
    """Start the same command in a session of its own and wait until it is ready."""
    words = ["up"]
    values = settings.model_dump(include={"workers", "slots", "port"})
    for name, value in values.items():
        words += [f"--{name}", str(value)]
    if settings.listen is not None:
        words += ["--listen", settings.listen]
    words += net_times(settings)
    if settings.exact_metrics:
        words.append("--exact-metrics")
    start_in_background(words, settings.layout, settings_environment(settings), report)


def start_in_background(
    words: Sequence[str], layout: HomeLayout, environment: dict[str, str], report: Report
) -> None:
    """Run a `fog` command with ``--json`` in a session of its own; wait until it is ready."""
    layout.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
    command = spawn.python_command("fog_compute.cli.main", *words, "--json")
    interrupt_when_told_to_end()
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
            process.terminate()
            process.wait()


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
            raise CommandError(str(event.get("message", "it did not say why")))
        report(name, event)
        if name == "ready":
            return True
    raise CommandError(f"the fog ended with {process.wait()} before it was ready: see logs/up.log")


def report_json(event: str, fields: dict[str, object]) -> None:
    """Tell one event as a line of JSON."""
    _write(json_module.dumps({"event": event, **fields}))


def report_text(event: str, fields: dict[str, object]) -> None:
    """Tell one event to a person."""
    name = str(fields.get("name", ""))
    part = _PARTS.get(name, name)
    match event:
        case "started":
            _write(f"{part} started ({fields.get('seconds')} s)")
        case "ready":
            url = fields.get("url")
            _write(f"ready after {fields.get('seconds')} s" + (f": {url}" if url else ""))
        case "ended":
            note(f"{part} ended with {fields.get('code')} and is started again")
        case "restarted":
            note(f"{part} is back")
        case "trouble":
            reason = fields.get("reason")
            note(f"{part}: {reason}" if reason else f"{part} can run tasks again")
        case "stopping":
            _write("stopping; once more Ctrl-C stops at once")
        case "stopped":
            _write(f"stopped in {fields.get('seconds')} s")


def _write(line: str) -> None:
    try:
        write(line + "\n")
    except LostOutput as error:
        drop_output()
        # In the background nobody reads any more once it is ready; the fog itself is well.
        if error.errno != errno.EPIPE:
            note(f"{why(error)}: what happens is told no more, and the fog runs on")
