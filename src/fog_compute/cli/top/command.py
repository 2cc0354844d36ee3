"""``fog top``: live on a terminal, one snapshot anywhere else."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import Parameter

from fog_compute.cli.client import Backend
from fog_compute.cli.codes import USAGE
from fog_compute.cli.common import CommandError, JsonFlag, note, print_json, print_table
from fog_compute.cli.output import is_terminal, write
from fog_compute.cli.top.snapshot import PAGES, Snapshot, page_of, take
from fog_compute.client.places import Place
from fog_compute.descriptors import STDIN
from fog_compute.units import parse_duration

if TYPE_CHECKING:
    from fog_compute.cli.top.screen import Top
    from fog_compute.cli.top.watch import Seen

__all__ = ["hand_on", "top"]

LEAST_S: Final = 0.2
MOST_S: Final = 3600.0


def top(
    *,
    every: Annotated[
        str, Parameter(help="How long between two looks, such as 500ms; 200ms at least.")
    ] = "1s",
    json: JsonFlag = False,
) -> int:
    """Watch a fog: its tasks, workers, network, circuits, services and alerts.

    The keys are q to quit, Tab for the next table, s to sort by the next column, r to reverse, and
    p to pause. Without a terminal, or with --json, it shows one snapshot and ends.

    For example: `fog top --every 2s`
    """
    pause_s = parse_duration(every)
    if not LEAST_S <= pause_s <= MOST_S:
        raise CommandError(f"--every {every} is out of bounds: give 200ms to 1h", USAGE)
    with Backend() as backend:  # so that a fog that does not run is told as everywhere
        first = take(backend)
    if json:
        print_json(
            {
                "troubles": list(first.troubles),
                "status": first.status,
                "tasks": list(first.tasks),
                "circuits": list(first.levels),
                "alerts": [dataclasses.asdict(alert) for alert in first.alerts],
            }
        )
    elif is_terminal() and os.isatty(STDIN) and os.environ.get("TERM") != "dumb":
        _live(backend.place, first, pause_s)
    else:
        note("this is one snapshot: on a terminal, `fog top` goes on")
        _print(first)
    return 0


def _live(place: Place, first: Snapshot, pause_s: float) -> None:
    from fog_compute.cli.top.screen import Top  # slow, as is all that draws
    from fog_compute.cli.top.watch import Watch

    watch = Watch(place, lambda seen: hand_on(app, seen), pause_s)
    app = Top(
        str(place.layout.root),
        first,
        on_ready=watch.start,
        on_pause=lambda paused: watch.pause(on=paused),
    )
    try:
        app.run()
    finally:
        watch.stop()


def hand_on(app: Top, seen: Seen) -> None:
    """Let a screen, unless it is gone, show what was seen in another thread."""
    if app.is_running:
        app.call_from_thread(app.see, seen)


def _print(snapshot: Snapshot) -> None:
    write(f"{snapshot.summary}\n")
    for name in PAGES:
        page = page_of(name, snapshot)
        if page.rows:
            write("\n")
            print_table(page.head, page.rows)
