"""``fog worker status``: what this machine lends, and how that goes."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from fog_compute.cli.codes import NOT_RUNNING
from fog_compute.cli.common import CommandError, JsonFlag, print_fields, print_json
from fog_compute.cli.output import write
from fog_compute.clock import SystemClock
from fog_compute.errors import FogError
from fog_compute.layout import HomeLayout, home_from_environment
from fog_compute.locking import is_locked
from fog_compute.units import format_bytes, format_duration
from fog_compute.worker.report import REPORT_FILE, TOLD_EVERY_S, WorkerReport, read_report

__all__ = ["lacking_scripts", "status"]

SILENT_S: Final = 3 * TOLD_EVERY_S


@dataclass(frozen=True, slots=True)
class _Lent:
    """One worker of this machine.

    Attributes:
        home: its folder.
        report: what it last told.
        runs: whether it runs now.
        silent: whether it runs, and has told nothing for longer than a worker that works.
        free_bytes: what is free on its disk.
        told_at: when it told that, in UTC.
    """

    home: Path
    report: WorkerReport
    runs: bool
    silent: bool
    free_bytes: int
    told_at: str


def status(*, json: JsonFlag = False) -> int:
    """Show what this machine lends, by `fog worker start` or `fog up`, and how that goes.

    The exit code is 3 where no worker runs.

    For example: `fog worker status`
    """
    found = _found(HomeLayout(home_from_environment()))
    told = [_as_json(one) for one in found] if json else []
    if not json:
        for number, one in enumerate(found):
            write("\n" if number else "")
            print_fields(_fields(one))
    if not any(one.runs for one in found):
        raise CommandError(
            "this machine lends nothing now: `fog worker start` does",
            NOT_RUNNING,
            beside={"workers": told},
        )
    if json:
        print_json(told)
    return 0


def lacking_scripts(layout: HomeLayout) -> list[str]:
    """Say of each worker of this machine that runs why it takes no scripts, where it is to."""
    with contextlib.suppress(FogError, OSError):  # it is a hint: `fog worker status` says the rest
        return [
            f"{one.home.name} runs no scripts yet: {one.report.lacking}"
            for one in _found(layout)
            if one.runs and one.report.lacking
        ]
    return []


def _found(layout: HomeLayout) -> list[_Lent]:
    homes = [*layout.lent.root.glob("worker-*"), *layout.root.glob("worker-*")]
    found = []
    for home in sorted(homes):
        report = read_report(home)
        if report is not None:
            told = datetime.fromtimestamp((home / REPORT_FILE).stat().st_mtime, UTC)
            runs, free = is_locked(home / "worker.lock"), shutil.disk_usage(home).free
            silent = runs and (SystemClock().now() - told).total_seconds() > SILENT_S
            found.append(_Lent(home, report, runs, silent, free, f"{told:%Y-%m-%d %H:%M:%S}"))
    return found


def _as_json(one: _Lent) -> dict[str, object]:
    """All of a report; of one who does not run, without what was only true while it did."""
    report: dict[str, object] = msgspec.to_builtins(one.report)
    if not one.runs:
        report.update(
            dict.fromkeys(("able", "running", "waiting", "trouble", "lacking", "walls", "http"))
        )
        report["levels"] = [
            {**level, "listed": False, "reason": ""}
            for level in msgspec.to_builtins(one.report.levels)
        ]
    return {
        "home": str(one.home),
        "runs": one.runs,
        "silent": one.silent,
        "told_at": one.told_at,
        "disk_free_bytes": one.free_bytes,
        **report,
    }


def _fields(one: _Lent) -> list[tuple[str, str]]:
    report = one.report
    if not one.runs:
        return [
            ("worker", f"{one.home} does not run; it last told of itself at {one.told_at}"),
            *_lends(report),
            ("disk", f"{format_bytes(one.free_bytes)} free"),
            ("did", f"{_did(report)}, when it ran last"),
        ]
    lines = [("worker", f"{one.home} runs")]
    if one.silent:
        hangs = f"it hangs, or is frozen: it has told nothing since {one.told_at}, and stood so"
        lines.append(("silent", hangs))
    for listing in report.levels:
        level = "any level" if listing.level is None else listing.level.value
        stands = f"listed as {listing.name}"
        if not listing.listed:
            stands = "not listed" + (f": {listing.reason}" if listing.reason else "")
        lines.append((level, stands))
    lines += [
        *_lends(report),
        *([("scripts", f"none: {report.lacking}")] if report.lacking else []),
        ("now", f"{report.running} run, {report.waiting} of at most {report.queue} wait"),
        ("able", f"{report.able} of {report.slots} slots can run tasks"),
        ("cache", f"{format_bytes(report.cache_bytes)} of {format_bytes(report.cache_limit)}"),
        ("results", f"{format_bytes(report.kept_bytes)} of {format_bytes(report.kept_limit)} kept"),
        ("disk", f"{format_bytes(one.free_bytes)} free"),
        ("did", _did(report)),
        ("refused", f"{report.counts.turned_away} requests of strangers"),
        ("walls", ", ".join(wall.name for wall in report.walls if wall.stands) or "none"),
        *(("without", f"{wall.name}: {wall.says}") for wall in report.walls if not wall.stands),
    ]
    if report.http:
        lines.append(("watched", f"at {report.http}/health and {report.http}/metrics"))
    if report.trouble:
        lines.append(("trouble", report.trouble))
    return lines


def _lends(report: WorkerReport) -> list[tuple[str, str]]:
    """What it lends, whether it runs or not."""
    lines = [
        ("groups", ", ".join(report.groups) or "none: nobody can use it"),
        ("kinds", ", ".join(report.kinds)),
        ("slots", str(report.slots)),
        ("memory", f"{format_bytes(report.memory_bytes)} for one task"),
    ]
    if report.wall_s:  # an earlier version did not tell
        lines += [
            ("wall", f"{format_duration(report.wall_s)} for one task"),
            ("scratch", f"{format_bytes(report.scratch_bytes)} for one task"),
            ("output", f"{format_bytes(report.output_bytes)} for one task, each stream and files"),
        ]
    return lines


def _did(report: WorkerReport) -> str:
    counts = report.counts
    return (
        f"{counts.taken} taken, {counts.finished} finished, {counts.lost} lost,"
        f" {counts.returned} given back"
    )
