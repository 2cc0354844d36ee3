"""Tasks by privacy level: one call that sends a task through a circuit of the wanted level."""

from __future__ import annotations

import dataclasses
from typing import Final, Protocol

from fog_compute.levels import PrivacyLevel
from fog_compute.tasks import Task, TaskSpec

__all__ = ["FogOnionCoordinator", "TaskRouter"]


class TaskRouter(Protocol):
    """Queues tasks and knows their circuits; ``FogCoordinator`` is one."""

    async def submit(self, spec: TaskSpec) -> Task:
        """Queue a task."""
        ...

    async def circuit_of(self, task_id: str) -> str:
        """The circuit that the task uses, once it has one; ``Conflict`` if it gets none here."""
        ...


class FogOnionCoordinator:
    """Routes tasks at a privacy level."""

    __slots__ = ("_router",)

    def __init__(self, router: TaskRouter) -> None:
        """Route through ``router``, which follows each task to its end."""
        self._router: Final = router

    async def route_task_with_privacy(
        self, task: TaskSpec, privacy_level: PrivacyLevel = PrivacyLevel.PRIVATE
    ) -> str:
        """Queue ``task`` at a level, wait until a worker is chosen, and return the circuit's id.

        Cancelled, the task stays queued and runs all the same.

        Raises:
            Conflict: the task was over before its circuit could be seen, or another backend has it.
            NotFound: a blob of the task was not uploaded.
            ServiceUnavailable: the network cannot be joined.
        """
        queued = await self._router.submit(dataclasses.replace(task, privacy=privacy_level))
        return await self._router.circuit_of(queued.id)
