"""How tasks look in the HTTP interface, and the translation to and from records."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from pydantic import ConfigDict, Field, JsonValue

from fog_compute.coordinator.attempts import Doing, Stage
from fog_compute.errors import InvalidTask
from fog_compute.levels import PrivacyLevel
from fog_compute.server.schemas import In, Out
from fog_compute.store import StoredResult, TaskEventRecord
from fog_compute.strategies import Strategy
from fog_compute.tasks import (
    Attempt,
    AttemptState,
    Fault,
    Limits,
    ResultHead,
    Task,
    TaskKind,
    TaskSpec,
    TaskState,
)
from fog_compute.tasks.model import MAX_ARGUMENTS, REASON_LENGTH
from fog_compute.text import one_line
from fog_compute.vpn.directory import shown_name

_DEFAULTS: Final = Limits()

_EXAMPLE: Final[dict[str, JsonValue]] = {
    "module": "5f0d3fb1a1d02a3a1e0e4c5e9b1d7a9c3b2f6e8d4c1a0b9f8e7d6c5b4a392817",
    "argv": ["data.csv"],
    "inputs": {"data.csv": "9a1c2e3f4b5d6a7c8e9f0a1b2c3d4e5f6a7b8c9d0e1f2a3b4c5d6e7f8a9b0c1d"},
    "limits": {"wall_s": 60, "memory_bytes": 268_435_456},
    "privacy": "private",
}

BATCH_TASKS: Final = 1000
"""Tasks that one batch may have."""


class Until(enum.StrEnum):
    """What a question for a task waits for."""

    CHANGE = "change"
    END = "end"


class LimitsIn(In):
    """What one attempt may use."""

    memory_bytes: int = Field(_DEFAULTS.memory_bytes, description="Linear memory.")
    fuel: int = Field(_DEFAULTS.fuel, description="Instructions, as wasmtime counts them.")
    wall_s: float = Field(_DEFAULTS.wall_s, description="Wall clock, seconds.")
    output_bytes: int = Field(
        _DEFAULTS.output_bytes,
        description="Standard output, standard error, files below ``out``: each of the three.",
    )
    scratch_bytes: int = Field(
        _DEFAULTS.scratch_bytes, description="Files in the working directory, inputs included."
    )


class TaskIn(In):
    """A task to run; blobs are uploaded before and named by their SHA-256."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    module: str = Field(description="SHA-256 of the module.")
    kind: TaskKind = TaskKind.WASM
    argv: list[str] = Field(default_factory=list, max_length=MAX_ARGUMENTS)
    stdin: str | None = Field(None, description="SHA-256 of the standard input.")
    inputs: dict[str, str] = Field(
        default_factory=dict, description="Input files: path in the sandbox to SHA-256."
    )
    limits: LimitsIn = Field(default_factory=LimitsIn)
    privacy: PrivacyLevel = PrivacyLevel.PRIVATE
    max_attempts: int = 3
    env: dict[str, str] = Field(default_factory=dict, description="Environment variables.")
    seed: str | None = Field(
        None, description="64 hex digits that its randomness starts from; by default by its id."
    )
    group: str = Field("", max_length=32, description="Whose workers run it; by default the first.")

    wait_for_worker: bool = Field(
        False,
        description="Queue it also where no listed worker can take it as it is; by default that is"
        " refused.",
    )
    strategy: Strategy | None = Field(
        None, description="How to choose its worker; by default FOG_STRATEGY, then by its level."
    )

    def to_spec(self) -> TaskSpec:
        """The record; raises ``InvalidTask`` for what can never run."""
        return TaskSpec(
            module=self.module,
            kind=self.kind,
            argv=tuple(self.argv),
            stdin=self.stdin,
            inputs=self.inputs,
            limits=Limits(**self.limits.model_dump()),
            privacy=self.privacy,
            max_attempts=self.max_attempts,
            env=self.env,
            seed=self.seed,
            strategy=self.strategy,
            group=self.group,
        )


