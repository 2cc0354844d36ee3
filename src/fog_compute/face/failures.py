"""How a task ends badly, as exceptions: one line, and a note with the end of its output."""

from __future__ import annotations

from fog_compute.errors import FogError

__all__ = ["FogWarning", "StillRunning", "TaskCancelled", "TaskFailed"]


class FogWarning(UserWarning):
    """Something about a task by which it will hardly go well, or wait."""


class TaskFailed(FogError):
    """A task failed, or its program ended with another exit code than 0.

    Attributes:
        task_id: the task.
        reason: what happened, in one line.
        fault: what the program did wrong, such as ``timeout`` or ``out_of_memory``; None if it ran
            to its end, or no worker could run it.
        exit_code: of the program, where it ran to its end.
        log_tail: the end of what it wrote to standard error, or else to standard output.
    """

    def __init__(
        self,
        task_id: str,
        reason: str,
        *,
        fault: str | None = None,
        exit_code: int | None = None,
        log_tail: str = "",
    ) -> None:
        super().__init__(f"task {task_id} {reason}")
        self.task_id = task_id
        self.reason = reason
        self.fault = fault
        self.exit_code = exit_code
        self.log_tail = log_tail
        if log_tail:
            self.add_note(f"the end of what it wrote:\n{log_tail}")


class TaskCancelled(TaskFailed):
    """A task was cancelled, so that it has no result."""


class StillRunning(FogError, TimeoutError):
    """A task is not over after the time that was given; it goes on.

    Attributes:
        task_id: the task; `Fog.task` gives it back.
    """

    def __init__(self, task_id: str, seconds: float) -> None:
        super().__init__(f"task {task_id} is not over after {seconds:g} s, and goes on")
        self.task_id = task_id
