"""``fog task``: show, list, cancel, and the files that a task left."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from cyclopts import Parameter

from fog_compute.cli.client import Backend
from fog_compute.cli.codes import TIMED_OUT, USAGE
from fog_compute.cli.common import (
    LINE_LENGTH,
    CommandError,
    JsonFlag,
    TaskId,
    in_flags,
    print_fields,
    print_json,
    print_table,
    whole,
)
from fog_compute.cli.follow import Follower
from fog_compute.cli.names import task_id_of, whole_id
from fog_compute.cli.output import write
from fog_compute.cli.outputs import tell_unwritten, write_files
from fog_compute.cli.patience import OutOfTime, Patience
from fog_compute.cli.states import asked_state, shown_state
from fog_compute.client.answers import Made, OutputFiles, Result, Task, TaskPage
from fog_compute.client.folders import OutputFolder
from fog_compute.errors import NotFound
from fog_compute.tasks import TaskState
from fog_compute.text import as_named, counted, one_line
from fog_compute.units import format_bytes, format_duration, parse_duration

__all__ = ["cancel", "files", "get", "ls", "show"]

MAX_PAGE: Final = 1000
KEY_DIGITS: Final = 64  # of a receipt, in hex: the key; the signature follows


def show(
    task_id: TaskId,
    /,
    *,
    wait: Annotated[
        bool, Parameter(negative=(), help="Wait for the end and print the output.")
    ] = False,
    timeout: Annotated[str | None, Parameter(help="How long to wait, such as 90s.")] = None,
    json: JsonFlag = False,
) -> int:
    """Show a task: its state, why it is so, its attempts and why each worker was chosen.

    For example: `fog task show 01k7 --wait`
    """
    task_id = task_id_of(task_id)
    wait_s = None if timeout is None else parse_duration(timeout)
    try:
        with Patience(wait_s) as patience, Backend() as backend:
            task_id = whole_id(backend, task_id)
            if wait:
                return Follower(backend, task_id, as_json=json).follow(patience)
            task = backend.get(f"/api/v1/tasks/{task_id}", Task)
    except OutOfTime:
        raise CommandError(
            f"no answer after {format_duration(wait_s or 0)}: see `fog status`", TIMED_OUT
        ) from None
    if json:
        print_json(task)
    else:
        _print(task)
    return 0


def ls(
    *,
    state: Annotated[
        Literal["done"] | TaskState | None, Parameter(help="Only tasks in this state.")
    ] = None,
    limit: Annotated[
        int, Parameter(help="Tasks to list at most, up to 1000.", converter=whole)
    ] = 20,
    json: JsonFlag = False,
) -> int:
    """List tasks, newest first.

    For example: `fog task ls --state failed --limit 50`
    """
    if not 1 <= limit <= MAX_PAGE:
        raise CommandError(f"--limit {limit} is out of bounds: give 1 to {MAX_PAGE}", USAGE)
    query: dict[str, str | int | float] = {"limit": limit}
    if state is not None:
        query["state"] = asked_state(state)
    with Backend() as backend:
        tasks = backend.get("/api/v1/tasks", TaskPage, **query)["tasks"]
    if json:
        print_json(tasks)
        return 0
    print_table(
        ("TASK", "STATE", "PRIVACY", "LOST TRIES", "CREATED", "REASON"),
        [
            (
                task["id"],
                shown_state(task["state"]),
                task["privacy"],
                f"{task['tries']}/{task['max_attempts']}",
                _time(task["created_at"]),
                in_flags(task["reason"]),
            )
            for task in tasks
        ],
    )
    return 0


def files(task_id: TaskId, /, *, json: JsonFlag = False) -> int:
    """List the files that a task left.

    For example: `fog task files 01k7`
    """
    task_id = task_id_of(task_id)
    with Backend() as backend:
        task_id = whole_id(backend, task_id)
        found = backend.get(f"/api/v1/tasks/{task_id}/files", OutputFiles)["files"]
    if json:
        print_json(found)
    else:
        print_table(("BYTES", "FILE"), [(file["size"], as_named(file["path"])) for file in found])
    return 0


def get(
    task_id: TaskId,
    /,
    *paths: Annotated[str, Parameter(help="Files to get; all of them by default.")],
    output_dir: Annotated[str, Parameter(help="Folder to write them to; made if need be.")] = ".",
    force: Annotated[
        bool, Parameter(negative=(), help="Replace files that stand there already.")
    ] = False,
    json: JsonFlag = False,
) -> int:
    """Write the files that a task left into a folder.

    For example: `fog task get 01k7 --output-dir results`
    """
    task_id = task_id_of(task_id)
    with Backend() as backend, OutputFolder(output_dir, force=force) as folder:
        task_id = whole_id(backend, task_id)
        found = backend.get(f"/api/v1/tasks/{task_id}/files", OutputFiles)["files"]
        if missing := sorted(set(paths) - {file["path"] for file in found}):
            raise NotFound(
                f"the task left no file {as_named(missing[0])}: see `fog task files {task_id}`"
            )
        wanted = [file for file in found if not paths or file["path"] in paths]
        unwritten = write_files(backend, task_id, wanted, folder)
    written = [file["path"] for file in wanted if file["path"] not in unwritten]
    told = {"written": written, "not_written": unwritten}
    said = f"{len(written)} of {counted(len(wanted), 'file')} written"
    if not json:
        write(f"{said}\n")
    tell_unwritten(unwritten)
    if unwritten:
        raise CommandError(
            f"not written: {len(unwritten)} of {counted(len(wanted), 'file')}",
            kind="not-written",
            beside=told,
        )
    if json:
        print_json(told)
    return 0


def cancel(task_id: TaskId, /, *, json: JsonFlag = False) -> int:
    """Cancel a task that is not over.

    For example: `fog task cancel 01k7`
    """
    task_id = task_id_of(task_id)
    with Backend() as backend:
        task_id = whole_id(backend, task_id)
        task = backend.post(f"/api/v1/tasks/{task_id}/cancel", Made)
    if json:
        print_json(task)
    else:
        write(one_line(f"task {task_id} is {task['state']}") + "\n")
    return 0


def _print(task: Task) -> None:
    lines = [
        ("task", task["id"]),
        (
            "state",
            shown_state(task["state"])
            + (f": {in_flags(task['reason'])}" if task["reason"] else ""),
        ),
        ("privacy", f"{task['privacy']}, {counted(task['hops'], 'hop')}"),
        ("created", _time(task["created_at"])),
        ("lost tries", f"{task['tries']} of {task['max_attempts']}"),
    ]
    if task["argv"]:
        lines.append(("arguments", " ".join(task["argv"])))
    lines.append(("seed", task["seed"]))
    if result := task["result"]:
        stdout, stderr = format_bytes(result["stdout_bytes"]), format_bytes(result["stderr_bytes"])
        lines += [
            _end(result),
            ("output", f"{stdout} to standard output, {stderr} to standard error"),
            ("files", str(len(result["files"]))),
            ("ran", _ran(result)),
            ("receipt", f"signed by the worker's key {result['receipt'][:KEY_DIGITS]}"),
        ]
    print_fields(lines)
    for attempt in task["attempts"]:
        why = f": {in_flags(attempt['reason'])}" if attempt["reason"] else ""
        state = f"attempt {attempt['number']} at {attempt['worker']}, {attempt['state']}{why}"
        write(
            f"\n{one_line(state, LINE_LENGTH)}\n"
            f"  placed: {one_line(attempt['placement'], LINE_LENGTH)}\n"
        )


def _ran(result: Result) -> str:
    """How long it took, and what it used as far as anybody knows."""
    parts = [format_duration(result["wall_ms"] / 1000)]
    if compiled := result["compile_ms"]:
        parts[0] += f" after {format_duration(compiled / 1000)} of compiling"
    if (fuel := result["fuel_used"]) is not None:
        parts.append(f"{fuel} fuel")
    if (memory := result["peak_memory"]) is not None:
        parts.append(f"{format_bytes(memory)} of memory")
    return ", ".join(parts)


def _end(result: Result) -> tuple[str, str]:
    if result["exit_code"] is None:
        return ("fault", str(result["fault"]).replace("_", " "))
    return ("exit code", str(result["exit_code"]))


def _time(text: str) -> str:
    return text[:19].replace("T", " ")
