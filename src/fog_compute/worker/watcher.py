"""Who is told of what happens in a worker's slots, in words that name no task."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Nobody", "Watcher"]


class Watcher(Protocol):
    """Whoever counts what happens."""

    def killed(self, reason: str) -> None:
        """Take note that a runner was ended before its time."""
        ...

    def ran(self, kind: str, seconds: float) -> None:
        """Take note that a task of a kind ran for so long, or until its fault."""
        ...


class Nobody:
    """Watches nothing."""

    __slots__ = ()

    def killed(self, reason: str) -> None:
        """Go on."""

    def ran(self, kind: str, seconds: float) -> None:
        """Go on."""
