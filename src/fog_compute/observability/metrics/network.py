"""Metrics of this machine's part in the mixnet: the network it sees, its circuits, its messages."""

from __future__ import annotations

from typing import Final

from fog_compute.levels import PrivacyLevel
from fog_compute.observability.metrics.registry import Registry

__all__ = ["CircuitMetrics", "NetworkMetrics"]


class NetworkMetrics:
    """The network as this machine's clients see it, and whether it carries their messages."""

    __slots__ = ("consensus_valid_until", "edges", "epoch", "messages", "nodes", "packets", "paths")

    def __init__(self, registry: Registry) -> None:
        self.nodes: Final = registry.gauge(
            "fog_net_nodes",
            "Mix nodes in the current view of the network.",
            kind=("entry", "middle", "exit"),
        )
        self.epoch: Final = registry.gauge(
            "fog_net_epoch", "Epoch of the current view of the network."
        )
        self.edges: Final = registry.gauge(
            "fog_net_edges", "Edges that the client of the level private is linked to now."
        )
        self.paths: Final = registry.gauge(
            "fog_net_paths",
            "1 where there is a path of that level into the network now, else 0.",
            privacy=PrivacyLevel,
        )
        self.consensus_valid_until: Final = registry.gauge(
            "fog_net_consensus_valid_until_timestamp_seconds",
            "When the list of nodes that this machine goes by ends; 0 while it has none.",
        )
        self.messages: Final = registry.counter(
            "fog_messages",
            "Messages that the backend handed to the mixnet, tasks' and people's together:"
            " `acknowledged` by the recipient or the edge that keeps them for it, answered or not,"
            " `expired` without that, or `failed`, as there was no way into the network.",
            outcome=("acknowledged", "expired", "failed"),
        )
        self.packets: Final = registry.counter(
            "fog_net_packets",
            "Packets and loops of the levels' shared clients whose end is known; `lost` is what"
            " did not come back in time, and was sent again where it mattered.",
            privacy=PrivacyLevel,
            outcome=("acknowledged", "lost"),
        )


class CircuitMetrics:
    """The circuits of each level, and nothing finer."""

    __slots__ = ("circuits", "packets", "rotations", "round_trip", "sends")

    def __init__(self, registry: Registry) -> None:
        self.circuits: Final = registry.gauge(
            "fog_circuits",
            "Circuits that there are now.",
            privacy=PrivacyLevel,
            state=("fresh", "active", "draining"),
        )
        self.sends: Final = registry.counter(
            "fog_circuit_sends",
            "Messages over circuits: stored or answered (`acknowledged`), neither in time (`lost`),"
            " or not sent (`failed`).",
            privacy=PrivacyLevel,
            outcome=("acknowledged", "lost", "failed"),
        )
        self.packets: Final = registry.counter(
            "fog_circuit_packets",
            "Packets that messages over circuits needed at least, without those that were sent"
            " again.",
            privacy=PrivacyLevel,
        )
        self.round_trip: Final = registry.gauge(
            "fog_circuit_round_trip_seconds",
            "What a packet and its acknowledgement take; no series before one came back.",
            privacy=PrivacyLevel,
        )
        self.rotations: Final = registry.counter(
            "fog_circuit_rotations",
            "Circuits whose place another one took.",
            privacy=PrivacyLevel,
        )
