"""Tasks that run beside the others, and whose end somebody hears of.

A task that nobody awaits dies in silence; here a failure is said, and told to who depends on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from fog_compute.observability import get_logger

__all__ = ["background"]

_log = get_logger("fog_compute.p2p")


def background(
    work: Coroutine[Any, Any, None],
    name: str,
    failed: Callable[[BaseException], None] | None = None,
) -> asyncio.Task[None]:
    """Begin something that nobody waits for.

    Args:
        work: what is to be done.
        name: of the task, for the log.
        failed: called with what was raised, where it was not cancelled.
    """
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_End(failed))
    return task


class _End:
    __slots__ = ("_failed",)

    def __init__(self, failed: Callable[[BaseException], None] | None) -> None:
        self._failed: Final = failed

    def __call__(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        # Its text may name a person.
        _log.warning("task.failed", work=task.get_name(), error=type(error).__name__)
        if self._failed is not None:
            self._failed(error)
