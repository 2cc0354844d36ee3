"""Workers as the network lists them: what one offers, and how it is published and found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["WorkerDirectory", "WorkerOffer", "WorkerPublisher"]


@dataclass(frozen=True, slots=True)
class WorkerOffer:
    """A machine that lends itself, as it describes itself in the signed list of workers.

    Attributes:
        name: unique in the list; says nothing about the owner.
        address: where it is reached.
        kinds: kinds of task that it runs.
        slots: tasks that it runs at once.
        memory_bytes: memory that one task may have.
        groups: groups that it serves.
    """

    name: str
    address: str
    kinds: tuple[str, ...]
    slots: int
    memory_bytes: int
    groups: tuple[str, ...] = ()


class WorkerDirectory(Protocol):
    """Where a coordinator finds workers."""

    async def workers(self) -> Sequence[WorkerOffer]:
        """The whole list; asking for it tells nobody which worker is wanted.

        Raises:
            ChannelError: the list cannot be had now.
        """
        ...


class WorkerPublisher(Protocol):
    """Where a worker makes itself known."""

    async def publish(self, offer: WorkerOffer) -> None:
        """Put the offer into the list, in place of an earlier one of the same worker.

        Raises:
            ChannelError: the directory did not take it.
        """
        ...
