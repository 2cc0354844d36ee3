"""What Prometheus asks for metrics, from what runs: the same labels as everywhere else."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import msgspec

__all__ = [
    "AUTHORITY",
    "BACKEND",
    "HOST",
    "NETWORKS",
    "NODES",
    "POSTGRES",
    "REDIS",
    "WORKER",
    "Target",
    "as_files",
    "targets_of_net",
]

BACKEND: Final = "fog-backend"
WORKER: Final = "fog-worker"
NODES: Final = "betanet-mixnodes"
AUTHORITY: Final = "betanet-authority"
POSTGRES: Final = "postgres"
REDIS: Final = "redis"
HOST: Final = "host"

NETWORKS: Final = {
    BACKEND: "fog-network",
    WORKER: "fog-network",
    POSTGRES: "fog-network",
    REDIS: "fog-network",
    NODES: "betanet",
    AUTHORITY: "betanet",
    HOST: "monitoring",
    "prometheus": "monitoring",
    "alertmanager": "monitoring",
}
"""The label ``network`` of each job that `fog up` can watch."""

_AUTHORITY_ROLE: Final = "authority"


@dataclass(frozen=True, slots=True)
class Target:
    """One process that has metrics.

    Attributes:
        job: the value of its label ``service``.
        instance: its name among those of the job.
        url: where it answers, without a path.
        role: of a mix node, what it does.
    """

    job: str
    instance: str
    url: str
    role: str = ""

    def group(self) -> dict[str, object]:
        """It as Prometheus reads it from a file."""
        parts = urlsplit(self.url)
        labels = {
            "__scheme__": parts.scheme,
            "instance": self.instance,
            "service": self.job,
            "network": NETWORKS[self.job],
        }
        return {
            "targets": [parts.netloc],
            "labels": labels | ({"role": self.role} if self.role else {}),
        }


def as_files(jobs: Iterable[str], targets: Sequence[Target]) -> dict[str, bytes]:
    """One file of targets for each job, by its name; that of a job without any is empty."""
    groups: defaultdict[str, list[dict[str, object]]] = defaultdict(list)
    for target in targets:
        groups[target.job].append(target.group())
    return {f"{job}.json": (json.dumps(groups[job], indent=2) + "\n").encode() for job in jobs}


class _Process(msgspec.Struct):
    name: str
    role: str
    http: str | None


class _Net(msgspec.Struct):
    nodes: list[_Process]


def targets_of_net(report: bytes) -> list[Target]:
    """The nodes and the authority of a local net, by what `betanet localnet status` reports.

    Raises:
        msgspec.MsgspecError: it is no such report.
    """
    net = msgspec.json.decode(report, type=_Net)
    return [
        Target(AUTHORITY, one.name, f"http://{one.http}")
        if one.role == _AUTHORITY_ROLE
        else Target(NODES, one.name, f"http://{one.http}", one.role)
        for one in net.nodes
        if one.http is not None
    ]
