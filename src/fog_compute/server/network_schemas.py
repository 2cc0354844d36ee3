"""How the nodes of the network look in the HTTP interface."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from pydantic import BaseModel, ConfigDict, Field

from fog_compute.server.schemas import ExcludedNodeOut
from fog_compute.vpn.network import ClientHealth, NetworkStatus

__all__ = ["NodeListOut", "NodeOut"]


class _Out(BaseModel):
    model_config = ConfigDict(frozen=True)


class EdgeUseOut(_Out):
    """What an edge is to this machine."""

    current: bool = Field(description="Whether an address of this machine names it.")
    attached: bool = Field(description="Whether there is a link to it.")
    reason: str | None = Field(description="Why there is no link, as far as is known.")


class NodeOut(_Out):
    """A node of which this machine knows more than that the directory lists it."""

    id: str
    edge: EdgeUseOut | None = Field(description="Set where it keeps mailboxes of this machine.")
    excluded: ExcludedNodeOut | None = Field(
        description="The evidence for which no packet passes it for a while."
    )


class NodeListOut(_Out):
    """The nodes of the network, counted, and those that this machine has to do with."""

    network: str
    epoch: int
    roles: dict[str, int] = Field(description="Nodes that the directory lists, by role.")
    one_operator: bool = Field(description="Whether one party runs all of them: no anonymity.")
    nodes: list[NodeOut]

    @classmethod
    def of(cls, view: NetworkStatus, clients: Iterable[ClientHealth]) -> NodeListOut:
        """Put together what the directory says and what the clients met.

        A client's edges are those of one level. Which of them is whose stays with the circuits.
        """
        edges: dict[str, EdgeUseOut] = {}
        for client in clients:
            for edge in client.edges:
                use = EdgeUseOut(current=edge.current, attached=edge.attached, reason=edge.reason)
                known = edges.setdefault(edge.id, use)
                if edge.attached and not known.attached:
                    edges[edge.id] = use
        return cls(
            network=view.network,
            epoch=view.epoch,
            roles=dict(view.nodes),
            one_operator=view.one_operator,
            nodes=[
                NodeOut(id=node, edge=edges.get(node), excluded=_excluded(view, node))
                for node in sorted({*edges, *view.excluded})
            ],
        )


def _excluded(view: NetworkStatus, node: str) -> ExcludedNodeOut | None:
    found: Mapping[str, object] | None = (
        dataclasses.asdict(view.excluded[node]) if node in view.excluded else None
    )
    return None if found is None else ExcludedNodeOut.model_validate(found)
