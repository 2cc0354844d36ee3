"""``fog task logs``: what a task writes, while it runs and afterwards."""

from __future__ import annotations

import time
from typing import Annotated, Final

from cyclopts import Parameter

from fog_compute.cli.client import Backend
from fog_compute.cli.common import JsonFlag, TaskId, note, print_json
from fog_compute.cli.names import task_id_of, whole_id
from fog_compute.cli.output import write
from fog_compute.client.answers import Task
from fog_compute.client.tails import grown, last_written
from fog_compute.text import printable

__all__ = ["logs"]

POLL_S: Final = 1.0
SHOWN: Final = 64 * 1024  # characters of a task's errors or output that are shown at its end


def logs(
    task_id: TaskId,
    /,
    *,
    follow: Annotated[
        bool, Parameter(name=("--follow", "-f"), negative=(), help="Go on until the task is over.")
    ] = False,
    json: JsonFlag = False,
) -> int:
    """Show the last that a task wrote: its errors if there are any, else its output.

    Of a running task that is what its worker told when it was last asked, 512 bytes at most. With
    --json and --follow each piece is an object of its own.

    For example: `fog task logs 01k7 --follow`
    """
    task_id = task_id_of(task_id)
    with Backend() as backend:
        task_id = whole_id(backend, task_id)
        shown = ""
        while True:
            task = backend.get(f"/api/v1/tasks/{task_id}", Task)
            text = _written(backend, task) if task["final"] else printable(task["log_tail"], SHOWN)
            new = grown(shown, text)
            if json and (new or task["final"] or not follow):
                print_json({"id": task_id, "state": task["state"], "text": new})
            elif new:
                write(new)
            shown = text or shown
            if task["final"] or not follow:
                break
            time.sleep(POLL_S)
    if json:
        return 0
    if not shown:
        note(f"task {task_id} is {task['state']}, and nothing of what it wrote is here")
    elif not shown.endswith("\n"):
        write("\n")
    return 0


def _written(backend: Backend, task: Task) -> str:
    """The end of what a task that is over wrote to standard error, or else to standard output."""
    if (stream := last_written(task)) is None:
        return ""
    data = backend.whole(f"/api/v1/tasks/{task['id']}/{stream}")
    return printable(data[-SHOWN:].decode(errors="replace"), SHOWN)
