"""``fog status``: what runs, and how it is."""

from __future__ import annotations

from typing import Final

from fog_compute.cli.client import Backend
from fog_compute.cli.common import JsonFlag, print_fields, print_json
from fog_compute.cli.state import FogState, read_fog_state, troubles_of
from fog_compute.client.answers import CircuitCounts, Damaged, ExcludedNode, PathFigures, Status
from fog_compute.layout import HomeLayout, home_from_environment
from fog_compute.units import format_bytes

__all__ = ["damaged_lines", "excluded_line", "status"]

DAMAGED_SHOWN: Final = 10


def status(*, json: JsonFlag = False) -> int:
    """Show the processes, the network and what it hides, the workers and the tasks."""
    layout = HomeLayout(home_from_environment())
    with Backend(layout) as backend:
        report = backend.get("/api/v1/status", Status)
    state = read_fog_state(layout)
    if json:
        print_json({"home": str(layout.root), "fog": state, **report})
        return 0
    _print(layout, state, report)
    return 0


def _print(layout: HomeLayout, state: FogState | None, report: Status) -> None:
    lines = [("home", str(layout.root))]
    if state:
        lines.append(("backend", f"{state['url']}, up since {state['started_at']}"))
        children = ", ".join(
            f"{name} {pid or 'restarting'}" for name, pid in state["children"].items()
        )
        lines.append(("processes", f"fog {state['pid']}, {children}"))
    lines += [("", trouble) for trouble in troubles_of(state)]
    lines += _net_lines(report)
    lines += _circuit_lines(report["circuits"])
    workers = report["workers"]
    lines.append(("workers", str(len(workers)) if workers else "none yet"))
    for worker in workers:
        memory = format_bytes(worker["memory_bytes"])
        level = worker["level"] or "any level"
        lends = f"{worker['slots']} slots, {memory}, {' and '.join(worker['kinds'])}"
        text = f"{worker['name']}: {level}, {worker['state']}, {lends}"
        lines.append(("", text))
    counts = ", ".join(f"{count} {name}" for name, count in report["tasks"].items() if count)
    lines.append(("tasks", counts or "none yet"))
    lines += damaged_lines(report["damaged"])
    print_fields(lines)


def damaged_lines(rows: list[Damaged]) -> list[tuple[str, str]]:
    """Name rows that cannot be read, the first of them."""
    lines = [
        ("" if number else "damaged", f"{row['table']} {row['key']}: {row['reason']}")
        for number, row in enumerate(rows[:DAMAGED_SHOWN])
    ]
    if more := len(rows) - len(lines):
        lines.append(("", f"and {more} more: `fog db check` names them"))
    return lines


def _circuit_lines(levels: dict[str, CircuitCounts]) -> list[tuple[str, str]]:
    lines: list[tuple[str, str]] = []
    for level, counts in levels.items():
        sessions = f"{counts['sessions']} session{'' if counts['sessions'] == 1 else 's'}"
        text = f"{level}: {counts['circuits']} of {sessions}, {counts['in_flight']} under way"
        lines.append(("" if lines else "circuits", text))
    return lines


def _net_lines(report: Status) -> list[tuple[str, str]]:
    net = report["net"]
    lines: list[tuple[str, str]] = []
    if net is not None:
        nodes = ", ".join(f"{count} {role}" for role, count in net["nodes"].items())
        total, delay = sum(net["nodes"].values()), net["mean_delay_ms"]
        text = f"{net['name']}: {total} nodes ({nodes}), epoch {net['epoch']}"
        lines.append(("net", f"{text}, mean delay {delay:g} ms a hop"))
        lines += [("", _path(path)) for path in net["paths"]]
        lines += [("", excluded_line(node)) for node in net["excluded"]]
        lines += [("", warning) for warning in net["warnings"]]
    lines += [
        ("service", f"{service['name']} is {service['state']}: {service['detail']}")
        for service in report["services"]
        if service["state"] != "running"
    ]
    return lines


def _path(path: PathFigures) -> str:
    took = path["round_trip_ms"]
    time = "" if took is None else f", {took} ms there and back"
    return f"{path['hops']} hops: {path['lost']} of {path['tries']} packets lost{time}"


def excluded_line(node: ExcludedNode) -> str:
    """Say which node a client leaves out, and why."""
    return (
        f"left out {node['id']}: lost {node['lost']} of {node['tries']} packets, "
        f"{node['expected']} by chance; tried again in {round(node['seconds_left'])} s"
    )
