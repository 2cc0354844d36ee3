"""``fog db``: check the database, back it up, put a backup back, give room back."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter

from fog_compute.cli.codes import OK
from fog_compute.cli.common import CommandError, JsonFlag, print_fields, print_json
from fog_compute.cli.state import read_fog_state
from fog_compute.client.lock import Free, HomeLock, where
from fog_compute.clock import SystemClock
from fog_compute.config import Settings, load_settings
from fog_compute.lifetime import keep_files_private
from fog_compute.store.backups import back_up
from fog_compute.store.backups import restore as put_back
from fog_compute.store.care import Fault
from fog_compute.store.care import check as look_at
from fog_compute.store.care import vacuum as tidy_up
from fog_compute.text import counted
from fog_compute.units import format_bytes

__all__ = ["backup", "check", "restore", "vacuum"]

SHOWN: Final = 20
"""Faults that are shown to a person; JSON has up to 1000."""


def check(*, json: JsonFlag = False) -> int:
    """Read the whole database and every blob, and say what is wrong; nothing is changed.

    The fog may run meanwhile. The exit code is 1 if something is wrong.

    For example: `fog db check`
    """
    settings = _settings()
    found = look_at(settings.database, settings.blobs)
    rows = ", ".join(f"{count} {table}" for table, count in found.rows.items())
    lines = [
        ("database", found.database),
        ("schema", found.schema or "none"),
        ("rows", rows or "not read"),
        ("blobs", f"{found.blobs}, {format_bytes(found.blob_bytes)}"),
    ]
    wrong = len(found.faults) + found.more
    return _tell(
        dataclasses.asdict(found),
        [*lines, *_fault_lines(found.faults, found.more)],
        f"{wrong} {'thing is' if wrong == 1 else 'things are'} wrong with the database"
        if wrong
        else "",
        as_json=json,
    )


def backup(
    folder: Annotated[Path, Parameter(help="Where the backup goes: a folder that is not there.")],
    /,
    *,
    json: JsonFlag = False,
) -> int:
    """Copy the database of this fog, and the files that its tasks name, into a new folder.

    The fog may run meanwhile: the copy is as everything was at one moment. Tasks, results, API keys
    and sessions are in it; groups.json, tokens.json, joined.json, and the token and the clients
    below daemon/ are not: copy those while the fog is stopped, and after `fog net` changed them.

    For example: `fog db backup ~/fog-backup`
    """
    keep_files_private()
    settings = _settings()
    now = SystemClock().now()
    made = back_up(settings.database, folder.absolute(), now, settings.blobs)
    holds = f"{counted(made.tasks, 'task')}, {counted(made.blobs, 'blob')}"
    size = f"{holds}, {format_bytes(made.bytes)}"
    return _tell(
        {**dataclasses.asdict(made), "path": str(made.path)},
        [
            ("backup", str(made.path)),
            ("holds", size),
            (
                "without",
                "groups, net and token of this home: `fog db backup --help` names the files",
            ),
            *_fault_lines(made.faults),
        ],
        f"{len(made.faults)} blobs are not in the backup, for they are damaged here"
        if made.faults
        else "",
        as_json=json,
    )


def restore(
    folder: Annotated[Path, Parameter(help="A folder that `fog db backup` made.")],
    /,
    *,
    force: Annotated[
        bool, Parameter(negative=(), help="Replace the database that is there, and keep it beside.")
    ] = False,
    json: JsonFlag = False,
) -> int:
    """Put a backup in the place of this fog's database; the fog must not run.

    For example: `fog db restore ~/fog-backup`
    """
    keep_files_private()
    settings = _settings()
    _must_be_stopped(settings, "putting a backup back")
    done = put_back(settings.database, folder.absolute(), force=force, blobs=settings.blobs)
    holds = f"{counted(done.tasks, 'task')}, {counted(done.blobs, 'blob')}"
    lines = [("database", str(done.database)), ("holds", holds)]
    if done.replaced is not None:
        lines.append(("replaced", f"the one that was there is {done.replaced} now"))
    replaced = None if done.replaced is None else str(done.replaced)
    paths = {"database": str(done.database), "replaced": replaced}
    return _tell(
        {**dataclasses.asdict(done), **paths},
        [*lines, *_fault_lines(done.faults)],
        f"the backup is here, and had {len(done.faults)} faults already" if done.faults else "",
        as_json=json,
    )


def vacuum(*, json: JsonFlag = False) -> int:
    """Give the room that deleted rows left back to the disk.

    With SQLite the fog must not run, for it could write nothing meanwhile.

    For example: `fog db vacuum`
    """
    keep_files_private()
    settings = _settings()
    if isinstance(settings.database, Path):
        _must_be_stopped(settings, "tidying up")
    done = tidy_up(settings.database)
    size = f"{format_bytes(done.after)}, before {format_bytes(done.before)}"
    lines = [("database", done.database), ("size", size)]
    return _tell(dataclasses.asdict(done), lines, as_json=json)


def _tell(
    told: dict[str, object], lines: list[tuple[str, str]], wrong: str = "", *, as_json: bool
) -> int:
    """Say what was done, and fail if something is wrong."""
    if wrong and as_json:
        raise CommandError(wrong, beside=told)
    if as_json:
        print_json(told)
    else:
        print_fields(lines)
    if wrong:
        raise CommandError(wrong)
    return OK


def _settings() -> Settings:
    """The settings, unless the fog that runs here cannot have the same database by its own."""
    settings = load_settings()
    if isinstance(HomeLock(settings.layout).holder(), Free):
        return settings
    state = read_fog_state(settings.layout)
    given = settings.database_url is not None
    if state is not None and state.get("database_given", given) != given:
        here, fog = "this command", f"the fog that runs in {settings.home}"
        has, lacks = (here, fog) if given else (fog, here)
        raise CommandError(
            f"{has} has a FOG_DATABASE_URL, which {lacks} has not: give the command the settings of"
            " the fog, or it works on another database"
        )
    return settings


def _must_be_stopped(settings: Settings, what: str) -> None:
    holder = HomeLock(settings.layout).holder()
    if not isinstance(holder, Free):
        raise CommandError(
            f"a fog is running in {settings.home} ({where(holder)}), and {what} would take its"
            " database from under it: stop it with `fog down` first"
        )


def _fault_lines(faults: list[Fault], more: int = 0) -> list[tuple[str, str]]:
    lines = [
        ("" if number else "faults", f"{fault.kind}: {fault.name}: {fault.reason}")
        for number, fault in enumerate(faults[:SHOWN])
    ]
    if left := len(faults) - len(lines) + more:
        lines.append(("", f"and {left} more"))
    return lines
