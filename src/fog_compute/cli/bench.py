"""``fog bench tasks``: how long a task takes, how many a second, and what each costs."""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Final, NotRequired, TypedDict

from cyclopts import Parameter

from fog_compute.cli.client import Backend
from fog_compute.cli.codes import USAGE
from fog_compute.cli.common import CommandError, JsonFlag, note, print_fields, print_json, whole
from fog_compute.cli.state import read_fog_state
from fog_compute.client.answers import Batch, Events, Made, Status, Task
from fog_compute.client.places import Home
from fog_compute.errors import FogError
from fog_compute.levels import PrivacyLevel
from fog_compute.tasks import TaskKind, TaskState
from fog_compute.units import parse_duration

__all__ = ["tasks"]

ALONE: Final = 30
"""Tasks that are timed one after another."""

DEPTH: Final = 300
"""Tasks that are queued or at work at least while their rate is counted."""

AT_ONCE: Final = 200
"""Tasks in one batch."""

STILL_S: Final = 60.0
"""How long nothing may happen."""

SCRIPT: Final = b"import sys; sys.stdout.write(sys.stdin.read())\n"
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


class Rate(TypedDict):
    """What was counted of many tasks at once.

    Processor times are in milliseconds a task: of the backend, of the workers, of their runners
    and of the mix nodes; those of a fog elsewhere cannot be seen.
    """

    per_s: float
    seconds: float
    failed: int
    backend_ms: NotRequired[float]
    worker_ms: NotRequired[float]
    runner_ms: NotRequired[float]
    net_ms: NotRequired[float]


def tasks(
    *,
    seconds: Annotated[str, Parameter(help="How long each rate is counted, such as 60s.")] = "20s",
    alone: Annotated[
        int, Parameter(help="Tasks that are timed one after another.", converter=whole)
    ] = ALONE,
    out: Annotated[str | None, Parameter(help="File for the figures, as JSON.")] = None,
    json: JsonFlag = False,
) -> int:
    """Measure the fog that runs: a tiny task alone, then as many as it can do.

    Each task gives its standard input back. Scripts are measured where a worker runs them.

    For example: `fog bench tasks --seconds 30s --out figures.json`
    """
    span = parse_duration(seconds)
    if not 1 <= alone <= 10_000:
        raise CommandError(f"--alone {alone} is out of bounds: give 1 to 10000", USAGE)
    with Backend() as backend:
        kinds = {kind for worker in _workers(backend) for kind in worker["kinds"]}
        echo = (files("fog_compute.cli") / "echo.wasm").read_bytes()
        spec = {"module": backend.upload(echo), "stdin": backend.upload(b"echo\n" * 20)}
        note("warming up")
        _one(backend, spec, PrivacyLevel.PRIVATE)
        times = sorted(_one(backend, spec, PrivacyLevel.PRIVATE) for _ in range(alone))
        details: dict[str, Any] = {"alone_s": times}
        for level in (PrivacyLevel.PRIVATE, PrivacyLevel.PUBLIC):
            details[level.value] = _sustained(backend, {**spec, "privacy": level.value}, span)
        if TaskKind.PYTHON in kinds:
            script = {**spec, "module": backend.upload(SCRIPT), "kind": TaskKind.PYTHON.value}
            note("warming up the interpreter")
            _one(backend, script, PrivacyLevel.PRIVATE)
            details["python"] = _sustained(backend, script, span)
    private = details["private"]
    summary = {
        "task_private_p50_ms": round(1000 * statistics.median(times), 1),
        "task_private_per_s": private["per_s"],
        "task_public_per_s": details["public"]["per_s"],
        **({"task_python_per_s": details["python"]["per_s"]} if "python" in details else {}),
        **{
            f"{part}_ms_per_task": private[f"{part}_ms"]
            for part in ("backend", "worker")
            if f"{part}_ms" in private
        },
    }
    report = {"summary": summary, "details": details}
    if out is not None:
        _write(out, report)
    if json:
        print_json(report)
    else:
        print_fields([(name, str(value)) for name, value in summary.items()])
    return 0


def _workers(backend: Backend) -> list[Any]:
    workers = backend.get("/api/v1/status", Status)["workers"]
    if not workers:
        raise CommandError("there is no worker to measure: see `fog worker ls`")
    return list(workers)


def _one(backend: Backend, spec: dict[str, Any], level: PrivacyLevel) -> float:
    """Run a task as `fog run` does; return how many seconds it took."""
    began = time.monotonic()
    task_id = backend.post("/api/v1/tasks", Made, {**spec, "privacy": level.value})["id"]
    version = 0
    while True:
        task = backend.get(f"/api/v1/tasks/{task_id}", Task, wait=20, since=version)
        if task["final"]:
            break
        version = task["version"]
    if task["state"] != TaskState.ACCEPTED:
        raise CommandError(f"the task that is measured {task['state']}: {task['reason']}")
    backend.whole(f"/api/v1/tasks/{task_id}/stdout")
    return time.monotonic() - began