class BatchIn(In):
    """Tasks that are made together, or not at all."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"tasks": [_EXAMPLE, _EXAMPLE]}]})

    batch: str | None = Field(
        None,
        pattern="^[0-9a-z]{26}$",
        description="The batch that they join, of several requests; by default a new one.",
    )
    tasks: list[TaskIn] = Field(min_length=1, max_length=BATCH_TASKS)

    def to_specs(self) -> list[TaskSpec]:
        """The records; raises ``InvalidTask`` for one that can never run, and says which."""
        return [self._spec(index, task) for index, task in enumerate(self.tasks)]

    def _spec(self, index: int, task: TaskIn) -> TaskSpec:
        try:
            return task.to_spec()
        except InvalidTask as error:
            raise InvalidTask(f"`tasks[{index}]`: {error}") from None


class BatchOut(Out):
    """A batch that was made."""

    batch: str = Field(description="Its id, for /events.")
    tasks: list[str] = Field(description="The ids of its tasks, in the order in which they came.")
    warning: str = Field(description="What no listed worker offers some of them; or empty.")


class BlobOut(Out):
    """An uploaded blob."""

    sha256: str
    size: int


class OutputFileOut(Out):
    """A file that a task left: its path below ``out``."""

    path: str
    size: int


class OutputFilesOut(Out):
    """The files that a task left."""

    files: list[OutputFileOut]

    @classmethod
    def of(cls, head: ResultHead) -> OutputFilesOut:
        """Translate a record."""
        return cls(files=[OutputFileOut(path=one.path, size=one.size) for one in head.files])


class ResultOut(Out):
    """How a task's last attempt ended; the output itself has routes of its own."""

    exit_code: int | None = Field(description="Null where a fault ended it: see ``fault``.")
    stdout_bytes: int
    stderr_bytes: int
    fuel_used: int | None = Field(description="Null where a limit ended it and nobody saw.")
    wall_ms: int = Field(description="How long it ran, without what stands in ``compile_ms``.")
    compile_ms: int = Field(
        description="How long it was compiled before, unless it was kept; ``wall_s`` counts both."
    )
    peak_memory: int | None = Field(description="Bytes of linear memory; null as ``fuel_used``.")
    fault: Fault | None
    detail: str
    files: list[OutputFileOut] = Field(description="What the task left below ``out``.")
    receipt: str = Field(description="The worker's public key and its signature, in hex.")

    @classmethod
    def of(cls, head: ResultHead, receipt: bytes) -> ResultOut:
        """Translate a record."""
        return cls(
            receipt=receipt.hex(),
            exit_code=head.exit_code if head.fault is None else None,
            stdout_bytes=head.stdout_bytes,
            stderr_bytes=head.stderr_bytes,
            fuel_used=head.fuel_used if head.measured else None,
            wall_ms=head.wall_ms,
            compile_ms=head.compile_ms,
            peak_memory=head.peak_memory if head.measured else None,
            fault=head.fault,
            detail=head.detail,
            files=OutputFilesOut.of(head).files,
        )


class AttemptOut(Out):
    """One try, with the reason why that worker was chosen."""

    number: int
    worker: str
    state: AttemptState
    reason: str
    placement: str
    created_at: datetime
    updated_at: datetime


class EventOut(Out):
    """One state that the task came to."""

    version: int
    state: TaskState
    reason: str
    at: datetime


class TaskEventOut(EventOut):
    """One state that a task came to, among those of all tasks."""

    seq: int = Field(description="Its number; grows over all events.")
    task: str
    batch: str | None = Field(description="The batch of its task, if that has one.")
    final: bool

    @classmethod
    def of(cls, event: TaskEventRecord) -> TaskEventOut:
        """Translate a record."""
        return cls(
            seq=event.seq,
            task=event.task_id,
            batch=event.batch,
            version=event.version,
            state=event.state,
            final=event.state.final,
            reason=event.reason,
            at=event.at,
        )


class EventsOut(Out):
    """What happened after a cursor; ``next`` is the cursor for what comes then."""

    events: list[TaskEventOut]
    next: int


