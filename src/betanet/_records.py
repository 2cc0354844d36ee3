"""What a client hands out, as immutable records."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from betanet import _core


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message that has arrived.

    Attributes:
        id: names the message in :meth:`Client.commit`; hexadecimal.
        content: the body, or, where it is large, what reads it from its file in the client's
            folder; :attr:`body` and :meth:`Client.save` tell no difference.
        reply_handle: what to give to :meth:`Client.reply`; None if the sender wants no answer, or
            the message was answered before a restart: its reply blocks work once.
        reply_capacity: longest answer, in bytes; 0 if there is no handle.
    """

    id: str
    content: bytes | _core.SpooledBody = field(repr=False)
    reply_handle: int | None
    reply_capacity: int

    @property
    def body(self) -> bytes:
        """What the sender sent; a large message is read from its file each time this is asked for.

        It can be read after the commit, too.

        Raises:
            OSError: the file cannot be read.
            MemoryError: there is no room for it.
        """
        return self.content if isinstance(self.content, bytes) else self.content.read()

    @property
    def size(self) -> int:
        """How many bytes the body has, without reading it."""
        return len(self.content)


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
class WorkerLimits:
    """What a worker gives one task at most, besides memory.

    Attributes:
        wall_ms: milliseconds that it may run.
        scratch_bytes: what its working directory may hold.
        output_bytes: its output, its errors, and its files that come back: each of the three.
    """

    wall_ms: int
    scratch_bytes: int
    output_bytes: int


@dataclass(frozen=True, slots=True)
class WorkerDescriptor:
    """What a worker says of itself in the directory's signed list.

    Attributes:
        id: its signing key, hexadecimal.
        name: for people.
        kinds: kinds of task that it runs.
        slots: tasks that it runs at a time.
        memory_bytes: memory that it lends.
        limits: what else one task may have; None if it does not say.
        groups: groups that it serves.
        address: where messages reach it.
        level: path length of all that it takes and answers there; None if it takes every length.
        issued_ms: when it was written, Unix milliseconds.
        expires_ms: until when it holds, Unix milliseconds.
    """

    id: str
    name: str
    kinds: tuple[str, ...]
    slots: int
    memory_bytes: int
    limits: WorkerLimits | None
    groups: tuple[str, ...]
    address: str
    level: int | None
    issued_ms: int
    expires_ms: int


@dataclass(frozen=True, slots=True)
class PathFigures:
    """What became of a client's own packets of one number of hops, since it was opened.

    Attributes:
        hops: the number of hops.
        tries: packets and loops whose end is known, each sending for itself.
        lost: how many of them did not come back in time.
        round_trip_ms: what a packet and its acknowledgement take; None if none came back.
        loop_ms: what a loop takes, as of :meth:`Client.ping`; None if none came back.
    """

    hops: int
    tries: int
    lost: int
    round_trip_ms: int | None
    loop_ms: int | None


@dataclass(frozen=True, slots=True)
class PathShortage:
    """What a network lacks for paths of one number of hops, whoever stands at their ends.

    Attributes:
        hops: the number of hops.
        needed: how many of some kind of node such a path needs.
        available: how many there are.
        text: one line that names the kind, and both numbers.
    """

    hops: int
    needed: int
    available: int
    text: str


@dataclass(frozen=True, slots=True)
class OwnEdge:
    """An edge at which a client has mailboxes.

    Attributes:
        id: the node's id, hexadecimal.
        current: whether the client's address names it; otherwise a former address did.
        attached: whether there is a link to it.
        reason: why not, as far as it is known.
    """

    id: str
    current: bool
    attached: bool
    reason: str | None


@dataclass(frozen=True, slots=True)
class ExcludedNode:
    """A middle that no packet of a client passes for a while, and the evidence against it.

    Attributes:
        id: the node's id, hexadecimal.
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
    """A mix node as the directory lists it.

    Attributes:
        id: its identity key, hexadecimal.
        role: ``entry``, ``middle`` or ``exit``; entry and exit nodes are edges.
        operator: who runs it, by the token that let it in.
        prefix: the part of its address that neighbours share, such as ``192.0.0.0/16``.
        link_address: where others reach its links: an address or a name, and a port.
        key_epochs: the epochs of which it has shown packet keys.
        expires_ms: until when its descriptor holds, Unix milliseconds.
    """

    id: str
    role: str
    operator: str
    prefix: str
    link_address: str
    key_epochs: tuple[int, ...]
    expires_ms: int


@dataclass(frozen=True, slots=True)
class Consensus:
    """The signed list of the nodes of one epoch.

    Attributes:
        network: its name.
        epoch: the epoch that it is for.
        revision: which version of it within the epoch, from 0.
        valid_after_ms: from when it holds, Unix milliseconds.
        fresh_until_ms: when a newer one should be there, Unix milliseconds.
        valid_until_ms: from when nothing is sent by it any more, Unix milliseconds.
        in_force: whether it holds now, by the network's time.
        nodes: up to 4096, in the order of the list.
    """

    network: str
    epoch: int
    revision: int
    valid_after_ms: int
    fresh_until_ms: int
    valid_until_ms: int
    in_force: bool
    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class ClientStatus:
    """A client and its network as it sees them now.

    Attributes:
        network: its name.
        epoch: the current key period.
        nodes: mix nodes by role: entry, middle, exit.
        edges_attached: edges that the client is linked to now.
        edges_wanted: edges that its address names.
        one_operator: whether one party runs all nodes, so that there is no anonymity.
        mean_delay_ms: mean delay of each hop.
        in_flight: packets whose storage at the recipient's edge is not confirmed.
        outgoing_messages: messages on their way out.
        open_requests: requests without an answer.
        packets_resent: packets that were sent again, since the client was opened.
        uncommitted: messages that were received and not committed.
        trouble: one line if something keeps the client from sending, or this machine's clock is
            wrong; otherwise None.
        shortages: one for each number of hops that no packet can have in the network.
        paths: loss and times by the number of hops; one entry for each number in use.
        edges: the edges with mailboxes of the client, those of its address first.
        excluded: nodes that it leaves out because they lose packets.
    """

    network: str
    epoch: int
    nodes: Mapping[str, int]
    edges_attached: int
    edges_wanted: int
    one_operator: bool
    mean_delay_ms: int
    in_flight: int
    outgoing_messages: int
    open_requests: int
    packets_resent: int
    uncommitted: int
    trouble: str | None
    shortages: tuple[PathShortage, ...]
    paths: tuple[PathFigures, ...]
    edges: tuple[OwnEdge, ...]
    excluded: tuple[ExcludedNode, ...]
