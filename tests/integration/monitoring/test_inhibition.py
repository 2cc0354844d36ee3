"""What follows from another alert is kept back by Alertmanager, and nothing else is."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Final

from tests.integration.fogs import until
from tests.integration.monitoring.programs import get
from tests.integration.monitoring.prometheus import Alertmanager

CONFIG: Final = Path(__file__).resolve().parents[3] / "monitoring/alertmanager/alertmanager.yml"

DOWN: Final = {"network": "betanet", "service": "betanet-mixnodes", "instance": "entry-0"}
UP: Final = DOWN | {"instance": "entry-1"}
LOKI: Final = {"network": "monitoring", "service": "loki", "instance": "loki"}
BACKEND: Final = {"network": "fog-network", "service": "fog-backend", "instance": "backend"}
FOG: Final = {"network": "fog-network", "service": "fog-backend"}

TOLD: Final = (
    ("ServiceDown", "critical", DOWN),
    ("MixnodeUnhealthy", "critical", DOWN),
    ("QueueNearFull", "warning", UP),
    ("ServiceDown", "warning", LOKI),
    ("DirectoryStale", "critical", BACKEND),
    ("DiskNearlyFull", "warning", BACKEND | {"place": "blobs"}),
    ("DeliveryBudgetBurnFast", "critical", FOG),
    ("TaskBacklogGrowing", "warning", BACKEND),
)
KEPT_BACK: Final = (
    ("QueueNearFull", "warning", DOWN),
    ("ExactMetricsInUse", "info", DOWN),
    ("TargetRestarting", "warning", LOKI),
    ("DirectoryStale", "warning", BACKEND),
    ("DeliveryBudgetBurnSlow", "warning", FOG),
)


def test_what_follows_from_another_alert_is_kept_back(tmp_path: Path) -> None:
    """INV-MON-19."""
    alerts = [
        {"labels": {"alertname": name, "severity": severity, **labels}}
        for name, severity, labels in (*TOLD, *KEPT_BACK)
    ]
    with Alertmanager(CONFIG, tmp_path) as alertmanager:
        address = f"{alertmanager.url}/api/v2/alerts"
        sent = urllib.request.Request(
            address, json.dumps(alerts).encode(), {"content-type": "application/json"}
        )
        urllib.request.urlopen(sent).close()

        def states() -> dict[str, set[str]]:
            found: dict[str, set[str]] = {}
            for each in json.loads(get(address)):
                found.setdefault(each["status"]["state"], set()).add(text(each["labels"]))
            return found

        wanted = {
            "active": {text(each["labels"]) for each in alerts[: len(TOLD)]},
            "suppressed": {text(each["labels"]) for each in alerts[len(TOLD) :]},
        }
        until(lambda: states() == wanted, 20, lambda: str(states()))


def text(labels: dict[str, str]) -> str:
    return json.dumps(labels, sort_keys=True)