class TaskOut(Out):
    """A task as it stands."""

    id: str
    state: TaskState
    final: bool
    version: int
    kind: TaskKind
    module: str
    argv: list[str]
    seed: str = Field(
        description="What its randomness starts from; another task that is described alike and is"
        " given it gives the same output."
    )
    privacy: PrivacyLevel
    group: str
    hops: int
    tries: int
    max_attempts: int
    reason: str = Field(description="Why it waits, failed or was cancelled; one line.")
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None

    @classmethod
    def of(cls, task: Task, waiting: str = "") -> TaskOut:
        """Translate a record; ``waiting`` says why an open task is with no worker."""
        return cls(**_task_fields(task, waiting))


class TaskMadeOut(TaskOut):
    """A task as it was made."""

    warning: str = Field(description="What no listed worker offers it, so that it waits; or empty.")

    @classmethod
    def of_made(cls, task: Task, shortfall: str) -> TaskMadeOut:
        """Translate a record; ``shortfall`` says what no listed worker offers."""
        warning = ""
        if shortfall:
            warning = f"{shortfall}: the task waits for one; `fog task cancel {task.id}` ends it"
        return cls(**_task_fields(task, ""), warning=warning)


class StageOut(Out):
    """What is being done for a task that is with a worker."""

    doing: Doing
    done: int = Field(description="Bytes that were sent or received.")
    total: int = Field(description="Bytes that there are to send or to receive; else 0.")


class TaskDetailOut(TaskOut):
    """A task with its result, attempts and history."""

    result: ResultOut | None
    attempts: list[AttemptOut]
    history: list[EventOut]
    log_tail: str = Field(description="The last that it wrote, while it runs; up to 512 bytes.")
    stage: StageOut | None = Field(description="What is being done, where a worker has it.")

    @classmethod
    def of_all(
        cls,
        task: Task,
        waiting: str,
        log_tail: bytes,
        stage: Stage | None,
        result: StoredResult | None,
        attempts: Sequence[Attempt],
        history: Sequence[TaskEventRecord],
    ) -> TaskDetailOut:
        """Translate the records of one task."""
        placements = {
            event.attempt: event.reason for event in history if event.state is TaskState.LEASED
        }
        return cls(
            **_task_fields(task, waiting),
            log_tail=log_tail.decode(errors="replace"),
            stage=None if stage is None else StageOut(**dataclasses.asdict(stage)),
            result=None if result is None else ResultOut.of(result.head, result.receipt),
            attempts=[
                AttemptOut(
                    number=attempt.number,
                    worker=shown_name(attempt.worker),
                    state=attempt.state,
                    reason=attempt.reason,
                    placement=placements.get(attempt.handle, ""),
                    created_at=attempt.created_at,
                    updated_at=attempt.updated_at,
                )
                for attempt in attempts
            ],
            history=[
                EventOut(version=event.version, state=event.state, reason=event.reason, at=event.at)
                for event in history
            ],
        )


class TaskNamedOut(Out):
    """The one task that a name means."""

    id: str


class TaskListOut(Out):
    """A page of tasks, newest first."""

    tasks: list[TaskOut]
    next: str | None = Field(description="Give it as ``before`` to get the next page.")


def _task_fields(task: Task, waiting: str) -> dict[str, object]:
    open_and_waiting = waiting and not task.state.final
    return {
        "id": task.id,
        "state": task.state,
        "final": task.state.final,
        "version": task.version,
        "kind": task.spec.kind,
        "module": task.spec.module,
        "argv": list(task.spec.argv),
        "seed": task.seed,
        "privacy": task.spec.privacy,
        "group": task.spec.group,
        "hops": task.spec.privacy.hops,
        "tries": task.tries,
        "max_attempts": task.spec.max_attempts,
        "reason": one_line(waiting, REASON_LENGTH) if open_and_waiting else task.reason,
        "created_at": task.created_at,
        "updated_at": task.updated_at,
        "finished_at": task.finished_at,
    }
