"""What a task writes: the end of a text that grows, as it is told again and again."""

from __future__ import annotations

from typing import Literal

from fog_compute.client.answers import Task

__all__ = ["grown", "last_written"]


def last_written(task: Task) -> Literal["stderr", "stdout"] | None:
    """Return where a task that is over has what it wrote last: its errors, or else its output."""
    result = task["result"]
    if result is None:
        return None
    if result["stderr_bytes"]:
        return "stderr"
    return "stdout" if result["stdout_bytes"] else None


def grown(before: str, now: str) -> str:
    """Return what of ``now`` was not in ``before``; both are ends of one text that grows."""
    for length in range(min(len(before), len(now)), 0, -1):
        if before.endswith(now[:length]):
            return now[length:]
    return now
