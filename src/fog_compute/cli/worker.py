"""``fog worker``: list, show."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from cyclopts import Parameter

from fog_compute.cli.client import Backend
from fog_compute.cli.common import JsonFlag, print_fields, print_json, print_table
from fog_compute.client.answers import Status, Worker
from fog_compute.errors import NotFound
from fog_compute.levels import PrivacyLevel
from fog_compute.tasks import TaskKind
from fog_compute.text import as_named, counted, one_line
from fog_compute.units import format_bytes, format_duration

__all__ = ["lends_line", "ls", "show"]

UNTOLD: Final = "-"


def ls(
    *,
    level: Annotated[
        PrivacyLevel | None, Parameter(help="Only those that take tasks of this level.")
    ] = None,
    kind: Annotated[TaskKind | None, Parameter(help="Only those that run this kind.")] = None,
    state: Annotated[
        Literal["ready", "busy", "lost"] | None, Parameter(help="Only those in this state.")
    ] = None,
    json: JsonFlag = False,
) -> int:
    """List the workers of the network as this fog sees them, and what a task may have there.

    For example: `fog worker ls --level private --kind python`
    """
    workers = [
        worker
        for worker in _workers()
        if (level is None or worker["level"] in (None, level.value))
        and (kind is None or kind.value in worker["kinds"])
        and (state is None or worker["state"] == state)
    ]
    if json:
        print_json(workers)
        return 0
    head = ("WORKER", "LEVEL", "STATE", "KINDS", "SLOTS", "OURS", "MEMORY")
    print_table(
        (*head, "WALL", "SCRATCH", "OUTPUT", "GROUPS"),
        [
            (
                worker["name"],
                worker["level"] or "any",
                worker["state"],
                ",".join(worker["kinds"]),
                worker["slots"],
                worker["leased"],
                format_bytes(worker["memory_bytes"]),
                *_limits(worker),
                ",".join(worker["groups"]) or "none of ours",
            )
            for worker in workers
        ],
    )
    return 0


def show(
    name: Annotated[str, Parameter(help="A worker's name in `fog worker ls`, or how it begins.")],
    /,
    *,
    json: JsonFlag = False,
) -> int:
    """Show one worker of the network: what it lends, to whom, and what it has of ours.

    For example: `fog worker show worker-4f2a`
    """
    found = [worker for worker in _workers() if worker["name"].startswith(name)]
    exact = [worker for worker in found if worker["name"] == name]
    if len(exact or found) != 1:
        many = "several workers' names begin" if found else "no worker's name begins"
        raise NotFound(f"{many} with {as_named(one_line(name, 80))}: see `fog worker ls`")
    (worker,) = exact or found
    if json:
        print_json(worker)
        return 0
    wall, scratch, output = _limits(worker)
    print_fields(
        [
            ("worker", worker["name"]),
            ("level", worker["level"] or "any"),
            ("state", worker["state"]),
            ("kinds", ", ".join(worker["kinds"])),
            ("groups", ", ".join(worker["groups"]) or "none of ours"),
            ("slots", str(worker["slots"])),
            ("ours", str(worker["leased"])),
            ("memory", format_bytes(worker["memory_bytes"])),
            ("wall", wall),
            ("scratch", scratch),
            ("output", output),
        ]
    )
    return 0


def _workers() -> list[Worker]:
    with Backend() as backend:
        return backend.get("/api/v1/status", Status)["workers"]


def _limits(worker: Worker) -> tuple[str, str, str]:
    """What a task may have besides memory, where the worker says it."""
    wall, scratch = worker.get("wall_s"), worker.get("scratch_bytes")
    output = worker.get("output_bytes")
    return (
        UNTOLD if wall is None else format_duration(wall),
        UNTOLD if scratch is None else format_bytes(scratch),
        UNTOLD if output is None else format_bytes(output),
    )


def lends_line(worker: Worker) -> str:
    """What a worker lends, in a few words."""
    slots = counted(worker["slots"], "slot")
    memory = format_bytes(worker["memory_bytes"])
    return f"{slots}, {memory}, {' and '.join(worker['kinds'])}"
