"""Many tasks at once: kept in a file until they are queued and over, followed, read in order."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from fog_compute.cli.client import Backend
from fog_compute.cli.codes import FAILED, OK, USAGE
from fog_compute.cli.common import LINE_LENGTH, CommandError, in_flags, note
from fog_compute.cli.names import chosen
from fog_compute.cli.progress import Bar, Counts
from fog_compute.client.answers import Batch, Event, Events, Task
from fog_compute.client.asking import WAIT_S
from fog_compute.client.batches import chunks
from fog_compute.errors import FogError
from fog_compute.layout import HomeLayout
from fog_compute.reading import read_file
from fog_compute.tasks import TaskState
from fog_compute.text import one_line
from fog_compute.units import MIB
from fog_compute.writing import write_private

__all__ = ["Plan", "Run", "Sink", "keep", "kept", "succeeded"]

PLAN_BYTES: Final = 64 * MIB
TASKS_AT_ONCE: Final = 1000


class Plan(msgspec.Struct):
    """A map as the command keeps it.

    Attributes:
        id: names it here; the backend does not know it.
        names: what each task's result is called, in order.
        tasks: the tasks as they are described to the backend, in the same order.
        made: those that are queued, in the same order.
    """

    id: str
    names: list[str]
    tasks: list[dict[str, Any]]
    made: list[Batch] = []


class Sink(Protocol):
    """Takes results in the order of their inputs."""

    def __call__(self, name: str, task: Task, backend: Backend) -> None:
        """Take the one of an input; the backend has its output."""
        ...


def _path(layout: HomeLayout, name: str) -> Path:
    if not name.isalnum() or not name.isascii():
        raise CommandError(f"{name!r} is no id of a map", USAGE)
    return layout.root / "maps" / f"{name}.json"


def keep(layout: HomeLayout, plan: Plan) -> None:
    """Write a plan down, whole or not at all."""
    path = _path(layout, plan.id)
    try:
        # Who asks a backend elsewhere may have no home folder yet.
        layout.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        write_private(path, msgspec.json.encode(plan), lasting=False)
    except OSError as error:
        raise CommandError(
            f"{path} cannot be written, so the map could not be resumed: {error.strerror}"
        ) from None


def kept(layout: HomeLayout, name: str) -> Plan:
    """Read a plan that an earlier command wrote down."""
    ids = sorted((one.stem for one in layout.root.glob("maps/*.json")), reverse=True)
    path = _path(
        layout, chosen(name, ids, "map", f"{layout.root / 'maps'} has those that are kept")
    )
    try:
        return msgspec.json.decode(read_file(path, PLAN_BYTES), type=Plan)
    except (OSError, ValueError, RecursionError) as error:
        raise CommandError(f"{path} cannot be read: {error}") from None


def succeeded(task: Task) -> bool:
    """Whether a task ran to its end and gave exit code 0."""
    result = task["result"]
    return task["state"] == TaskState.ACCEPTED and result is not None and result["exit_code"] == 0


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
        self._order: list[str] = []
        self._states: Final[dict[str, TaskState]] = {}
        self._over: Final[set[str]] = set()
        self._failed: Final[set[str]] = set()
        self._taken = 0

    def queue(self) -> None:
        """Queue what is not yet, some at a time; asked again, nothing is queued twice."""
        plan = self._plan
        made = sum(len(batch["tasks"]) for batch in plan.made)
        for chunk in chunks(plan.tasks, made, TASKS_AT_ONCE):
            batch = self._backend.post(
                "/api/v1/tasks/batch",
                Batch,
                {"tasks": plan.tasks[chunk.start : chunk.stop]},
                key=f"{plan.id}-{chunk.start}",
            )
            if len(batch["tasks"]) != len(chunk):
                raise CommandError("the backend queued another number of tasks than it was given")
            plan.made.append(batch)
            if batch["warning"] and chunk.start == 0:
                note(f"{one_line(in_flags(batch['warning']), LINE_LENGTH)}: tasks wait for one")
        keep(self._backend.layout, plan)
        self._order = [task for batch in plan.made for task in batch["tasks"]]

    def follow(self) -> int:
        """Hand on each result in its order; return the command's exit code."""
        for batch in self._plan.made:
            since = 0
            while not self._over.issuperset(batch["tasks"]):
                self._bar.show(self._counts())
                answer = self._backend.get(
                    "/api/v1/events", Events, since=since, batch=batch["batch"], wait=WAIT_S
                )
                for event in answer["events"]:
                    self._note(event)
                since = answer["next"]
                self._hand_on()
                if self._max_failures is not None and len(self._failed) > self._max_failures:
                    note(f"more than {self._max_failures} failed: the others are cancelled")
                    self.cancel()
                    return FAILED
        self._bar.show(self._counts())
        return FAILED if self._failed else OK

    def cancel(self) -> None:
        """Cancel what is not over."""
        for task_id in self._order:
            if task_id not in self._over:
                # One that has ended meanwhile cannot be cancelled.
                with contextlib.suppress(FogError):
                    self._backend.post(f"/api/v1/tasks/{task_id}/cancel", dict)

    @property
    def left(self) -> int:
        """How many are not over, as far as is known."""
        return len(self._plan.tasks) - len(self._over)

    @property
    def failed(self) -> int:
        """How many failed, as far as is known."""
        return len(self._failed)

    def _note(self, event: Event) -> None:
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
        while self._taken < len(self._order) and self._order[self._taken] in self._over:
            task_id = self._order[self._taken]
            task = self._backend.get(f"/api/v1/tasks/{task_id}", Task)
            if not succeeded(task):
                self._failed.add(task_id)
            self._sink(self._plan.names[self._taken], task, self._backend)
            self._taken += 1
            self._bar.show(self._counts())

    def _counts(self) -> Counts:
        at_work = (TaskState.LEASED, TaskState.RUNNING, TaskState.REPORTED)
        return Counts(
            total=len(self._plan.tasks),
            done=len(self._over),
            running=sum(state in at_work for state in self._states.values()),
            failed=len(self._failed),
        )
