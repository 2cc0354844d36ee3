"""The mixnet: does it carry packets, does anything fill up, is its directory fresh."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as model

from monitoring.grafana.boards.frame import board, choice
from monitoring.grafana.boards.shapes import (
    GREEN,
    ORANGE,
    RED,
    YELLOW,
    AnyPanel,
    Query,
    figure,
    graph,
    some,
)

_NODES = 'instance=~"$instance", role=~"$role"'
_DROPPED = 'instance:betanet_packets_dropped:rate5m{instance=~"$instance"}'
"""Recorded beside the rules, without what is no packet; it has no role."""

_COARSE = (
    " Nodes step their counters by 1,000 once a minute, unless they are told to count exactly: "
    "so over 5 minutes, and what is less shows as 0."
)


def dashboard() -> model.Dashboard:
    """The dashboard."""
    return board(
        "fog-betanet",
        "fog: BetaNet",
        "Does the mixnet carry packets, does anything fill up, is its directory fresh?",
        [*_figures(), *_packets(), *_times(), *_held()],
        variables=[
            choice("role", "Role", "betanet_health_status"),
            choice("instance", "Node", 'betanet_health_status{role=~"$role"}', of="instance"),
        ],
    )


def _figures() -> list[AnyPanel]:
    return [
        figure(
            "Nodes at work (all is good)",
            "Nodes that say they do their work, and nodes there are. One that answers and is not "
            "healthy lacks a consensus, its store or its links: `betanet health` on its machine.",
            Query(f"sum(betanet_health_status{{{_NODES}}})", "at work"),
            Query(f'count(up{{service="betanet-mixnodes", {_NODES}}})', "in all"),
            unit="short",
            runbooks=("MixnodeUnhealthy",),
        ),
        figure(
            "Consensus ends in (more than 0 is good)",
            "Until the oldest consensus that a node holds, and the authority's newest, is valid. "
            "Below 0 clients send nothing: see whether the authority signs.",
            Query(
                f"min(betanet_consensus_valid_until_timestamp_seconds{{{_NODES}}}) - time()",
                "nodes",
            ),
            Query(
                "min(betanet_authority_consensus_valid_until_timestamp_seconds) - time()",
                "authority",
            ),
            unit="s",
            steps=((None, RED), (0, GREEN)),
            runbooks=("DirectoryStale", "AuthorityNotSigning"),
        ),
        figure(
            "Packet keys end in (more than 0 is good)",
            "Until the first node's newest packet key is no longer accepted. It falls where a "
            "node does not rotate its keys; below 0 the node drops all.",
            Query(
                f"min(betanet_packet_key_not_after_timestamp_seconds{{{_NODES}}}) - time()",
            ),
            unit="s",
            steps=((None, RED), (0, GREEN)),
            runbooks=("PacketKeyStale",),
        ),
        figure(
            "Dropped (below 10 % is good)",
            "Of the packets that nodes accepted or dropped, those that they dropped; peers that "
            "were refused do not count. The panel on reasons says why." + _COARSE,
            Query(
                f"sum({_DROPPED}) / (sum({_DROPPED})"
                f" + sum(rate(betanet_packets_processed_total{{{_NODES}}}[5m])))"
            ),
            unit="percentunit",
            steps=((None, GREEN), (0.05, YELLOW), (0.1, RED)),
            empty="no packets",
            runbooks=("HighPacketDropRate", "ReplaySpike"),
        ),
    ]


def _packets() -> list[AnyPanel]:
    return [
        graph(
            "Packets a second by role",
            "Accepted packets; those that ended in a mailbox of an edge; those that were cover. "
            "One role far below the others: some of its nodes are away." + _COARSE,
            Query(
                f"sum by (role) (rate(betanet_packets_processed_total{{{_NODES}}}[5m]))",
                "accepted, {{role}}",
            ),
            Query(f"sum(rate(betanet_packets_delivered_total{{{_NODES}}}[5m]))", "delivered"),
            Query(f"sum(rate(betanet_cover_packets_total{{{_NODES}}}[5m]))", "cover"),
            unit="pps",
        ),
        graph(
            "Packets dropped a second by reason (“none” is good)",
            "`replay`: somebody sends packets twice. `…_full`: too much comes, see the queues. "
            "`bad_mac`: packets for other keys, see the age of keys and clocks. `link_down`: the "
            "next node is away." + _COARSE,
            Query(
                some(
                    f"sum by (reason) (rate(betanet_packets_dropped_total{{{_NODES}}}[5m]))",
                    "reason",
                ),
                "{{reason}}",
            ),
            unit="pps",
            runbooks=("HighPacketDropRate", "ReplaySpike"),
        ),
        graph(
            "Queues and buffers in use (below 80 % is good)",
            "Packets that wait in each node, of those that fit; and packet buffers taken, of "
            "all. At 100 % packets are dropped: give the node more processor, or a higher "
            "`MAX_QUEUE_DEPTH`.",
            Query(
                f"max by (instance, queue) (betanet_queue_depth{{{_NODES}}}"
                f" / betanet_queue_capacity{{{_NODES}}})",
                "{{instance}} {{queue}}",
            ),
            Query(
                f'sum by (instance) (betanet_pool_buffers{{state="taken", {_NODES}}})'
                f" / sum by (instance) (betanet_pool_buffers{{{_NODES}}})",
                "{{instance}} buffers",
            ),
            unit="percentunit",
            width=8,
            steps=((None, GREEN), (0.8, ORANGE), (0.95, RED)),
            top=1,
            runbooks=("QueueNearFull",),
        ),
    ]


def _times() -> list[AnyPanel]:
    return [
        graph(
            "Time of a packet in a node",
            "From socket to release: most of it is the delay that mixes packets, whose mean the "
            "sender draws. The median far above that mean: the node is behind. Over 5 minutes.",
            *(
                Query(
                    f"histogram_quantile({share}, sum by (le) "
                    f"(rate(betanet_hop_delay_seconds_bucket{{{_NODES}}}[5m])))",
                    name,
                )
                for share, name in ((0.5, "median"), (0.95, "1 of 20"), (0.99, "1 of 100"))
            ),
            unit="s",
            width=8,
        ),
        graph(
            "Lateness, 1 packet of 100 (below 5 ms is good)",
            "How long after it is due a node lets a packet go: the node's own share of the "
            "delay. Above 5 ms its processor is too busy. Over 5 minutes.",
            Query(
                "histogram_quantile(0.99, sum by (le, role) "
                f"(rate(betanet_hop_late_seconds_bucket{{{_NODES}}}[5m])))",
                "{{role}}",
            ),
            unit="s",
            width=8,
            steps=((None, GREEN), (0.005, ORANGE), (0.02, RED)),
        ),
    ]


def _held() -> list[AnyPanel]:
    return [
        graph(
            "Replay memory in use (below 80 % is good)",
            "Packets remembered so as to refuse them the second time, of those that fit. Full, "
            "a node drops all with `replay_cache_full` until its keys rotate: give it a higher "
            "`TARGET_THROUGHPUT`.",
            Query(
                f"max by (instance) (betanet_replay_entries{{{_NODES}}}"
                f" / betanet_replay_capacity{{{_NODES}}})",
                "{{instance}}",
            ),
            unit="percentunit",
            steps=((None, GREEN), (0.8, ORANGE), (0.95, RED)),
            top=1,
            width=8,
            runbooks=("ReplayMemoryNearFull",),
        ),
        graph(
            "Links by kind",
            "Links of all chosen nodes, to nodes and to clients; clients are counted coarsely. "
            "Links to nodes that fall: nodes are away, or refuse each other.",
            Query(f"sum by (kind) (betanet_links{{{_NODES}}})", "{{kind}}"),
            unit="short",
            width=8,
        ),
        graph(
            "Listed by the authority",
            "Nodes of each kind in the newest consensus, and workers, each once for every level "
            "that it serves. Paths of 3 hops need 2 edges and a middle, those of 7 hops 2 edges "
            "and 5 middles.",
            Query("sum by (kind) (betanet_authority_nodes)", "{{kind}}"),
            Query("sum(betanet_authority_workers_listed)", "workers by levels"),
            unit="short",
            width=8,
            runbooks=("AuthorityNotSigning",),
        ),
    ]
