"""The compose files: what they make of a machine, judged by what Compose itself reads in them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.compose.merged import BETANET, MAIN, OURS, ROOT, SECRETS, compose, merged

PROMETHEUS: Final = ROOT / "monitoring" / "prometheus"
MOST_MEMORY: Final = 4 * 1024**3
MOST_CPUS: Final = 1  # a limit above what a machine has is refused by the engine
_PINNED: Final = re.compile(r"v?\d+\.\d+(\.\d+)?(-[a-z]+)?")

Service = dict[str, Any]


def jobs_of(variant: str) -> dict[str, list[dict[str, Any]]]:
    """Whom Prometheus asks, by its jobs, with one of the folders of targets."""
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    jobs: dict[str, list[dict[str, Any]]] = {}
    for job in config["scrape_configs"]:
        groups = jobs[job["job_name"]] = list(job.get("static_configs", ()))
        for found in job.get("file_sd_configs", ()):
            (name,) = found["files"]
            folder, _, file = name.partition("/")
            groups += yaml.safe_load((PROMETHEUS / folder / variant / file).read_text())
    return jobs


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return merged()


@pytest.fixture(scope="module")
def services(project: dict[str, Any]) -> dict[str, Service]:
    return dict(project["services"])


@pytest.mark.parametrize("profiles", ["", "*"])
@pytest.mark.parametrize("files", [[MAIN], [BETANET], [MAIN, BETANET]])
def test_each_file_is_valid_alone_and_with_the_other(files: list[str], profiles: str) -> None:
    done = compose(files, "config", "--quiet", profiles=profiles, **SECRETS)

    assert (done.returncode, done.stderr) == (0, "")


def test_there_is_one_of_everything_that_watches(services: dict[str, Service]) -> None:
    """INV-MON-07."""
    images = Counter(service["image"].split(":")[0] for service in services.values())

    for one in ("prom/prometheus", "grafana/grafana", "grafana/loki", "grafana/alloy"):
        assert images[one] == 1, one
    for name in merged([BETANET])["services"]:
        assert name.startswith("betanet-"), f"{name} is not of the mixnet"


def test_both_files_make_the_networks_themselves(project: dict[str, Any]) -> None:
    networks = project["networks"]

    assert {name: network["name"] for name, network in networks.items()} == {
        "betanet": "betanet",
        "fog-network": "fog-network",
        "monitoring": "fog-monitoring",
    }
    assert not any(network.get("external") for network in networks.values())
    (config,) = networks["betanet"]["ipam"]["config"]
    assert list(config.values()) == ["172.30.0.0/16"]


def test_the_mixnet_joins_a_monitoring_network_that_is_there() -> None:
    networks = merged([BETANET], FOG_MONITORING_EXTERNAL="true")["networks"]

    assert networks["monitoring"] == {"name": "fog-monitoring", "external": True, "ipam": {}}


def test_no_two_services_take_one_port_of_the_machine(services: dict[str, Service]) -> None:
    taken = Counter(
        (port["published"], port["protocol"])
        for service in services.values()
        for port in service.get("ports", ())
    )

    assert set(taken.values()) == {1}, taken


def test_ports_are_those_that_are_promised(services: dict[str, Service]) -> None:
    ports = {
        name: port["published"]
        for name, service in services.items()
        for port in service.get("ports", ())
    }

    assert ports == {
        "backend": "8000",
        "frontend": "3000",
        "grafana": "3001",
        "loki": "3100",
        "prometheus": "9090",
        "alertmanager": "9093",
        "betanet-authority": "9000",
        **{f"betanet-mixnode-{number}": f"900{number}" for number in range(1, 10)},
    }


@pytest.mark.parametrize("wanted", [None, "0.0.0.0"])
def test_nothing_but_panel_and_backend_is_ever_bound_outside_loopback(wanted: str | None) -> None:
    """INV-MON-07."""
    given = {} if wanted is None else {"FOG_PUBLISH_HOST": wanted}
    for name, service in merged(**given)["services"].items():
        for port in service.get("ports", ()):
            follows = name in {"backend", "frontend"}
            assert port["host_ip"] == (wanted or "127.0.0.1" if follows else "127.0.0.1"), name
        assert "network_mode" not in service, name


def test_every_service_is_bounded_watched_and_restarted(services: dict[str, Service]) -> None:
    for name, service in services.items():
        limits = service["deploy"]["resources"]["limits"]
        assert 0 < int(limits["memory"]) <= MOST_MEMORY, name
        assert 0 < limits["cpus"] <= MOST_CPUS, name
        assert 0 < limits["pids"] <= 1024, name
        assert service["restart"] == "unless-stopped", name
        assert service["init"], name
        check = service["healthcheck"]
        assert check["test"][0] == "CMD", f"{name}: no shell has to be there for it"
        assert check["retries"] > 1, name
        assert {"interval", "timeout", "start_period"} <= check.keys(), name
        options = service["logging"]["options"]
        assert {"max-size", "max-file"} <= options.keys(), f"{name}: its log fills the disk"


def test_every_service_has_the_least_rights(services: dict[str, Service]) -> None:
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert "cap_add" not in service, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service.get("privileged"), name
        assert re.fullmatch(r"\d+:\d+", service["user"]), name
        # Alloy alone is root, who owns the engine's socket, without a single capability.
        assert (service["user"].startswith("0:")) == (name == "alloy"), name
        for tmpfs in service.get("tmpfs", ()):
            assert "size=" in tmpfs, f"{name}: {tmpfs} may take all memory"
        for volume in service.get("volumes", ()):
            if volume["type"] == "bind":
                assert volume["read_only"], f"{name}: {volume['source']}"


def test_the_worker_sees_nothing_of_the_backend_but_the_keys_of_its_groups(
    services: dict[str, Service],
) -> None:
    own = {volume["source"] for volume in services["backend"]["volumes"]}
    seen = {volume["source"]: volume for volume in services["worker"]["volumes"]}

    assert own & seen.keys() == {"fog-home", "betanet-net"}
    assert all(seen[name]["read_only"] for name in ("fog-home", "betanet-net"))
    assert "fog-network" not in services["worker"]["networks"], "where the databases are"
    known = services["worker"].get("environment", {})
    assert not any("PASSWORD" in name or "URL" in name for name in known)


def test_keys_of_nodes_and_of_the_authority_are_each_their_own(
    services: dict[str, Service],
) -> None:
    owners = Counter(
        volume["source"]
        for name, service in services.items()
        if name.startswith("betanet-")
        for volume in service["volumes"]
        if volume["target"] == "/var/lib/betanet"
    )

    assert len(owners) == 10
    assert max(owners.values()) == 1
    for name, service in services.items():
        for volume in service.get("volumes", ()):
            if volume["source"] in {"betanet-net", "betanet-token"}:
                assert volume.get("read_only", False) == (name != "betanet-authority"), name


def test_images_are_pinned_and_ours_are_built_from_one_file_each(
    services: dict[str, Service],
) -> None:
    for name, service in services.items():
        repository, _, tag = service["image"].partition(":")
        if repository in OURS:
            assert service["build"]["dockerfile"] == OURS[repository], name
        else:
            assert _PINNED.fullmatch(tag), f"{name}: {service['image']}"
            assert "build" not in service, name


def test_the_first_designs_images_are_named_beside_those_that_replaced_them() -> None:
    text = (ROOT / MAIN).read_text()

    for image in ("prom/prometheus:v2.45.0", "grafana/grafana:10.1.0", "grafana/loki:2.9.0"):
        assert image in text


@pytest.mark.parametrize("missing", sorted(SECRETS))
@pytest.mark.parametrize("given", [None, ""])
def test_a_password_that_is_missing_or_empty_stops_the_start(
    missing: str, given: str | None
) -> None:
    secrets = {name: value for name, value in SECRETS.items() if name != missing}
    if given is not None:
        secrets[missing] = given

    done = compose([MAIN, BETANET], "config", "--quiet", **secrets)

    assert done.returncode != 0
    assert f"set {missing} in .env" in done.stderr


def test_no_password_has_a_default() -> None:
    """INV-MON-07."""
    texts = [(ROOT / name).read_text() for name in (MAIN, BETANET)]
    used = {match for text in texts for match in re.findall(r"\$\{(\w*PASSWORD\w*)([^}]*)", text)}

    assert {name for name, _ in used} == set(SECRETS)
    assert all(how.startswith(":?") for _, how in used)
    examples = (ROOT / ".env.example").read_text().splitlines()
    assert {f"{name}=" for name in SECRETS} <= set(examples), "and no example has one"


def test_retention_is_thirty_days_unless_it_is_said(services: dict[str, Service]) -> None:
    def kept(project: dict[str, Any]) -> str:
        (word,) = (one for one in project["prometheus"]["command"] if "retention.time" in one)
        return str(word.partition("=")[2])

    assert kept(services) == "30d"
    assert kept(merged(PROMETHEUS_RETENTION_DAYS="7")["services"]) == "7d"


def test_the_example_names_what_the_files_read_and_nothing_else() -> None:
    of_compose = {"COMPOSE_FILE", "COMPOSE_PROFILES"}
    texts = [(ROOT / name).read_text() for name in (MAIN, BETANET)]
    read = {name for text in texts for name in re.findall(r"(?<!\$)\$\{(\w+)", text)}
    lines = (ROOT / ".env.example").read_text().splitlines()
    named = [line.partition("=")[0] for line in lines if line and not line.startswith("#")]

    assert sorted(named) == sorted(read | of_compose)


def test_the_example_says_what_holds_without_it(services: dict[str, Service]) -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    pairs = (line.partition("=")[::2] for line in lines if line and not line.startswith("#"))
    example = {name: value for name, value in pairs if not name.startswith("COMPOSE_")}

    assert merged(**(example | SECRETS))["services"] == services


def test_a_level_of_seven_hops_has_its_nodes(services: dict[str, Service]) -> None:
    def roles(profile: str) -> Counter[str]:
        nodes = (s for n, s in services.items() if n.startswith("betanet-mixnode-"))
        return Counter(
            node["environment"]["NODE_TYPE"]
            for node in nodes
            if not node.get("profiles") or profile in node["profiles"]
        )

    assert roles("") == {"entry": 1, "middle": 1, "exit": 1}
    # An edge, five middles and an edge; and two edges more, so that one of each side may be away.
    assert roles("full") == {"entry": 2, "middle": 5, "exit": 2}


@pytest.mark.parametrize("targets", ["alone", "betanet", "betanet-full"])
def test_what_is_mounted_from_here_is_here(targets: str) -> None:
    for name, service in merged(FOG_TARGETS=targets)["services"].items():
        for volume in service.get("volumes", ()):
            source = Path(volume["source"])
            if volume["type"] == "bind" and source.is_relative_to(ROOT):
                assert source.exists(), f"{name}: the engine would make a folder of {source}"


@pytest.mark.parametrize(
    ("targets", "profiles", "files"),
    [
        ("alone", "", [MAIN]),
        ("betanet", "worker", [MAIN, BETANET]),
        ("betanet-full", "*", [MAIN, BETANET]),
    ],
)
def test_prometheus_asks_those_that_run_under_their_names(
    targets: str, profiles: str, files: list[str]
) -> None:
    jobs = jobs_of(targets)
    asked = {
        target.partition(":")[0]: group["labels"]
        for groups in jobs.values()
        for group in groups
        for target in group["targets"]
    }
    services = merged(files, profiles)["services"]
    roles = {
        name: service["environment"]["NODE_TYPE"]
        for name, service in services.items()
        if name.startswith("betanet-mixnode-")
    }

    seen_by_exporters = {"postgres", "redis"}
    assert asked.keys() - {"localhost"} == services.keys() - seen_by_exporters - {"prometheus"}
    assert {name: labels["role"] for name, labels in asked.items() if "role" in labels} == roles
    for name, labels in asked.items():
        network = services["prometheus" if name == "localhost" else name]["networks"]
        assert "monitoring" in network, name
        assert labels["instance"]


def test_prometheus_finds_the_key_where_the_backend_leaves_it(
    services: dict[str, Service],
) -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    (key,) = (
        job["authorization"]["credentials_file"]
        for job in config["scrape_configs"]
        if "authorization" in job
    )
    backend, prometheus = services["backend"], services["prometheus"]

    assert backend["environment"]["FOG_METRICS_KEY_FILE"] == key
    (shared,) = (v for v in prometheus["volumes"] if v["target"] == str(Path(key).parent))
    assert shared["read_only"]
    # Whoever is made first, the folder gets its owner from the backend's image.
    assert shared["volume"] == {"nocopy": True}
    assert prometheus["group_add"] == [backend["user"].partition(":")[2]]


@pytest.mark.parametrize("webhook", ["", "http://127.0.0.1:9/a'b?c=%d"])
def test_alertmanager_starts_with_and_without_a_webhook(
    services: dict[str, Service], tmp_path: Path, webhook: str
) -> None:
    program = shutil.which("amtool", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        pytest.skip("amtool is missing (Debian: prometheus-alertmanager)")
    shell, options, script = services["alertmanager"]["entrypoint"]
    script = script.replace("$$", "$").replace("/etc/", f"{ROOT}/monitoring/")
    script = script.replace("/run/alertmanager", str(tmp_path))
    script, started, _ = script.partition("exec ")
    assert started

    subprocess.run(
        [shell, options, f"{script} exec {program} check-config {tmp_path}/alertmanager.yml"],
        check=True,
        env={"PATH": os.defpath, "FOG_ALERT_WEBHOOK": webhook},
        timeout=30,
    )

    config = yaml.safe_load((tmp_path / "alertmanager.yml").read_text())
    told = [one["url"] for to in config["receivers"] for one in to.get("webhook_configs", ())]
    assert told == [webhook] * bool(webhook)
