"""The alerts: accepted by Prometheus, tried on made-up series, told with what to do."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from fog_compute.cli.monitoring.config import RUNBOOKS
from fog_compute.cli.monitoring.targets import NETWORKS
from tests.unit.monitoring.promql import selected
from tests.unit.monitoring.rule_files import (
    LISTS,
    PROMETHEUS,
    RULES,
    TESTS,
    Answers,
    Mixed,
    alerts,
    exported,
    known,
    rules,
    series_of,
)

ALERTMANAGER = PROMETHEUS.parent / "alertmanager" / "alertmanager.yml"
PAGES = PROMETHEUS.parents[1] / "docs" / "runbooks"
PARTS = [
    "What it means", "How to see it", "Likely causes", "What to do",
    "How to see that it is over", "When it lies",
]  # fmt: skip
KEY = "/run/fog/metrics.key"
NEWER = {"fallback_scrape_protocol", "metric_name_validation_scheme", "otlp", "scrape_protocols"}
"""Keys that Prometheus has only since its third major, or shortly before."""


def run(tool: str, *words: str | Path) -> None:
    """Run a program of the monitoring; skip where it is missing."""
    beside = Path(sys.executable).with_name(tool)
    program = str(beside) if beside.exists() else shutil.which(tool)
    if program is None:
        pytest.skip(f"{tool} is not installed (make monitoring-tools)")
    done = subprocess.run(
        [program, *words], capture_output=True, check=False, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def kebab(name: str) -> str:
    """CamelCase as the pages are called."""
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name)[1:]


def keys(value: Any) -> set[str]:
    """All keys of a document, at any depth."""
    if isinstance(value, dict):
        return {str(key) for key in value}.union(*map(keys, value.values()))
    if isinstance(value, list):
        return set().union(*map(keys, value))
    return set()


@pytest.mark.parametrize("variant", ["alone", "betanet", "betanet-full"])
def test_prometheus_accepts_its_configuration(variant: str, tmp_path: Path) -> None:
    """INV-MON-14."""
    text = (PROMETHEUS / "prometheus.yml").read_text("utf-8")
    (tmp_path / "key").write_text("a key")
    assert KEY in text
    (tmp_path / "prometheus.yml").write_text(text.replace(KEY, str(tmp_path / "key")))
    shutil.copytree(PROMETHEUS / "rules", tmp_path / "rules")
    shutil.copytree(PROMETHEUS / "targets" / variant, tmp_path / "targets")

    run("promtool", "check", "config", tmp_path / "prometheus.yml")

    assert keys(yaml.safe_load(text)) & NEWER == set()


def test_rules_are_accepted_each_for_itself() -> None:
    run("promtool", "check", "rules", *RULES, *LISTS)


@pytest.mark.parametrize("path", TESTS, ids=[path.stem for path in TESTS])
def test_alerts_fire_and_end_as_their_tests_say(path: Path) -> None:
    """INV-MON-10, INV-MON-12."""
    run("promtool", "test", "rules", path)


def test_alertmanager_accepts_its_configuration_with_and_without_a_webhook(tmp_path: Path) -> None:
    """INV-MON-14."""
    run("amtool", "check-config", ALERTMANAGER)

    hooked = tmp_path / "alertmanager.yml"
    text = ALERTMANAGER.read_text("utf-8")
    hooked.write_text(
        f"{text}    webhook_configs:\n      - url: 'http://127.0.0.1:9/hook'\n"
        "        send_resolved: true\n"
    )
    run("amtool", "check-config", hooked)
    receivers = yaml.safe_load(hooked.read_text("utf-8"))["receivers"]
    assert [list(receiver) for receiver in receivers] == [["name", "webhook_configs"]]


def test_alerts_of_containers_and_of_a_fog_lead_to_the_same_pages() -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text("utf-8"))

    assert config["global"]["external_labels"] == {"runbooks": RUNBOOKS}
    assert RUNBOOKS.endswith(f"/{PAGES.relative_to(PROMETHEUS.parents[1])}")


def test_jobs_of_containers_and_of_a_fog_are_in_the_same_networks() -> None:
    expected = {
        rule["labels"]["service"]: rule["labels"]["network"]
        for path in LISTS
        for group in yaml.safe_load(path.read_text("utf-8"))["groups"]
        for rule in group["rules"]
    }

    assert NETWORKS.items() <= expected.items()


def test_every_target_says_what_and_where_it_is() -> None:
    """INV-MON-14."""
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text("utf-8"))
    known = {}
    for job in config["scrape_configs"]:
        set_for_all = {each["target_label"] for each in job.get("relabel_configs", [])}
        groups = list(job.get("static_configs", []))
        for each in job.get("file_sd_configs", []):
            for name in each["files"]:
                for path in sorted((PROMETHEUS / "targets").glob(f"*/{Path(name).name}")):
                    groups += yaml.safe_load(path.read_text("utf-8"))
        assert groups != [], job["job_name"]
        for group in groups:
            assert {"service", "network", "instance"} <= set_for_all | set(group["labels"])
            assert group["labels"].get("service", job["job_name"]) == job["job_name"]
        known[job["job_name"]] = groups

    for path in LISTS:
        expected = {
            rule["labels"]["service"]
            for group in yaml.safe_load(path.read_text("utf-8"))["groups"]
            for rule in group["rules"]
        }
        absent = set(known) - expected
        assert expected <= set(known)
        assert absent == (
            {"betanet-mixnodes", "betanet-authority", "fog-worker"}
            if path.parent.name == "alone"
            else set()
        )


def test_every_alert_says_what_it_is_and_what_to_do() -> None:
    """INV-MON-11."""
    for alert in alerts():
        assert alert.labels.keys() == {"severity"}, alert.name
        assert alert.labels["severity"] in {"critical", "warning", "info"}
        assert alert.annotations.keys() == {"summary", "description", "runbook_url"}, alert.name
        base, page = alert.annotations["runbook_url"].rsplit("/", 1)
        assert base == "{{ $externalLabels.runbooks }}"
        assert page == f"{kebab(alert.name)}.md"


def test_pages_and_alerts_are_each_others() -> None:
    """INV-MON-11."""
    index = (PAGES / "README.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| \[(\w+)\]\(([a-z-]+\.md)\) \|", index, re.MULTILINE))
    names = {alert.name for alert in alerts()}
    severities = defaultdict(set)
    for alert in alerts():
        severities[alert.name].add(alert.labels["severity"])

    assert rows == {name: f"{kebab(name)}.md" for name in names}
    assert {path.name for path in PAGES.glob("*.md")} == {*rows.values(), "README.md"}
    for name, page in rows.items():
        text = (PAGES / page).read_text("utf-8")
        assert text.startswith(f"# {name}\n")
        assert re.findall(r"^## (.*)$", text, re.MULTILINE) == PARTS, page
        head, row = text.split("##")[0].lower(), index.split(f"({page}) | ")[1].split(" |")[0]
        assert set(row.split(", ")) == severities[name]
        assert all(severity in head for severity in severities[name]), page


def test_pages_ask_for_what_is_exported() -> None:
    """INV-MON-11."""
    answers = Answers(known())
    asked = [
        line
        for path in PAGES.glob("*.md")
        for block in re.findall(
            r"^```promql\n(.*?)^```", path.read_text("utf-8"), re.MULTILINE | re.DOTALL
        )
        for line in block.splitlines()
    ]

    assert len(asked) > len(PARTS)
    for line in asked:
        assert answers.labels(line) is not None, line


def test_every_alert_is_seen_not_yet_firing_and_over() -> None:
    """INV-MON-12."""
    seen: dict[tuple[str, str], set[str]] = defaultdict(set)
    for path in TESTS:
        for test in yaml.safe_load(path.read_text("utf-8"))["tests"]:
            fired: dict[str, set[str]] = defaultdict(set)
            quiet: set[str] = set()
            for check in test["alert_rule_test"]:
                name = check["alertname"]
                severities = {each["exp_labels"]["severity"] for each in check["exp_alerts"]}
                if not severities and not fired[name]:
                    quiet.add(name)
                for severity in fired[name] - severities:
                    seen[name, severity].add("over")
                if name in quiet:
                    fired[name] |= severities
    found = {(alert.name, alert.labels["severity"]) for alert in alerts()}

    assert set(seen) == found


def test_rules_ask_for_what_is_exported_and_relate_only_what_meets() -> None:
    """INV-MON-13."""
    answers = Answers(known())

    for alert in alerts():
        assert {"network", "service"} <= (answers.labels(alert.expr) or set()), alert.name


def test_rules_ask_for_values_that_labels_can_have() -> None:
    """INV-MON-13."""
    values = exported()
    checked = 0
    for rule in rules():
        for metric, labels, _ in selected(rule.expr):
            for label, asked in labels:
                listed = values.get(metric, {}).get(label, "")
                if re.fullmatch(r"\w+(, \w+)+", listed):
                    assert set(asked.split("|")) <= set(listed.split(", ")), (rule.name, asked)
                    checked += 1

    assert checked > 0


def test_alerts_are_tried_on_series_as_they_are_exported() -> None:
    """INV-MON-12."""
    labels_of = known()
    for path in TESTS:
        for test in yaml.safe_load(path.read_text("utf-8"))["tests"]:
            for each in test["input_series"]:
                name, labels = series_of(each["series"])
                assert set(labels) - {"role"} == labels_of[name], each["series"]
                assert ("role" in labels) == (labels["service"] == "betanet-mixnodes")


def test_sides_with_different_labels_are_told() -> None:
    answers = Answers(
        {"dropped": frozenset({"instance", "reason"}), "all": frozenset({"instance"})}
    )

    with pytest.raises(Mixed, match="reason"):
        answers.labels("rate(dropped[5m]) / rate(all[5m]) > 0.1")
    with pytest.raises(KeyError, match="direction"):
        answers.labels('sum by (instance) (dropped{direction="in"})')
    with pytest.raises(KeyError, match="reason"):
        answers.labels("sum by (reason) (all)")
    with pytest.raises(KeyError, match="other"):
        answers.labels("sum(other)")
    with pytest.raises(KeyError, match="reason"):
        answers.labels("dropped and on (reason) all")
    by = "sum by (instance) (rate({}[5m]))".format
    assert answers.labels(f"{by('dropped')} / {by('all')} > 0.1") == frozenset({"instance"})
    assert answers.labels("time() - all < 5") == frozenset({"instance"})
