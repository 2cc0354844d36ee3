"""What the Python face tells: records that do not change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from fog_compute.client import answers
from fog_compute.client.maps import Progress

__all__ = [
    "Attempt",
    "EdgeUse",
    "ExcludedNode",
    "FogStatus",
    "Node",
    "OutputFile",
    "Progress",
    "TaskStatus",
    "Worker",
    "records",
]

R = TypeVar("R")


def records(told: Sequence[object], kind: type[R]) -> tuple[R, ...]:
    """Translate parts of an answer, whose names and types are those of the records."""
    return tuple(msgspec.convert(one, kind) for one in told)


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A file that a task left below ``out/``.

    Attributes:
        path: below ``out/``, with ``/`` between folders.
        size: bytes.
    """

    path: str
    size: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a task.

    Attributes:
        number: from 1.
        worker: its name.
        state: ``offered``, ``held``, ``running``, ``reported``; in the end ``settled``, ``failed``
            or ``lost``.
        reason: why it is so, or nothing.
        placement: why this worker was chosen.
    """

    number: int
    worker: str
    state: str
    reason: str
    placement: str


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """A task as it stands.

    Attributes:
        id: 26 characters.
        state: ``queued``, ``leased``, ``running``, ``reported``, ``retry``; in the end
            ``accepted``, ``failed`` or ``cancelled``.
        final: whether the state stays.
        reason: why it waits, failed or was cancelled, or nothing.
        privacy: its level.
        created_at: ISO 8601, UTC.
        tries: attempts that came to nothing.
        max_attempts: as many may.
        attempts: all of them, oldest first.
        doing: what is being done for it at a worker, or nothing.
    """

    id: str
    state: str
    final: bool
    reason: str
    privacy: str
    created_at: str
    tries: int
    max_attempts: int
    attempts: tuple[Attempt, ...]
    doing: str

    @classmethod
    def of(cls, task: answers.Task) -> TaskStatus:
        """Translate an answer."""
        stage = task["stage"]
        return msgspec.convert({**task, "doing": "" if stage is None else stage["doing"]}, cls)


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker as the fog sees it.

    Attributes:
        name: as it calls itself.
        level: whose tasks it takes, or None for any.
        state: ``ready``, ``busy`` or why it takes nothing.
        kinds: of tasks that it runs: ``wasm``, ``python``.
        slots: tasks that it runs at once.
        leased: of ours, how many it has.
        memory_bytes: that one task may have there.
        groups: of ours, those that it serves.
    """

    name: str
    level: str | None
    state: str
    kinds: tuple[str, ...]
    slots: int
    leased: int
    memory_bytes: int
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EdgeUse:
    """What an edge is to the fog, which has mailboxes there.

    Attributes:
        current: whether an address of the fog names it; otherwise a former one did.
        attached: whether there is a link to it.
        reason: why not, as far as is known.
    """

    current: bool
    attached: bool
    reason: str | None


@dataclass(frozen=True, slots=True)
class ExcludedNode:
    """The evidence for which no packet of the fog passes a node for a while.

    Attributes:
        id: the node's, 64 hexadecimal digits.
        tries: own packets over it that it was judged by.
        lost: how many of them got lost.
        expected: how many would have by chance, rounded down.
        seconds_left: until it is tried again.
    """

    id: str
    tries: int
    lost: int
    expected: int
    seconds_left: float


@dataclass(frozen=True, slots=True)
class Node:
    """A mix node as the directory lists it, and what it is to the fog.

    Attributes:
        id: 64 hexadecimal digits.
        role: ``entry``, ``middle`` or ``exit``; None, as all that the directory says, where it
            does not list the node now.
        operator: who runs it, by the token that let it in.
        prefix: the part of its address that neighbours share, such as ``192.0.0.0/16``.
        link_address: where others reach its links.
        key_epochs: the epochs of which it has shown packet keys.
        edge: set where it keeps mailboxes of the fog.
        excluded: set where the fog leaves it out for a while, because it lost packets.
    """

    id: str
    role: str | None
    operator: str | None
    prefix: str | None
    link_address: str | None
    key_epochs: tuple[int, ...]
    edge: EdgeUse | None
    excluded: ExcludedNode | None


@dataclass(frozen=True, slots=True)
class FogStatus:
    """A fog at a glance.

    Attributes:
        network: the name of the network, or None while it is unknown.
        nodes: how many there are of each role.
        warnings: what the network does not hide, or cannot give now.
        services: the state of each service of the backend by its name.
        workers: those that the fog knows.
        tasks: how many are in each state.
    """

    network: str | None
    nodes: dict[str, int]
    warnings: tuple[str, ...]
    services: dict[str, str]
    workers: tuple[Worker, ...]
    tasks: dict[str, int]

    @classmethod
    def of(cls, status: answers.Status) -> FogStatus:
        """Translate an answer."""
        net = status["net"]
        return cls(
            network=None if net is None else net["name"],
            nodes={} if net is None else dict(net["nodes"]),
            warnings=() if net is None else tuple(net["warnings"]),
            services={service["name"]: service["state"] for service in status["services"]},
            workers=records(status["workers"], Worker),
            tasks=dict(status["tasks"]),
        )
