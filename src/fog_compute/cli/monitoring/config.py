"""What Prometheus and Alertmanager are told, made from a fog's settings.

The files are JSON, which is YAML as well, so that nothing has to be quoted by hand. Paths below the
folder are relative to it, which is where Prometheus runs: joined to the folder they would be
patterns in which its name might mean something.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fog_compute.cli.monitoring.targets import BACKEND, NETWORKS
from fog_compute.text import escape_json

__all__ = [
    "EXPECTED",
    "RUNBOOKS",
    "BackendAccess",
    "alertmanager_settings",
    "expected_jobs",
    "prometheus_settings",
]

RUNBOOKS: Final = "https://github.com/fog-compute/fog-compute/blob/main/docs/runbooks"
EXPECTED: Final = "expected.yml"
SECONDS: Final = "15s"


@dataclass(frozen=True, slots=True)
class BackendAccess:
    """How Prometheus asks the backend.

    Attributes:
        key_file: holds the key.
        certificate: by which the backend proves itself, under TLS.
        name: a name that the certificate is for.
    """

    key_file: Path
    certificate: Path | None = None
    name: str = ""


def prometheus_settings(rules: Path, jobs: Iterable[str], access: BackendAccess) -> bytes:
    """The whole of ``prometheus.yml``, with a file of targets for each job."""
    return _document(
        {
            "global": {
                "scrape_interval": SECONDS,
                "evaluation_interval": SECONDS,
                "external_labels": {"runbooks": RUNBOOKS},
            },
            "rule_files": [f"{_literal(rules)}/*.yml", EXPECTED],
            "alerting": {
                # Where the pages of runbooks are is in their addresses already.
                "alert_relabel_configs": [{"action": "labeldrop", "regex": "runbooks"}],
                "alertmanagers": [{"file_sd_configs": _files("alertmanager")}],
            },
            "scrape_configs": [_job(job, access) for job in jobs],
        }
    )


def expected_jobs(jobs: Iterable[str]) -> bytes:
    """The rules that name the jobs which must be there: an absent one is an alert."""
    rules = [
        {
            "record": "fog_expected_job",
            "expr": "vector(1)",
            "labels": {"service": job, "network": NETWORKS[job]},
        }
        for job in jobs
    ]
    return _document({"groups": [{"name": "expected", "rules": rules}]})


def alertmanager_settings(common: str, webhook: str | None) -> bytes:
    """The whole of ``alertmanager.yml``: a webhook hears of alerts, or nobody does.

    ``common`` is the file of all variants, whose last lines are the receiver, without any way.
    """
    if webhook is None:
        return common.encode()
    url = _text(webhook)
    return f"{common.rstrip()}\n    webhook_configs:\n      - url: {url}\n".encode()


def _job(job: str, access: BackendAccess) -> dict[str, Any]:
    settings: dict[str, Any] = {"job_name": job, "file_sd_configs": _files(job)}
    if job == BACKEND:
        settings["authorization"] = {"credentials_file": str(access.key_file)}
        if access.certificate is not None:
            name = {"server_name": access.name} if access.name else {}
            settings["tls_config"] = {"ca_file": str(access.certificate), **name}
    return settings


def _files(job: str) -> list[dict[str, list[str]]]:
    return [{"files": [f"targets/{job}.json"]}]


def _literal(folder: Path) -> str:
    """A folder in a pattern of file names, in which Prometheus allows no star, escaped or not."""
    return re.sub(r"[\[\\?]", r"\\\g<0>", str(folder)).replace("*", "?")


def _text(value: object, indent: int | None = None) -> str:
    """A value as JSON that is YAML, too: in that, no character is two escapes."""
    return escape_json(json.dumps(value, indent=indent, ensure_ascii=False))


def _document(value: object) -> bytes:
    return (_text(value, 2) + "\n").encode()
