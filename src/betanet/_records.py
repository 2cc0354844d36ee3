"""What a client hands out, as immutable records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message that has arrived.

    Attributes:
        id: names the message in :meth:`Client.commit`; hexadecimal.
        body: what the sender sent.
        reply_handle: what to give to :meth:`Client.reply`; None if the sender wants no answer, or
            the message was answered before a restart: its reply blocks work once.
        reply_capacity: longest answer, in bytes; 0 if there is no handle.
    """

    id: str
    body: bytes
    reply_handle: int | None
    reply_capacity: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a message is that is being sent.

    Attributes:
        done: bytes of its body that are acknowledged.
        total: bytes of its body.
        bytes_per_s: acknowledged bytes per second since it began.
    """

    done: int
    total: int
    bytes_per_s: float


@dataclass(frozen=True, slots=True)
class WorkerDescriptor:
    """What a worker says of itself in the directory's signed list.

    Attributes:
        id: its signing key, hexadecimal.
        name: for people.
        kinds: kinds of task that it runs.
        slots: tasks that it runs at a time.
        memory_bytes: memory that it lends.
        groups: groups that it serves.
        address: where messages reach it.
        issued_ms: when it was written, Unix milliseconds.
        expires_ms: until when it holds, Unix milliseconds.
    """

    id: str
    name: str
    kinds: tuple[str, ...]
    slots: int
    memory_bytes: int
    groups: tuple[str, ...]
    address: str
    issued_ms: int
    expires_ms: int


@dataclass(frozen=True, slots=True)
class ClientStatus:
    """The network as a client sees it now.

    Attributes:
        network: its name.
        epoch: the current key period.
        nodes: mix nodes by role: entry, middle, exit.
        edges_attached: edges that the client is linked to now.
        edges_wanted: edges that its address names.
        one_operator: whether one party runs all nodes, so that there is no anonymity.
        mean_delay_ms: mean delay of each hop.
        in_flight: packets whose storage at the recipient's edge is not confirmed.
        open_requests: requests without an answer.
        packets_resent: packets that were sent again, since the client was opened.
        trouble: one line if something keeps the client from sending, or this machine's clock is
            wrong; otherwise None.
    """

    network: str
    epoch: int
    nodes: Mapping[str, int]
    edges_attached: int
    edges_wanted: int
    one_operator: bool
    mean_delay_ms: float
    in_flight: int
    open_requests: int
    packets_resent: int
    trouble: str | None
