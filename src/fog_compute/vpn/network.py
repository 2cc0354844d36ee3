"""The network as this machine's clients see it, and which levels it can give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from fog_compute.errors import PrivacyUnavailable

if TYPE_CHECKING:
    import betanet
    from fog_compute.levels import PrivacyLevel

__all__ = ["ClientHealth", "NetworkStatus", "by_hops", "check_level"]


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
        shortages: what the network lacks for paths of so many hops, where it has none.
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
    shortages: Mapping[int, betanet.PathShortage] = field(default_factory=dict)

    def carries(self, level: PrivacyLevel) -> bool:
        """Whether there is a way for messages of a level: an edge, and nodes for its path."""
        return self.edges_attached > 0 and level.hops not in self.shortages

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


def check_level(shortages: Mapping[int, betanet.PathShortage], level: PrivacyLevel) -> None:
    """Refuse a level that has no path in a network, whoever stands at its ends.

    Args:
        shortages: what the network lacks, by the number of hops, as the core tells it.
        level: what is wanted.

    Raises:
        PrivacyUnavailable: there are too few nodes for it; the text says of which kind.
    """
    short = shortages.get(level.hops)
    if short is not None:
        raise PrivacyUnavailable(
            f"privacy {level.value} has no path in this network: {short.text}: choose a lower level"
            " or wait",
            needed=short.needed,
            available=short.available,
        )


def by_hops(view: betanet.ClientStatus) -> Mapping[int, betanet.PathShortage]:
    """What a client's network lacks, by the number of hops."""
    return {short.hops: short for short in view.shortages}
