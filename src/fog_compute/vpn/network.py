"""The network as this machine's clients see it, and which levels it can give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from fog_compute.errors import PrivacyUnavailable

if TYPE_CHECKING:
    import betanet
    from fog_compute.levels import PrivacyLevel

__all__ = ["ClientHealth", "NetworkStatus", "check_level"]


@dataclass(frozen=True, slots=True)
class NetworkStatus:
    """The network as the client of the default level sees it, and what those of all levels met.

    Attributes:
        network: its name.
        epoch: the current key period.
        nodes: mix nodes by role.
        one_operator: whether one party runs all nodes, so that there is no anonymity.
        mean_delay_ms: mean delay of each hop.
        edges_attached: edges that the client is linked to now.
        trouble: one line if something keeps the client from sending, or this machine's clock is
            wrong; otherwise None.
        paths: loss and times by the number of hops, of all levels that are in use.
        excluded: nodes that a client leaves out because they lose packets, by their ids.
    """

    network: str
    epoch: int
    nodes: Mapping[str, int]
    one_operator: bool
    mean_delay_ms: float
    edges_attached: int
    trouble: str | None = None
    paths: tuple[betanet.PathFigures, ...] = ()
    excluded: Mapping[str, betanet.ExcludedNode] = field(default_factory=dict)

    @property
    def node_count(self) -> int:
        """All nodes of all roles."""
        return sum(self.nodes.values())


@dataclass(frozen=True, slots=True)
class ClientHealth:
    """How the packets of one client fare, by its own loops and acknowledgements.

    Attributes:
        edges: the edges with its mailboxes.
        trouble: one line if something keeps it from sending; otherwise None.
        tries: packets and loops whose end is known.
        lost: how many of them did not come back in time.
        round_trip_ms: what a packet and its acknowledgement take; None if none came back.
        loop_ms: what a loop takes; None if none came back.
        excluded: nodes that it leaves out, with the evidence.
    """

    edges: tuple[betanet.OwnEdge, ...] = ()
    trouble: str | None = None
    tries: int = 0
    lost: int = 0
    round_trip_ms: int | None = None
    loop_ms: int | None = None
    excluded: tuple[betanet.ExcludedNode, ...] = ()

    @classmethod
    def of(cls, view: betanet.ClientStatus, level: PrivacyLevel) -> Self:
        """What a client of ``level`` says of itself."""
        path = next((path for path in view.paths if path.hops == level.hops), None)
        return cls(
            edges=view.edges,
            trouble=view.trouble,
            tries=0 if path is None else path.tries,
            lost=0 if path is None else path.lost,
            round_trip_ms=None if path is None else path.round_trip_ms,
            loop_ms=None if path is None else path.loop_ms,
            excluded=view.excluded,
        )

    @property
    def attached(self) -> int:
        """Edges that it is linked to now."""
        return sum(edge.attached for edge in self.edges)


def check_level(nodes: Mapping[str, int], level: PrivacyLevel, *, one_operator: bool) -> None:
    """Refuse a level that has no path in a network, as far as the numbers of nodes tell.

    Each path has its own edges and middles, none twice. Where several parties run nodes, no two of
    one party stand on a path; who runs which is the core's to know, so more may be needed than is
    counted here, and then a message says so.

    Args:
        nodes: the network's nodes by role; none at all says that it is not known yet.
        level: what is wanted.
        one_operator: whether one party runs all nodes.

    Raises:
        PrivacyUnavailable: there are too few.
    """
    edges, middles = nodes.get("entry", 0) + nodes.get("exit", 0), nodes.get("middle", 0)
    if not edges + middles or (edges >= level.edges and middles >= level.middles):
        return
    apart = "" if one_operator or level.hops < 3 else " of different operators and address ranges"
    raise PrivacyUnavailable(
        f"privacy {level.value} needs {level.hops} nodes on a path{apart}, {level.edges} of them "
        f"edges, and the network has {edges} edges and {middles} middles: choose a lower level or "
        "wait",
        needed=level.hops,
        available=edges + middles,
    )
