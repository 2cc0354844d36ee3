"""One module over many inputs: what each task is given, and where all of them stand.

The command and Python drive a map by what is here: names, requests, counts, and what remains to do.
No input or output is here and no clock. Whatever happens to a task costs the same, however many
there are beside it.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from fog_compute.client.answers import ANOTHER_PROGRAM, Batch, Events
from fog_compute.client.checking import ANY_SHA256, check_fields, check_module, check_text
from fog_compute.errors import BackendError, InvalidTask
from fog_compute.tasks import TaskState
from fog_compute.tasks.folder import flaw_of

__all__ = ["HOLE", "As", "Giving", "MapState", "Progress", "names_of"]

HOLE: Final = "{}"
"""What stands for an input's name in the arguments."""


class As(enum.StrEnum):
    """How a task is given its input."""

    STDIN = "stdin"
    FILE = "file"
    ARGUMENT = "argument"


def names_of(own: Sequence[str]) -> list[str]:
    """Name each input: as its file, by its number where it has none; no two alike.

    Numbers count from 0, with as many digits as the last has. They stand before names that would
    be alike, and before all where that makes others alike. A task sees its file's own name.

    Args:
        own: the name of each file, or nothing.

    Raises:
        InvalidTask: one is no UTF-8, or could stand in no task's folder.
    """
    digits = len(str(max(len(own) - 1, 0)))
    numbered = [
        f"{at:0{digits}}-{_checked(name)}" if name else f"{at:0{digits}}"
        for at, name in enumerate(own)
    ]
    count = Counter(own)
    named = [
        name if name and count[name] == 1 else instead
        for name, instead in zip(own, numbered, strict=True)
    ]
    return named if len(set(named)) == len(named) else numbered


def _checked(name: str) -> str:
    if flaw := flaw_of(check_text(name)):
        raise InvalidTask(f"the input name {name[:80]!r} is not allowed: {flaw}")
    return name