def _sustained(backend: Backend, spec: dict[str, Any], span: float) -> Rate:
    """Keep many tasks queued, and count those that end within a time, after the first of them."""
    note(f"counting {spec.get('kind', 'wasm')} tasks at {spec.get('privacy', 'private')}")
    ends = _ends(backend, spec)
    for _ in range(AT_ONCE // 2):  # what runs from the begin on is not what lasts
        next(ends)
    began, before = time.monotonic(), Used.now(backend)
    done = failed = 0
    while (seconds := time.monotonic() - began) < span:
        failed += next(ends) is not TaskState.ACCEPTED
        done += 1
    used = Used.now(backend)
    ends.close()
    rate = Rate(per_s=round(done / seconds, 1), seconds=round(seconds, 2), failed=failed)
    if used is None or before is None:
        return rate
    return Rate(
        **rate,
        backend_ms=_each(used.backend - before.backend, done),
        worker_ms=_each(used.workers - before.workers, done),
        runner_ms=_each(used.runners - before.runners, done),
        net_ms=_each(used.net - before.net, done),
    )


def _each(seconds: float, done: int) -> float:
    return round(1000 * seconds / max(1, done), 2)


def _ends(backend: Backend, spec: dict[str, Any]) -> Generator[TaskState, None, None]:
    """Give the last state of each task that ends, and queue new ones; cancel the rest at close."""
    batches: deque[Batch] = deque()
    left: set[str] = set()
    since = 0

    def queue() -> None:
        batch = backend.post("/api/v1/tasks/batch", Batch, {"tasks": [spec] * AT_ONCE})
        batches.append(batch)
        left.update(batch["tasks"])

    try:
        queue()
        first = backend.get("/api/v1/events", Events, batch=batches[0]["batch"], wait=20, limit=1)
        since, moved = first["next"] - 1, time.monotonic()
        while True:
            while len(left) < DEPTH:
                queue()
            answer = backend.get("/api/v1/events", Events, since=since, wait=20)
            if not answer["events"] and time.monotonic() - moved > STILL_S:
                raise CommandError(f"no task ended in {STILL_S:.0f} s: see `fog status`")
            since = answer["next"]
            for event in answer["events"]:
                moved = time.monotonic()
                state = TaskState(event["state"])
                if state.final and event["task"] in left:
                    left.remove(event["task"])
                    yield state
    finally:
        for task_id in left:
            with contextlib.suppress(FogError):  # it is over by now
                backend.post(f"/api/v1/tasks/{task_id}/cancel", dict)


@dataclass(frozen=True, slots=True)
class Used:
    """Processor seconds that parts of this machine's fog used so far."""

    backend: float
    workers: float
    runners: float
    net: float

    @classmethod
    def now(cls, backend: Backend) -> Used | None:
        """Read them from ``/proc``; None of a fog elsewhere, whatever runs here beside it."""
        if not isinstance(backend.place, Home):
            return None
        state = read_fog_state(backend.layout)
        children = {} if state is None else state["children"]
        below = _children()
        workers = [pid for name, pid in children.items() if name.startswith("worker") and pid]
        return cls(
            backend=_seconds(children.get("backend")),
            workers=sum(map(_seconds, workers)),
            runners=sum(
                _seconds(pid, ended=True) + _seconds(pid)
                for worker in workers
                for pid in _below(worker, below)
            )
            + sum(_seconds(worker, ended=True) for worker in workers),
            net=sum(_seconds(pid) for pid in _below(children.get("net") or 0, below)),
        )


def _below(pid: int, children: dict[int, list[int]]) -> Iterator[int]:
    for child in children.get(pid, []):
        yield child
        yield from _below(child, children)


def _children() -> dict[int, list[int]]:
    """All processes by their parents."""
    found: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        if (stat := _stat(int(path.name))) is not None:
            found.setdefault(int(stat[1]), []).append(int(path.name))
    return found


def _seconds(pid: int | None, *, ended: bool = False) -> float:
    """Processor seconds of a process itself, or of those of its children that have ended."""
    stat = None if pid is None else _stat(pid)
    fields = slice(13, 15) if ended else slice(11, 13)
    return 0.0 if stat is None else sum(map(int, stat[fields])) / TICKS_PER_S


def _stat(pid: int) -> list[str] | None:
    """The fields of ``/proc/PID/stat`` behind the name, from the state on."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def _write(path: str, report: dict[str, Any]) -> None:
    import json as text

    try:
        Path(path).write_text(text.dumps(report, indent=2, sort_keys=True) + "\n", "utf-8")
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}", USAGE) from None
