"""What Prometheus of the tests is told: the repository's own configuration, in a hurry."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from tests.unit.monitoring.rule_files import PROMETHEUS, RULES

SCRAPE: Final = "1s"
FOR: Final = "1s"
"""How long a condition holds before its alert fires; the ranges of the rules stay as they are."""

PATIENT: Final[Mapping[str, str]] = {"ServiceDown": "8s"}
"""Where that is longer: a busy machine may miss a scrape or two, which are every second here."""

NOT_HERE: Final = frozenset({"grafana", "loki", "alloy"})
"""Jobs whose servers no package of Debian has."""

SECOND: Final = "fog-backend-second"
"""The job of a backend that has TLS and a key of its own; its service is that of the first one."""

NEARER: Final[Mapping[tuple[str, str], tuple[str, str]]] = {
    ("DirectoryStale", "warning"): ("> 120", "> 2"),
    ("TaskBacklogGrowing", "warning"): ("> 300", "> 2"),
}
"""What an alert waits for by itself, beside its ``for``, by its name and severity: seconds that
nobody here has to wait."""


_STEP: Final = re.compile(r"(\[\w+):\w+\]")


@dataclass(frozen=True, slots=True)
class Scraped:
    """One that Prometheus scrapes.

    Attributes:
        job: as the configuration names it.
        instance: its name among those of the job.
        address: where it answers, as ``host:port``.
        labels: what else its file of targets knows of it.
    """

    job: str
    instance: str
    address: str
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its job and its own name."""
        return f"{self.job}/{self.instance}"


def looked_at_often(expression: str) -> str:
    """An expression whose subqueries look at every second, not at every full minute."""
    return _STEP.sub(rf"\1:{SCRAPE}]", expression)


def load(path: Path) -> Any:  # whatever it says
    """What a YAML file says."""
    return yaml.safe_load(path.read_text("utf-8"))


def hurried(document: dict[str, Any]) -> dict[str, Any]:
    """Rules whose alerts fire as soon as their condition has held for a moment."""
    for group in document["groups"]:
        group.pop("interval", None)
        for rule in group["rules"]:
            rule["expr"] = looked_at_often(rule["expr"])
            if "for" in rule:
                rule["for"] = PATIENT.get(rule["alert"], FOR)
            key = rule.get("alert", ""), rule.get("labels", {}).get("severity", "")
            if key in NEARER:
                far, near = NEARER[key]
                assert rule["expr"].count(far) == 1, f"{key} waits for something else by now"
                rule["expr"] = rule["expr"].replace(far, near)
    return document


def write(folder: Path, name: str, document: object) -> Path:
    """Write a document as JSON, which is YAML, too."""
    path = folder / name
    path.write_text(json.dumps(document), "utf-8")
    return path


def write_rules(folder: Path) -> list[Path]:
    """All rules of the repository, in a hurry, and what must be there without what is not here."""
    folder.mkdir()
    made = [write(folder, path.name, hurried(load(path))) for path in RULES]
    expected = hurried(load(PROMETHEUS / "targets" / "betanet" / "expected.yml"))
    for group in expected["groups"]:
        group["rules"] = [one for one in group["rules"] if one["labels"]["service"] not in NOT_HERE]
    return [*made, write(folder, "expected.yml", expected)]


def prometheus_config(
    targets: Targets, rules: Sequence[Path], alertmanager: str, keys: Mapping[str, Path]
) -> dict[str, Any]:
    """The repository's configuration, with other targets, each job's from a file.

    Args:
        targets: write those files.
        rules: instead of the repository's.
        alertmanager: its address.
        keys: the files of the keys of jobs that need one.
    """
    config: dict[str, Any] = load(PROMETHEUS / "prometheus.yml")
    pace = {"scrape_interval": SCRAPE, "scrape_timeout": SCRAPE, "evaluation_interval": SCRAPE}
    config["global"].update(pace)
    config["rule_files"] = list(map(str, rules))
    config["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [alertmanager]}]}]
    jobs = [job for job in config["scrape_configs"] if job["job_name"] not in NOT_HERE]
    for job in jobs:
        for static in job.pop("static_configs", []):
            targets.labels[job["job_name"]] = static["labels"]
    first = next(job for job in jobs if job["job_name"] == "fog-backend")
    second = {**copy.deepcopy(first), "job_name": SECOND, "scheme": "https"}
    second["tls_config"] = {"insecure_skip_verify": True}  # it is for its age that it is looked at
    targets.labels[SECOND] = targets.labels["fog-backend"]
    config["scrape_configs"] = [*jobs, second]
    for job in config["scrape_configs"]:
        name = job["job_name"]
        job["file_sd_configs"] = [{"files": [str(targets.path(name))]}]
        if name in keys:
            job["authorization"]["credentials_file"] = str(keys[name])
    return config


def alertmanager_config(webhook: str) -> dict[str, Any]:
    """Everything at once to one webhook, each alert by itself, whatever else fires."""
    return {
        "route": {
            "receiver": "test",
            "group_by": ["..."],
            "group_wait": "0s",
            "group_interval": "1s",
            "repeat_interval": "1h",
        },
        "receivers": [{"name": "test", "webhook_configs": [{"url": webhook}]}],
    }


class Targets:
    """The files in which Prometheus finds whom it scrapes; it looks at them by itself.

    Attributes:
        labels: what the configuration says of a job's targets itself.
    """

    def __init__(self, folder: Path) -> None:
        """Know none yet."""
        self.labels: Final[dict[str, Mapping[str, str]]] = {}
        self._folder: Final = folder
        self._now: Final[dict[str, Scraped]] = {}
        folder.mkdir()

    def path(self, job: str) -> Path:
        """The file of a job."""
        return self._folder / f"{job}.json"

    def add(self, *scraped: Scraped) -> None:
        """Let them be scraped."""
        for one in scraped:
            self._now[one.name] = one
        for job in {one.job for one in scraped}:
            self._write(job)

    def remove(self, job: str) -> None:
        """Forget all of a job."""
        for name in [name for name, one in self._now.items() if one.job == job]:
            del self._now[name]
        self._write(job)

    def names(self) -> set[str]:
        """All of them, as `Scraped.name` has it."""
        return set(self._now)

    def _write(self, job: str) -> None:
        entries = [
            {
                "targets": [one.address],
                "labels": {**self.labels.get(job, {}), **one.labels, "instance": one.instance},
            }
            for one in self._now.values()
            if one.job == job
        ]
        write(self._folder, f"{job}.new", entries).rename(self.path(job))