@dataclass(frozen=True, slots=True)
class Giving:
    """What the tasks of a map have that differs between them.

    Attributes:
        how: each is given its input.
        args: of the module; in them `HOLE` is the input's name.
        own: files that stand in each task's folder, with their blobs.
    """

    how: As
    args: tuple[str, ...]
    own: Mapping[str, str]

    @staticmethod
    def chosen(asked: As | None, args: Iterable[object]) -> As:
        """How an input is given: as asked, else as a file if an argument names it."""
        if asked is not None:
            return asked
        return As.FILE if any(HOLE in str(one) for one in args) else As.STDIN

    def to(self, name: str, blob: str) -> dict[str, Any]:
        """The members of the task of one input, which has this name there."""
        members: dict[str, Any] = {
            "argv": [one.replace(HOLE, name) for one in self.args],
            "inputs": {**self.own},
        }
        match self.how:
            case As.STDIN:
                members["stdin"] = blob
            case As.FILE:
                members["inputs"][name] = blob
            case As.ARGUMENT:
                pass
        return members

    def check(self, shared: Mapping[str, Any], names: Iterable[str], module: bytes) -> None:
        """Look at the task of each input before anything is sent.

        Raises:
            InvalidTask: no fog would take one; the text names the field.
        """
        for name in names:
            check_fields({**shared, **self.to(name, ANY_SHA256)})
        check_module(shared, module)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a map is.

    Attributes:
        total: its tasks.
        queued: those that the backend has been given.
        running: those that a worker has now.
        done: those that are over, however they ended.
        failed: of these, those that failed or were cancelled, as far as is known.
    """

    total: int
    queued: int
    running: int
    done: int
    failed: int


class _Step(enum.Enum):
    """Where a task of a map stands."""

    UNSENT = enum.auto()
    OPEN = enum.auto()
    AT_WORK = enum.auto()
    DONE = enum.auto()
    FAILED = enum.auto()


_TO: Final[Mapping[TaskState, _Step]] = MappingProxyType(
    {
        TaskState.QUEUED: _Step.OPEN,
        TaskState.RETRY: _Step.OPEN,
        TaskState.LEASED: _Step.AT_WORK,
        TaskState.RUNNING: _Step.AT_WORK,
        TaskState.REPORTED: _Step.AT_WORK,
        TaskState.ACCEPTED: _Step.DONE,
        TaskState.FAILED: _Step.FAILED,
        TaskState.CANCELLED: _Step.FAILED,
    }
)
"""Where a task stands that came to a state."""

_UNDER_WAY: Final = frozenset((_Step.OPEN, _Step.AT_WORK, _Step.DONE, _Step.FAILED))

_MOVES: Final[Mapping[_Step, frozenset[_Step]]] = MappingProxyType(
    {
        _Step.UNSENT: frozenset((_Step.OPEN,)),
        _Step.OPEN: _UNDER_WAY,
        _Step.AT_WORK: _UNDER_WAY,
        _Step.DONE: frozenset((_Step.FAILED,)),  # its exit code says so
        _Step.FAILED: frozenset(),
    }
)
"""Where a task may go; whatever else is told of it is passed over."""


class MapState:
    """All tasks of a map, in the order of their inputs, as far as is known.

    Attributes:
        since: the event up to which it has been told of them.
    """

    def __init__(self, total: int, *, name: str, batch: str, most: int | None = None) -> None:
        """Nothing is queued yet.

        Args:
            total: how many tasks there will be.
            name: what its requests are named after, so that each makes its tasks once.
            batch: the one that all its tasks join; 26 digits and small letters.
            most: how many may be open at once; by default all.
        """
        self.since = 0
        self._name: Final = name
        self._batch: Final = batch
        self._most: Final = most or total
        self._ids: Final[list[str]] = []
        self._at: Final[dict[str, int]] = {}
        self._steps: Final = [_Step.UNSENT] * total
        self._counts: Final = Counter(self._steps)
        self._early: Final[dict[str, TaskState]] = {}
        self._taken = 0

    # Queueing

    @property
    def ids(self) -> Sequence[str]:
        """The tasks that are queued."""
        return self._ids

    def has_room(self, count: int) -> bool:
        """Whether so many may be queued now."""
        return self._open + count <= self._most

    def request(self, tasks: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], str]:
        """What queues the next tasks: the body, and the key under which that is done once."""
        return {"tasks": tasks, "batch": self._batch}, f"{self._name}-{len(self._ids)}"

    def queued(self, answer: Batch, count: int) -> None:
        """Take note of the answer to a request for ``count`` tasks.

        Raises:
            BackendError: it is none to that.
        """
        ids = answer["tasks"]
        if len(ids) != count or len(set(ids)) != count or any(one in self._at for one in ids):
            raise BackendError(
                f"the backend queued other tasks than it was given: {ANOTHER_PROGRAM}"
            )
        self.known(ids)

    def known(self, ids: Iterable[str]) -> None:
        """Take note of the next tasks, which are queued; interrupted, of the first of them."""
        for task_id in ids:
            at = len(self._ids)
            self._at[task_id] = at
            self._move(at, _Step.OPEN)
            self._ids.append(task_id)
            if (state := self._early.pop(task_id, None)) is not None:
                self._move(at, _TO[state])

    # Following

    @property
    def query(self) -> dict[str, str | float]:
        """Which events are asked for next."""
        return {"since": self.since, "batch": self._batch}

    def told(self, answer: Events) -> None:
        """Take note of events; those of tasks whose ids are still on the way are kept for them."""
        self.since = answer["next"]
        for event in answer["events"]:
            try:
                state = TaskState(event["state"])
            except ValueError:  # of a newer backend
                continue
            at = self._at.get(event["task"])
            if at is None:
                self._early[event["task"]] = state
            else:
                self._move(at, _TO[state])

    @property
    def over(self) -> bool:
        """Whether all tasks are."""
        return self._done == len(self._steps)

    @property
    def next_over(self) -> tuple[int, str] | None:
        """The next input whose result can be taken, in their order, and its task."""
        at = self._taken
        if at < len(self._ids) and self._steps[at] in (_Step.DONE, _Step.FAILED):
            return at, self._ids[at]
        return None

    def taken(self, *, ok: bool) -> None:
        """Take note that the next result is taken, and whether it is a good one."""
        if not ok:
            self._move(self._taken, _Step.FAILED)
        self._taken += 1

    @property
    def all_taken(self) -> bool:
        """Whether no result is left."""
        return self._taken == len(self._steps)

    def open_ids(self) -> Iterator[str]:
        """The tasks that are queued and not over: what there is to cancel."""
        for task_id, step in zip(self._ids, self._steps, strict=False):
            if step in (_Step.OPEN, _Step.AT_WORK):
                yield task_id

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return Progress(
            total=len(self._steps),
            queued=len(self._ids),
            running=self._counts[_Step.AT_WORK],
            done=self._done,
            failed=self._counts[_Step.FAILED],
        )

    @property
    def _done(self) -> int:
        return self._counts[_Step.DONE] + self._counts[_Step.FAILED]

    @property
    def _open(self) -> int:
        return self._counts[_Step.OPEN] + self._counts[_Step.AT_WORK]

    def _move(self, at: int, step: _Step) -> None:
        before = self._steps[at]
        if step in _MOVES[before]:
            self._counts[before] -= 1
            self._counts[step] += 1
            self._steps[at] = step
