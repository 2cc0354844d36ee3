"""How workers and the nodes of the network look in the HTTP interface."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from pydantic import Field

from fog_compute.coordinator.placement import WorkerState, WorkerView
from fog_compute.levels import PrivacyLevel
from fog_compute.server.schemas import Out
from fog_compute.tasks.ids import named
from fog_compute.vpn.directory import shown_name
from fog_compute.vpn.network import ClientHealth, NetworkStatus

if TYPE_CHECKING:
    import betanet

__all__ = [
    "MAX_NODES_PAGE",
    "EdgeUseOut",
    "ExcludedNodeOut",
    "NetOut",
    "NodeListOut",
    "NodeOut",
    "NodeRole",
    "NodeUse",
    "NodesSeen",
    "PathFiguresOut",
    "WorkerListOut",
    "WorkerOut",
]

MAX_NODES_PAGE: Final = 1000
_LAST_MS: Final = 253_402_300_799_000
"""The last second of the year 9999, in Unix milliseconds: no later time has a text."""


class NodeRole(StrEnum):
    """The part of a path that a node serves; entry and exit nodes are edges."""

    ENTRY = "entry"
    MIDDLE = "middle"
    EXIT = "exit"


class NodeUse(StrEnum):
    """What a node is to this machine besides one of many."""

    EDGE = "edge"
    EXCLUDED = "excluded"


class WorkerOut(Out):
    """A worker as this coordinator sees it."""

    name: str
    level: PrivacyLevel | None = Field(description="Whose tasks it takes; null for any level.")
    state: WorkerState
    kinds: list[str]
    slots: int
    memory_bytes: int
    wall_s: float | None = Field(description="Seconds that a task may run; null if it is not told.")
    scratch_bytes: int | None = Field(description="What its working directory may hold.")
    output_bytes: int | None = Field(description="What it may write: of each stream, and as files.")
    groups: list[str]
    leased: int

    @classmethod
    def of(cls, worker: WorkerView) -> WorkerOut:
        """Translate a record."""
        return cls(
            name=shown_name(worker.name),
            level=worker.level,
            state=worker.state,
            kinds=sorted(worker.kinds),
            slots=worker.slots,
            memory_bytes=worker.memory_bytes,
            wall_s=None if worker.limits is None else worker.limits.wall_s,
            scratch_bytes=None if worker.limits is None else worker.limits.scratch_bytes,
            output_bytes=None if worker.limits is None else worker.limits.output_bytes,
            groups=sorted(worker.groups),
            leased=worker.leased,
        )


class WorkerListOut(Out):
    """Workers."""

    workers: list[WorkerOut]


class PathFiguresOut(Out):
    """What became of this machine's own packets of one number of hops, since the backend began."""

    hops: int
    tries: int
    lost: int
    round_trip_ms: int | None


class ExcludedNodeOut(Out):
    """A middle that no packet passes for a while, and the evidence against it."""

    id: str
    tries: int
    lost: int
    expected: int
    seconds_left: float


class NetOut(Out):
    """The network as this machine sees it."""

    name: str
    epoch: int
    nodes: dict[str, int]
    mean_delay_ms: float
    one_operator: bool
    paths: list[PathFiguresOut]
    excluded: list[ExcludedNodeOut]
    warnings: list[str]


class EdgeUseOut(Out):
    """What an edge is to this machine."""

    current: bool = Field(description="Whether an address of this machine names it.")
    attached: bool = Field(description="Whether there is a link to it.")
    reason: str | None = Field(description="Why there is no link, as far as is known.")


class NodeOut(Out):
    """A node as the directory lists it, and what it is to this machine."""

    id: str
    role: NodeRole | None = Field(
        description="Null, as all that the directory says, where it does not list the node now."
    )
    operator: str | None = Field(description="Who runs it, by the token that let it in.")
    prefix: str | None = Field(
        description="The part of its address that neighbours share: /16 of IPv4, /32 of IPv6."
    )
    link_address: str | None = Field(description="Where others reach its links.")
    key_epochs: list[int] = Field(description="The epochs of which it has shown packet keys.")
    expires_at: datetime | None = Field(description="Until when its descriptor holds.")
    edge: EdgeUseOut | None = Field(description="Set where it keeps mailboxes of this machine.")
    excluded: ExcludedNodeOut | None = Field(
        description="The evidence for which no packet passes it for a while."
    )


