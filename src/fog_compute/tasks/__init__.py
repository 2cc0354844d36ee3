"""What a task is: its records, its table of states, and the messages about it."""

from fog_compute.tasks.ids import new_handle, new_task_id, seed_from, seed_of
from fog_compute.tasks.model import (
    ATTEMPT_TRANSITIONS,
    OPEN_ATTEMPT_STATES,
    TRANSITIONS,
    WAITING_TASK_STATES,
    Attempt,
    AttemptEvent,
    AttemptState,
    Fault,
    InvalidTransition,
    Limits,
    Task,
    TaskEvent,
    TaskKind,
    TaskSpec,
    TaskState,
    transition,
    transition_attempt,
)
from fog_compute.tasks.pacing import next_edge
from fog_compute.tasks.result import ResultHead, TaskResult

__all__ = [
    "ATTEMPT_TRANSITIONS",
    "OPEN_ATTEMPT_STATES",
    "TRANSITIONS",
    "WAITING_TASK_STATES",
    "Attempt",
    "AttemptEvent",
    "AttemptState",
    "Fault",
    "InvalidTransition",
    "Limits",
    "ResultHead",
    "Task",
    "TaskEvent",
    "TaskKind",
    "TaskResult",
    "TaskSpec",
    "TaskState",
    "new_handle",
    "new_task_id",
    "next_edge",
    "seed_from",
    "seed_of",
    "transition",
    "transition_attempt",
]
