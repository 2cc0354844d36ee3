"""``fog alerts``: what the monitoring of this fog complains of."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

from fog_compute.cli.codes import USAGE
from fog_compute.cli.common import CommandError, JsonFlag, print_fields, print_json, print_table
from fog_compute.cli.monitoring.asking import Alert, ask_alerts, counts_of
from fog_compute.cli.output import write
from fog_compute.cli.state import FogState, read_fog_state
from fog_compute.client.lock import Free, HomeLock
from fog_compute.client.places import Home, place_from_environment
from fog_compute.errors import NotRunning

__all__ = ["ALERTS", "alerts", "rows_of", "watched_by"]

ALERTS: Final = ("STATE", "SEVERITY", "SINCE", "ALERT", "WHAT")

Row = tuple[str, ...]


def alerts(*, json: JsonFlag = False) -> int:
    """Show the alerts that fire, and those that will unless it passes, each with its runbook.

    They are asked of the Prometheus that `fog up --monitoring` has started in this home folder.

    For example: `fog alerts`
    """
    prometheus = _prometheus()
    found = ask_alerts(prometheus)
    if json:
        told = [dataclasses.asdict(alert) for alert in found]
        print_json({"prometheus": prometheus, **counts_of(found), "alerts": told})
    elif found:
        print_table(ALERTS, rows_of(found))
        print_fields(list({alert.name: alert.runbook for alert in found}.items()))
    else:
        write("no alert\n")
    return 0


def watched_by(state: FogState | None) -> str | None:
    """Where the Prometheus of a fog answers; None where it has none."""
    return None if state is None else state.get("monitoring", {}).get("prometheus")


def rows_of(found: Sequence[Alert]) -> list[Row]:
    """Alerts as rows below `ALERTS`."""
    return [
        (alert.state, alert.severity, alert.since[:19], alert.name, alert.summary)
        for alert in found
    ]


def _prometheus() -> str:
    place = place_from_environment()
    if not isinstance(place, Home):
        raise CommandError(f"ask where the fog runs: {place.backend} does not tell", USAGE)
    layout = place.layout
    if isinstance(HomeLock(layout).holder(), Free):
        raise NotRunning(f"no fog is running in {layout.root}: start one with `fog up`")
    url = watched_by(read_fog_state(layout))
    if url is None:
        raise CommandError(
            "this fog is not watched: stop it, and start it with `fog up --monitoring`"
        )
    return url
