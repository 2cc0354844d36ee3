"""Many tasks at once: kept in a file until they are queued and over, followed, read in order."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, TypedDict

import msgspec

from fog_compute.cli.answers import Task
from fog_compute.cli.client import Backend
from fog_compute.cli.codes import FAILED, OK, USAGE
from fog_compute.cli.common import LINE_LENGTH, CommandError, note
from fog_compute.cli.progress import Bar, Counts
from fog_compute.errors import FogError
from fog_compute.layout import HomeLayout
from fog_compute.reading import read_file
from fog_compute.tasks import TaskState
from fog_compute.text import one_line
from fog_compute.units import KIB, MIB

__all__ = ["Plan", "Run", "Sink", "keep", "kept", "succeeded"]

PLAN_BYTES: Final = 64 * MIB
TASKS_AT_ONCE: Final = 256
BODY_BYTES: Final = 512 * KIB
WAIT_S: Final = 20.0


class Plan(msgspec.Struct):
    """A batch as the command keeps it.

    Attributes:
        batch: its id.
        names: what each task's result is called, in order.
        tasks: the tasks as they are described to the backend, in the same order.
        made: the ids of those that are queued, in the same order.
    """

    batch: str
    names: list[str]
    tasks: list[dict[str, Any]]
    made: list[str] = []


class _Queued(TypedDict):
    """Tasks of a batch that were queued just now."""

    tasks: list[str]
    warning: str


class _Event(TypedDict):
    """A state that a task came to."""

    task: str
    state: str


class _Events(TypedDict):
    """Events in their order, and where to go on."""

    events: list[_Event]
    next: int


class Sink(Protocol):
    """Takes results in the order of their inputs."""

    def __call__(self, name: str, task: Task, read: Callable[[str], bytes]) -> None:
        """Take one; ``read`` gives what there is of its ``stdout`` or ``stderr``."""
        ...


def _path(layout: HomeLayout, batch: str) -> Path:
    if not batch.isalnum() or not batch.isascii():
        raise CommandError(f"{batch!r} is no id of a map", USAGE)
    return layout.root / "maps" / f"{batch}.json"


def keep(layout: HomeLayout, plan: Plan) -> None:
    """Write a plan down, whole or not at all."""
    path = _path(layout, plan.batch)
    fresh = path.with_suffix(".new")
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        fresh.write_bytes(msgspec.json.encode(plan))
        fresh.rename(path)
    except OSError as error:
        raise CommandError(
            f"{path} cannot be written, so the map could not be resumed: {error.strerror}"
        ) from None


def kept(layout: HomeLayout, batch: str) -> Plan:
    """Read a plan that an earlier command wrote down."""
    path = _path(layout, batch)
    try:
        return msgspec.json.decode(read_file(path, PLAN_BYTES), type=Plan)
    except FileNotFoundError:
        raise CommandError(f"no map {batch} is kept here: {path} is not there", USAGE) from None
    except (OSError, ValueError, RecursionError) as error:
        raise CommandError(f"{path} cannot be read: {error}") from None


def succeeded(task: Task) -> bool:
    """Whether a task ran to its end and gave exit code 0."""
    result = task["result"]
    return task["state"] == TaskState.ACCEPTED and result is not None and not result["exit_code"]


class Run:
    """A batch on its way: queued where it is not yet, followed, its results handed on in order."""

    def __init__(
        self, backend: Backend, plan: Plan, sink: Sink, bar: Bar, max_failures: int | None
    ) -> None:
        """Nothing is sent yet."""
        self._backend: Final = backend
        self._plan: Final = plan
        self._sink: Final = sink
        self._bar: Final = bar
        self._max_failures: Final = max_failures
        self._states: Final[dict[str, TaskState]] = {}
        self._over: Final[set[str]] = set()
        self._failed: Final[set[str]] = set()
        self._taken = 0

    def queue(self) -> None:
        """Queue what is not yet, some at a time; asked again, nothing is queued twice."""
        plan = self._plan
        for chunk in _chunks(plan.tasks, len(plan.made)):
            answer = self._backend.post(
                "/api/v1/tasks/batch",
                _Queued,
                {"batch": plan.batch, "tasks": plan.tasks[chunk.start : chunk.stop]},
                key=f"{plan.batch}-{chunk.start}",
            )
            if len(answer["tasks"]) != len(chunk):
                raise CommandError("the backend queued another number of tasks than it was given")
            plan.made += answer["tasks"]
            if answer["warning"] and chunk.start == 0:
                note(one_line(answer["warning"], LINE_LENGTH))
        keep(self._backend.layout, plan)

    def follow(self) -> int:
        """Hand on each result in its order; return the command's exit code."""
        since = 0
        while self._taken < len(self._plan.made):
            self._bar.show(self._counts())
            answer = self._backend.get(
                "/api/v1/events", _Events, since=since, batch=self._plan.batch, wait=WAIT_S
            )
            for event in answer["events"]:
                self._note(event)
            since = answer["next"]
            self._hand_on()
            if self._max_failures is not None and len(self._failed) > self._max_failures:
                note(f"more than {self._max_failures} failed: the others are cancelled")
                self.cancel()
                break
        self._bar.show(self._counts())
        return FAILED if self._failed else OK

    def cancel(self) -> None:
        """Cancel what is not over."""
        for task_id in self._plan.made:
            if task_id not in self._over:
                # One that has ended meanwhile cannot be cancelled.
                with contextlib.suppress(FogError):
                    self._backend.post(f"/api/v1/tasks/{task_id}/cancel", dict)

    @property
    def left(self) -> int:
        """How many are not over, as far as is known."""
        return len(self._plan.tasks) - len(self._over)

    def _note(self, event: _Event) -> None:
        try:
            state = TaskState(event["state"])
        except ValueError:
            return
        self._states[event["task"]] = state
        if state.final:
            self._over.add(event["task"])
            if state is not TaskState.ACCEPTED:
                self._failed.add(event["task"])

    def _hand_on(self) -> None:
        made = self._plan.made
        while self._taken < len(made) and made[self._taken] in self._over:
            task_id = made[self._taken]
            task = self._backend.get(f"/api/v1/tasks/{task_id}", Task)
            if not succeeded(task):
                self._failed.add(task_id)
            self._sink(self._plan.names[self._taken], task, self._reader(task_id))
            self._taken += 1
            self._bar.show(self._counts())

    def _reader(self, task_id: str) -> Callable[[str], bytes]:
        return lambda stream: self._backend.read(f"/api/v1/tasks/{task_id}/{stream}")

    def _counts(self) -> Counts:
        at_work = (TaskState.LEASED, TaskState.RUNNING, TaskState.REPORTED)
        return Counts(
            total=len(self._plan.tasks),
            done=len(self._over),
            running=sum(state in at_work for state in self._states.values()),
            failed=len(self._failed),
        )


def _chunks(tasks: Sequence[Mapping[str, object]], begin: int) -> Iterator[range]:
    """Cut tasks, from one on, into pieces that one request may carry."""
    size = 0
    for index in range(begin, len(tasks)):
        length = len(msgspec.json.encode(tasks[index]))
        if index > begin and (index - begin == TASKS_AT_ONCE or size + length > BODY_BYTES):
            yield range(begin, index)
            begin, size = index, 0
        size += length
    if begin < len(tasks):
        yield range(begin, len(tasks))
