"""What a fog is at one moment, as tables: read at once, and shown by whoever has a screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from fog_compute.cli.alerts import ALERTS, rows_of, watched_by
from fog_compute.cli.common import CommandError
from fog_compute.cli.local_net import net_trouble
from fog_compute.cli.monitoring.asking import Alert, ask_alerts
from fog_compute.cli.state import read_fog_state
from fog_compute.cli.states import shown_state
from fog_compute.cli.status import all_troubles
from fog_compute.client.answers import (
    LevelCircuits,
    LevelList,
    Net,
    Service,
    Status,
    TaskPage,
    TaskRow,
    Worker,
)
from fog_compute.client.backend import Backend
from fog_compute.client.places import Home
from fog_compute.text import one_line
from fog_compute.units import format_bytes

__all__ = ["PAGES", "TASKS", "Page", "Snapshot", "page_of", "take"]

TASKS: Final = 100
"""The newest tasks, which are listed."""

CELL: Final = 80
"""Characters of a cell; the words may be anybody's."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A fog at one moment.

    Attributes:
        status: services, network, workers and tasks by state.
        tasks: the newest tasks.
        levels: the circuits of all levels.
        troubles: what is wrong, one line each.
        alerts: of the monitoring, if this fog has one.
    """

    status: Status
    tasks: Sequence[TaskRow]
    levels: Sequence[LevelCircuits]
    troubles: Sequence[str]
    alerts: Sequence[Alert] = ()

    @property
    def summary(self) -> str:
        """How many there are of everything, in one line."""
        net = self.status["net"]
        nodes = "no net" if net is None else f"{sum(net['nodes'].values())} nodes"
        counts = ", ".join(
            f"{n} {shown_state(state)}" for state, n in self.status["tasks"].items() if n
        )
        workers = self.status["workers"]
        ready = sum(worker["state"] == "ready" for worker in workers)
        text = f"{nodes}; workers: {ready} of {len(workers)} ready; tasks: {counts or 'none yet'}"
        return one_line(text, 200)


@dataclass(frozen=True, slots=True)
class Page:
    """One table.

    Attributes:
        head: the columns' names.
        rows: as many texts each.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def sorted_by(self, column: int | None, *, backwards: bool) -> Page:
        """The same rows in the order of a column, where numbers stand before words."""
        if column is None:
            return Page(self.head, self.rows[::-1]) if backwards else self
        rows = sorted(self.rows, key=lambda row: _rank(row[column]), reverse=backwards)
        return Page(self.head, tuple(rows))


def take(backend: Backend) -> Snapshot:
    """Ask for everything.

    Raises:
        FogError: the backend is away, or cannot answer.
    """
    status = backend.get("/api/v1/status", Status)
    tasks = backend.get("/api/v1/tasks", TaskPage, limit=TASKS)["tasks"]
    levels = backend.get("/api/v1/circuits", LevelList)["levels"]
    here = isinstance(backend.place, Home)
    state = read_fog_state(backend.layout) if here else None
    troubles = all_troubles(state, status, net_trouble(backend.layout) if here else "")
    alerts: list[Alert] = []
    if (prometheus := watched_by(state)) is not None:
        try:
            alerts = ask_alerts(prometheus)
        except CommandError as error:
            troubles.append(str(error))
    return Snapshot(status, tasks, levels, troubles, alerts)


PAGES: Final = ("tasks", "workers", "net", "circuits", "services", "alerts")
"""The tables, in the order in which they are shown."""


def page_of(name: str, snapshot: Snapshot) -> Page:
    """One of the tables."""
    status = snapshot.status
    head: tuple[str, ...]
    match name:
        case "tasks":
            head, rows = _TASKS, [_task(task) for task in snapshot.tasks]
        case "workers":
            head, rows = _WORKERS, [_worker(worker) for worker in status["workers"]]
        case "net":
            head, rows = _NET, _net(status["net"], snapshot.troubles)
        case "circuits":
            head, rows = _CIRCUITS, [_level(level) for level in snapshot.levels]
        case "alerts":
            head, rows = ALERTS, list(rows_of(snapshot.alerts))
        case _:
            head = _SERVICES
            rows = [_service(service) for service in status["services"]]
    return Page(head, tuple(tuple(one_line(str(cell), CELL) for cell in row) for row in rows))


_TASKS: Final = ("TASK", "STATE", "PRIVACY", "LOST", "CREATED", "REASON")
_WORKERS: Final = ("WORKER", "LEVEL", "STATE", "OURS", "SLOTS", "MEMORY", "KINDS", "GROUPS")
_NET: Final = ("WHAT", "IS")
_CIRCUITS: Final = ("LEVEL", "SESSIONS", "CIRCUITS", "UNDER WAY", "PACKETS", "SENT", "RECEIVED")
_SERVICES: Final = ("SERVICE", "STATE", "DETAIL")

_Row = Sequence[object]


def _task(task: TaskRow) -> _Row:
    lost = f"{task['tries']}/{task['max_attempts']}"
    created = task["created_at"][11:19]
    state = shown_state(task["state"])
    return (task["id"], state, task["privacy"], lost, created, task["reason"])


def _worker(worker: Worker) -> _Row:
    return (
        worker["name"],
        worker["level"] or "any",
        worker["state"],
        worker["leased"],
        worker["slots"],
        format_bytes(worker["memory_bytes"]),
        ",".join(worker["kinds"]),
        ",".join(worker["groups"]) or "-",
    )


def _net(net: Net | None, troubles: Sequence[str]) -> list[_Row]:
    rows: list[_Row] = [("trouble", trouble) for trouble in troubles]
    if net is None:
        return [*rows, ("net", "not joined")]
    rows.append(("net", f"{net['name']}, epoch {net['epoch']}"))
    rows += [(f"{role} nodes", count) for role, count in net["nodes"].items()]
    rows.append(("mean delay", f"{net['mean_delay_ms']:g} ms a hop"))
    rows += [
        (f"{path['hops']} hops", f"{path['lost']} of {path['tries']} lost, {_ms(path)}")
        for path in net["paths"]
    ]
    rows += [
        (f"left out {node['id'][:16]}", f"lost {node['lost']} of {node['tries']}")
        for node in net["excluded"]
    ]
    return [*rows, *(("", warning) for warning in net["warnings"])]


def _ms(path: Mapping[str, object]) -> str:
    took = path["round_trip_ms"]
    return "no round trip yet" if took is None else f"{took} ms there and back"


def _level(level: LevelCircuits) -> _Row:
    return (
        level["level"],
        level["sessions"],
        sum(level["circuits"].get(state, 0) for state in ("fresh", "active", "draining")),
        level["in_flight"],
        level["packets_sent"],
        format_bytes(level["bytes_sent"]),
        format_bytes(level["bytes_received"]),
    )


def _service(service: Service) -> _Row:
    return (service["name"], service["state"], service["detail"])


def _rank(text: str) -> tuple[int, float, str]:
    try:
        return (0, float(text), text)
    except ValueError:
        return (1, 0.0, text)
