"""Many tasks at once: kept in a file until they are queued and over, followed, read in order."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from fog_compute.cli.client import Backend
from fog_compute.cli.codes import FAILED, OK, USAGE
from fog_compute.cli.common import LINE_LENGTH, CommandError, in_flags, note
from fog_compute.cli.names import chosen
from fog_compute.cli.progress import Counts
from fog_compute.client.answers import Batch, Events, Made, Task
from fog_compute.client.asking import WAIT_S
from fog_compute.client.batches import chunks
from fog_compute.client.maps import MapState
from fog_compute.errors import FogError, NotFound
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
        id: names it, and the batch that all its tasks join.
        names: what each task's result is called, in order.
        tasks: the tasks as they are described to the backend, in the same order.
        made: the ids of those that are queued, in the same order.
    """

    id: str
    names: list[str]
    tasks: list[dict[str, Any]]
    made: list[str] = []


class Sink(Protocol):
    """Takes results in the order of their inputs."""

    def __call__(self, name: str, task: Task, backend: Backend) -> bool:
        """Take the one of an input; say whether all of it is where it was to go."""
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
        raise CommandError(
            f"{path} cannot be read, or is of another version of fog: {error}; `fog task ls` shows"
            " what it has queued"
        ) from None


def succeeded(task: Task) -> bool:
    """Whether a task ran to its end and gave exit code 0."""
    result = task["result"]
    return task["state"] == TaskState.ACCEPTED and result is not None and result["exit_code"] == 0


class Run:
    """A batch on its way: queued where it is not yet, followed, its results handed on in order."""

    def __init__(
        self, backend: Backend, plan: Plan, sink: Sink, bar: Counts, max_failures: int | None
    ) -> None:
        """Nothing is sent yet."""
        self._backend: Final = backend
        self._plan: Final = plan
        self._sink: Final = sink
        self._bar: Final = bar
        self._max_failures: Final = max_failures
        self._state: Final = MapState(len(plan.tasks), name=plan.id, batch=plan.id)
        self._state.known(plan.made)
        self._making: tuple[dict[str, Any], str] | None = None
        self._unwritten = 0

    def queue(self) -> None:
        """Queue what is not yet, some at a time; asked again, nothing is queued twice.

        Raises:
            BackendError: the backend did not do what it was asked.
        """
        plan = self._plan
        for chunk in chunks(plan.tasks, len(self._state.ids), TASKS_AT_ONCE):
            tasks = plan.tasks[chunk.start : chunk.stop]
            self._making = self._state.request(tasks)
            answer = self._make(*self._making)
            self._state.queued(answer, len(tasks))
            self._making = None
            if answer["warning"] and chunk.start == 0:
                said = one_line(in_flags(answer["warning"]), LINE_LENGTH)
                note(f"{said}: tasks wait for one")
        plan.made = list(self._state.ids)
        keep(self._backend.layout, plan)

    def _make(self, body: dict[str, Any], key: str) -> Batch:
        return self._backend.post("/api/v1/tasks/batch", Batch, body, key=key)

    def follow(self) -> int:
        """Hand on each result in its order; return the command's exit code."""
        state = self._state
        while not state.over:
            self._bar.show(state.progress)
            answer = self._backend.get("/api/v1/events", Events, wait=WAIT_S, **state.query)
            state.told(answer)
            if not answer["events"]:
                self._look_for_rest()
            self._hand_on()
            if self._max_failures is not None and self.failed > self._max_failures:
                note(f"more than {self._max_failures} failed: the others are cancelled")
                self.cancel()
                return FAILED
        self._bar.show(state.progress)
        return FAILED if self.failed or self._unwritten else OK

    def cancel(self) -> None:
        """Cancel what is not over, and what was being queued when that was interrupted."""
        if self._making is not None:
            with contextlib.suppress(FogError):
                self._know(self._make(*self._making)["tasks"])
        for task_id in self._state.open_ids():
            # One that has ended meanwhile cannot be cancelled.
            with contextlib.suppress(FogError):
                self._backend.post(f"/api/v1/tasks/{task_id}/cancel", Made)

    def _know(self, made: Sequence[str]) -> None:
        """Take note of what a request made whose answer may have been noted in part."""
        known = set(self._state.ids)
        if len(known | set(made)) <= len(self._plan.tasks):
            self._state.known(one for one in made if one not in known)

    @property
    def left(self) -> int:
        """How many are not over, as far as is known."""
        progress = self._state.progress
        return progress.total - progress.done

    @property
    def failed(self) -> int:
        """How many failed, as far as is known."""
        return self._state.progress.failed

    @property
    def unwritten(self) -> int:
        """Of how many a part of the result could not be written."""
        return self._unwritten

    def _look_for_rest(self) -> None:
        """Of tasks that are there no more nothing will ever be told."""
        for task_id in itertools.islice(self._state.open_ids(), 1):
            try:
                self._backend.get(f"/api/v1/tasks/{task_id}", Task)
            except NotFound:
                raise NotFound(
                    f"the fog keeps the tasks of map {self._plan.id} no longer: run it anew"
                ) from None

    def _hand_on(self) -> None:
        while (found := self._state.next_over) is not None:
            at, task_id = found
            task = self._backend.get(f"/api/v1/tasks/{task_id}", Task)
            self._state.taken(ok=succeeded(task))
            self._unwritten += not self._sink(self._plan.names[at], task, self._backend)
            self._bar.show(self._state.progress)
