"""``fog worker status``: what this machine lends, and how that goes."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import msgspec

from fog_compute.cli.codes import NOT_RUNNING
from fog_compute.cli.common import CommandError, JsonFlag, print_fields, print_json
from fog_compute.cli.output import write
from fog_compute.layout import HomeLayout, home_from_environment
from fog_compute.locking import is_locked
from fog_compute.units import format_bytes
from fog_compute.worker.report import WorkerReport, read_report

__all__ = ["status"]


@dataclass(frozen=True, slots=True)
class _Lent:
    """One worker of this machine.

    Attributes:
        home: its folder.
        report: what it last told.
        runs: whether it runs now.
        free_bytes: what is free on its disk.
    """

    home: Path
    report: WorkerReport
    runs: bool
    free_bytes: int


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


def _found(layout: HomeLayout) -> list[_Lent]:
    homes = [*layout.lent.root.glob("worker-*"), *layout.root.glob("worker-*")]
    found = []
    for home in sorted(homes):
        report = read_report(home)
        if report is not None:
            found.append(
                _Lent(home, report, is_locked(home / "worker.lock"), shutil.disk_usage(home).free)
            )
    return found


def _as_json(one: _Lent) -> dict[str, object]:
    report: dict[str, object] = msgspec.to_builtins(one.report)
    return {
        "home": str(one.home),
        "runs": one.runs,
        "disk_free_bytes": one.free_bytes,
        **report,
    }


def _fields(one: _Lent) -> list[tuple[str, str]]:
    report = one.report
    lines = [("worker", f"{one.home} {'runs' if one.runs else 'does not run'}")]
    for listing in report.levels:
        level = "any level" if listing.level is None else listing.level.value
        stands = f"listed as {listing.name}"
        if not (listing.listed and one.runs):
            stands = "not listed" + (f": {listing.reason}" if listing.reason else "")
        lines.append((level, stands))
    counts = report.counts
    did = f"{counts.taken} taken, {counts.finished} finished, {counts.lost} lost"
    did += f", {counts.returned} given back"
    lines += [
        ("groups", ", ".join(report.groups) or "none: nobody can use it"),
        ("kinds", ", ".join(report.kinds)),
        *([("scripts", f"none: {report.lacking}")] if report.lacking else []),
        ("slots", f"{report.able} of {report.slots} can run tasks"),
        ("now", f"{report.running} run, {report.waiting} of at most {report.queue} wait"),
        ("memory", f"{format_bytes(report.memory_bytes)} for one task"),
        ("cache", f"{format_bytes(report.cache_bytes)} of {format_bytes(report.cache_limit)}"),
        ("results", f"{format_bytes(report.kept_bytes)} of {format_bytes(report.kept_limit)} kept"),
        ("disk", f"{format_bytes(one.free_bytes)} free"),
        ("did", did),
        ("refused", f"{counts.turned_away} requests of strangers"),
        ("walls", ", ".join(wall.name for wall in report.walls if wall.stands) or "none"),
        *(("without", f"{wall.name}: {wall.says}") for wall in report.walls if not wall.stands),
    ]
    if report.trouble:
        lines.append(("trouble", report.trouble))
    return lines
