"""Workers as the network lists them: what one offers, and how it is published and found."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from fog_compute.levels import PrivacyLevel

__all__ = ["TaskLimits", "WorkerDirectory", "WorkerOffer", "WorkerPublisher", "shown_name"]

_KEY: Final = re.compile(r"(-[0-9a-f]{6})[0-9a-f]{58}$")


@dataclass(frozen=True, slots=True)
class TaskLimits:
    """What a worker gives one task at most, besides memory.

    Attributes:
        wall_s: seconds that it may run.
        scratch_bytes: what its working directory may hold, its inputs included.
        output_bytes: standard output, standard error and files, each.
    """

    wall_s: float
    scratch_bytes: int
    output_bytes: int

    def cover(self, wanted: TaskLimits) -> bool:
        """Whether none of them is below what is wanted."""
        return (
            self.wall_s >= wanted.wall_s
            and self.scratch_bytes >= wanted.scratch_bytes
            and self.output_bytes >= wanted.output_bytes
        )


@dataclass(frozen=True, slots=True)
class WorkerOffer:
    """A machine that lends itself, as it describes itself in the signed list of workers.

    A machine that serves several levels has an entry for each, under another name and key, at
    another address: nothing in the list says that they belong together.

    Attributes:
        name: unique in the list; says nothing about the owner.
        address: where it is reached.
        kinds: kinds of task that it runs.
        slots: tasks that it runs at once.
        memory_bytes: memory that one task may have.
        groups: groups that it serves: as tags in the list, by names where they were read.
        level: the level whose tasks it takes at this address; None for any.
        limits: what else one task may have; None where the worker does not say.
    """

    name: str
    address: str
    kinds: tuple[str, ...]
    slots: int
    memory_bytes: int
    groups: tuple[str, ...] = ()
    level: PrivacyLevel | None = None
    limits: TaskLimits | None = None


def shown_name(name: str) -> str:
    """A worker's name for people, its key cut short; only the whole name tells workers apart."""
    return _KEY.sub(r"\1", name)


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