class NodeListOut(Out):
    """A page of the nodes of the network in the order of their ids, and their consensus."""

    network: str
    epoch: int = Field(description="The epoch that the consensus is for.")
    revision: int = Field(description="Which version of it within the epoch, from 0.")
    valid_after: datetime
    fresh_until: datetime = Field(description="When a newer one should be there.")
    valid_until: datetime = Field(description="From when nothing is sent by it any more.")
    in_force: bool = Field(description="Whether it holds now, by the network's time.")
    roles: dict[str, int] = Field(description="All nodes that the directory lists, by role.")
    one_operator: bool = Field(description="Whether one party runs all of them: no anonymity.")
    nodes: list[NodeOut]
    next: str | None = Field(description="Give it as ``after`` to get the next page.")


class NodesSeen:
    """The nodes that the directory lists, with what the clients of this machine met."""

    def __init__(
        self,
        consensus: betanet.Consensus,
        view: NetworkStatus,
        clients: Iterable[ClientHealth],
    ) -> None:
        """A client's edges are those of one level. Which is whose stays with the circuits."""
        self._consensus: Final = consensus
        self._one_operator: Final = view.one_operator
        self._excluded: Final = view.excluded
        self._listed: Final = {node.id: node for node in consensus.nodes}
        self._edges: Final[dict[str, EdgeUseOut]] = {}
        for client in clients:
            for edge in client.edges:
                use = EdgeUseOut(current=edge.current, attached=edge.attached, reason=edge.reason)
                known = self._edges.setdefault(edge.id, use)
                if edge.attached and not known.attached:
                    self._edges[edge.id] = use
        self._ids: Final = sorted({*self._listed, *self._edges, *self._excluded})

    def page(
        self, role: NodeRole | None, use: NodeUse | None, after: str, limit: int
    ) -> NodeListOut:
        """Show those of a role and a use whose ids come after one, up to a number of them."""
        seen = self._consensus
        found = [node for node in self._ids if node > after and self._is(node, role, use)]
        counts = Counter(node.role for node in seen.nodes)
        return NodeListOut(
            network=seen.network,
            epoch=seen.epoch,
            revision=seen.revision,
            valid_after=_time(seen.valid_after_ms),
            fresh_until=_time(seen.fresh_until_ms),
            valid_until=_time(seen.valid_until_ms),
            in_force=seen.in_force,
            roles={each.value: counts[each] for each in NodeRole},
            one_operator=self._one_operator,
            nodes=[self.show(node) for node in found[:limit]],
            next=found[limit - 1] if len(found) > limit else None,
        )

    def named(self, name: str) -> list[str]:
        """The ids that begin or end so; an id itself means nothing else."""
        return named(name, self._ids)

    def show(self, node: str) -> NodeOut:
        """Tell of the node with an id that is known here."""
        listed, excluded = self._listed.get(node), self._excluded.get(node)
        return NodeOut(
            id=node,
            role=None if listed is None else NodeRole(listed.role),
            operator=None if listed is None else listed.operator,
            prefix=None if listed is None else listed.prefix,
            link_address=None if listed is None else listed.link_address,
            key_epochs=[] if listed is None else list(listed.key_epochs),
            expires_at=None if listed is None else _time(listed.expires_ms),
            edge=self._edges.get(node),
            excluded=None
            if excluded is None
            else ExcludedNodeOut.model_validate(dataclasses.asdict(excluded)),
        )

    def _is(self, node: str, role: NodeRole | None, use: NodeUse | None) -> bool:
        listed = self._listed.get(node)
        if role is not None and (listed is None or listed.role != role):
            return False
        used = {NodeUse.EDGE: self._edges, NodeUse.EXCLUDED: self._excluded}
        return use is None or node in used[use]


def _time(milliseconds: int) -> datetime:
    """A time of the directory's; others sign it, so it may be any."""
    return datetime.fromtimestamp(min(milliseconds, _LAST_MS) / 1000, UTC)
