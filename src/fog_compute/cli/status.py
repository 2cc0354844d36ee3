"""``fog status``: what runs, and how it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fog_compute.cli.alerts import watched_by
from fog_compute.cli.client import Backend
from fog_compute.cli.common import CommandError, JsonFlag, print_fields, print_json
from fog_compute.cli.lent import lacking_scripts
from fog_compute.cli.local_net import net_trouble
from fog_compute.cli.monitoring.asking import ask_alerts, counts_of
from fog_compute.cli.state import FogState, read_fog_state, troubles_of
from fog_compute.cli.states import shown_state
from fog_compute.cli.worker import lends_line
from fog_compute.client.answers import CircuitCounts, Damaged, ExcludedNode, PathFigures, Status
from fog_compute.client.places import Home, Remote
from fog_compute.text import counted

__all__ = ["all_troubles", "excluded_line", "status"]

DAMAGED_SHOWN: Final = 10


def status(*, json: JsonFlag = False) -> int:
    """Show the processes, the network and what it hides, the workers and the tasks.

    For example: `fog status`
    """
    with Backend() as backend:
        report = backend.get("/api/v1/status", Status)
    layout = backend.layout
    # What runs elsewhere keeps its processes to itself.
    here = isinstance(backend.place, Home)
    state = read_fog_state(layout) if here else None
    troubles = all_troubles(state, report, net_trouble(layout) if here else "")
    scripts = lacking_scripts(layout) if here else []
    watched = _alerts_of(state)
    if json:
        told = {"home": str(layout.root), "fog": state, "troubles": troubles, "scripts": scripts}
        print_json({**told, "alerts": watched if isinstance(watched, dict) else None, **report})
        return 0
    where = ("home", str(layout.root))
    if isinstance(backend.place, Remote):
        where = ("backend", str(backend.place.url))
    _print(where, state, report, troubles, scripts, _watch_lines(state, watched))
    return 0


def all_troubles(state: FogState | None, report: Status, net: str) -> list[str]:
    """What is wrong, one line each, the cause before what follows from it.

    Args:
        state: what the fog wrote of its processes.
        report: what the backend says.
        net: what the home's own net says is wrong with it.
    """
    services = [
        f"{service['name']} is {service['state']}" + _behind(service["detail"])
        for service in report["services"]
        if service["state"] != "running"
    ]
    return [*([f"the net: {net}"] if net else []), *services, *troubles_of(state)]


def _behind(detail: str) -> str:
    return f": {detail}" if detail else ""


def _print(
    where: tuple[str, str],
    state: FogState | None,
    report: Status,
    troubles: Sequence[str],
    scripts: Sequence[str],
    watch_lines: list[tuple[str, str]],
) -> None:
    lines = [where]
    if state:
        lines.append(("backend", f"{state['url']}, up since {state['started_at']}"))
        children = ", ".join(
            f"{name} {pid or 'restarting'}" for name, pid in state["children"].items()
        )
        lines.append(("processes", f"fog {state['pid']}, {children}"))
        lines += [*watch_lines, *_restart_lines(state)]
    lines += _labelled("trouble", troubles)
    lines += _labelled("scripts", scripts)
    lines += _net_lines(report)
    lines += _circuit_lines(report["circuits"])
    workers = report["workers"]
    lines.append(("workers", str(len(workers)) if workers else "none on the list"))
    for worker in workers:
        level = worker["level"] or "any level"
        lines.append(("", f"{worker['name']}: {level}, {worker['state']}, {lends_line(worker)}"))
    tasks = report["tasks"].items()
    counts = ", ".join(f"{count} {shown_state(name)}" for name, count in tasks if count)
    lines.append(("tasks", counts or "none yet"))
    lines += damaged_lines(report["damaged"])
    print_fields(lines)


def _alerts_of(state: FogState | None) -> dict[str, int] | str | None:
    """How many alerts there are by state, or why that is not known; None where nobody watches."""
    prometheus = watched_by(state)
    if prometheus is None:
        return None
    try:
        return counts_of(ask_alerts(prometheus))
    except CommandError as error:
        return str(error)


def _watch_lines(
    state: FogState | None, alerts: dict[str, int] | str | None
) -> list[tuple[str, str]]:
    if state is None or alerts is None:
        return []
    urls = ", ".join(f"{name} {url}" for name, url in state.get("monitoring", {}).items())
    if isinstance(alerts, str):
        told = alerts
    elif any(alerts.values()):
        numbers = ", ".join(f"{count} {name}" for name, count in alerts.items() if count)
        told = f"{numbers}: see them with `fog alerts`"
    else:
        told = "none"
    return [("monitoring", urls), ("alerts", told)]


def damaged_lines(rows: list[Damaged]) -> list[tuple[str, str]]:
    """Name rows that cannot be read, the first of them."""
    texts = [f"{row['table']} {row['key']}: {row['reason']}" for row in rows[:DAMAGED_SHOWN]]
    if more := len(rows) - len(texts):
        texts.append(f"and {more} more: `fog db check` names them")
    return _labelled("damaged", texts)


def _circuit_lines(levels: dict[str, CircuitCounts]) -> list[tuple[str, str]]:
    texts: list[str] = []
    for level, counts in levels.items():
        sessions = counted(counts["sessions"], "session")
        texts.append(
            f"{level}: {counts['circuits']} of {sessions}, {counts['in_flight']} under way"
        )
    return _labelled("circuits", texts)


def _net_lines(report: Status) -> list[tuple[str, str]]:
    net = report["net"]
    if net is None:
        return [("net", "not joined")]
    nodes = ", ".join(f"{count} {role}" for role, count in net["nodes"].items())
    total, delay = sum(net["nodes"].values()), net["mean_delay_ms"]
    text = f"{net['name']}: {counted(total, 'node')} ({nodes}), epoch {net['epoch']}"
    return [
        ("net", f"{text}, mean delay {delay:g} ms a hop"),
        *(("", _path(path)) for path in net["paths"]),
        *(("", excluded_line(node)) for node in net["excluded"]),
        *(("", warning) for warning in net["warnings"]),
    ]


def _restart_lines(state: FogState) -> list[tuple[str, str]]:
    return _labelled(
        "restarted",
        [
            f"{name}, {counted(one['count'], 'time')}, last at {one['at']}: {one['why']}"
            for name, one in state.get("restarts", {}).items()
        ],
    )


def _labelled(label: str, texts: Sequence[str]) -> list[tuple[str, str]]:
    """Texts below each other, the first with a label."""
    return [("" if number else label, text) for number, text in enumerate(texts)]


def _path(path: PathFigures) -> str:
    took = path["round_trip_ms"]
    time = "" if took is None else f", {took} ms there and back"
    tries = counted(path["tries"], "packet")
    return f"{counted(path['hops'], 'hop')}: {path['lost']} of {tries} lost{time}"


def excluded_line(node: ExcludedNode) -> str:
    """Say which node a client leaves out, and why."""
    return (
        f"left out {node['id']}: lost {node['lost']} of {counted(node['tries'], 'packet')}, "
        f"{node['expected']} by chance; tried again in {round(node['seconds_left'])} s"
    )
