"""Every alert, and what is done so that it fires."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True)
class Told:
    """What the webhook has to hear after a fault.

    Attributes:
        alert: its name.
        severity: of the rule.
        cause: what was done.
        labels: of the one that is meant.
    """

    alert: str
    severity: str
    cause: str
    labels: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """Which alert, and of whom."""
        return "-".join([self.alert, self.severity, *self.labels.values()])

    @property
    def rule(self) -> tuple[str, str]:
        """Which rule it proves."""
        return self.alert, self.severity

    def is_it(self, labels: Mapping[str, str]) -> bool:
        """Whether these are the labels of the alert that is meant."""
        wanted = {"alertname": self.alert, "severity": self.severity, **self.labels}
        return wanted.items() <= labels.items()


EVERY: Final = (
    Told("ExactMetricsInUse", "info", "the local net has exact metrics", {"instance": "exit-0"}),
    Told("ReplaySpike", "warning", "packets are sent again to the nodes of a net"),
    Told("HighPacketDropRate", "warning", "a flood, a queue of one", {"instance": "tight-middle"}),
    Told("QueueNearFull", "warning", "a flood, a queue of one", {"instance": "tight-middle"}),
    Told(
        "ReplayMemoryNearFull",
        "warning",
        "a flood, and memory for 100 packets",
        {"instance": "tight-exit"},
    ),
    Told("ServiceDown", "critical", "a worker is frozen", {"instance": "worker-0"}),
    Told("WorkerLoss", "warning", "a worker is frozen", {"instance": "backend"}),
    Told(
        "LeaseExpiries", "warning", "a worker is frozen with tasks in hand", {"instance": "backend"}
    ),
    Told("WorkerSlotsUnable", "warning", "no runner can start", {"instance": "worker-1"}),
    Told("TaskBacklogGrowing", "warning", "no worker is left", {"instance": "backend"}),
    Told("PostgresConnectionHigh", "warning", "most connections are taken"),
    Told("RedisMemoryHigh", "warning", "its limit is lowered to what it uses"),
    Told(
        "TargetRestarting",
        "warning",
        "an exporter is killed and started again",
        {"service": "host"},
    ),
    Told("ServiceDown", "warning", "an exporter is killed", {"service": "host"}),
    Told("ServiceDown", "critical", "Redis is killed, its exporter answers", {"service": "redis"}),
    Told("JobAbsent", "critical", "Redis is no longer scraped", {"service": "redis"}),
    Told("JobAbsent", "warning", "Alertmanager is no longer scraped", {"service": "alertmanager"}),
    Told("DiskNearlyFull", "warning", "a home of 1 GiB", {"instance": "second", "place": "home"}),
    Told(
        "DiskNearlyFull", "critical", "blobs have 1 MiB", {"instance": "second", "place": "blobs"}
    ),
    Told("HighRequestErrors", "warning", "uploads that no disk holds", {"instance": "second"}),
    Told(
        "CertificateExpiresSoon", "warning", "a certificate for five days", {"instance": "second"}
    ),
    Told("MixnodeUnhealthy", "critical", "the authority is frozen", {"instance": "tight-middle"}),
    Told("DirectoryStale", "warning", "the authority is frozen", {"instance": "tight-middle"}),
    Told("DirectoryStale", "critical", "the authority is frozen", {"instance": "tight-middle"}),
    Told("DirectoryStale", "critical", "the authority is frozen", {"instance": "second"}),
    Told("NoPath", "critical", "the authority is frozen", {"instance": "second"}),
    Told(
        "BackendPartDown",
        "critical",
        "the net of a backend is gone",
        {"instance": "second", "part": "betanet"},
    ),
    Told(
        "AuthorityNotSigning",
        "critical",
        "the authority waits for nodes that do not come",
        {"instance": "lonely-authority"},
    ),
    Told("PacketKeyStale", "warning", "the folder of a node is gone", {"instance": "calm-exit"}),
    Told("CircuitFailures", "warning", "the middle nodes are frozen while there are tasks"),
    Told("DeliveryBudgetBurnFast", "critical", "the middle nodes are frozen while there are tasks"),
    Told("DeliveryBudgetBurnSlow", "warning", "the middle nodes are frozen while there are tasks"),
    Told("CertificateExpiresSoon", "critical", "a certificate for one day", {"instance": "second"}),
)
"""How each rule is provoked, in the order in which it is waited for."""


def told_of(alert: str, severity: str, **labels: str) -> Told:
    """What has to be heard of a rule, and of one that has these labels."""
    return next(
        told
        for told in EVERY
        if told.rule == (alert, severity) and labels.items() <= told.labels.items()
    )
