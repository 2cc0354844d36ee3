"""The configurations of Alloy, Loki and Grafana's provisioning hold together.

None of the three servers runs here: these are looks at the files' own grammar, at names that they
must share, and at keys that the oldest and the newest version both know.
"""

from __future__ import annotations

import json
import re
import string
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring.grafana.queries import FOLDER
from tests.unit.monitoring.alloy import Block, parse

MONITORING = Path(__file__).resolve().parents[3] / "monitoring"
ALLOY = MONITORING / "alloy"
BOTH = [
    block for name in ("config", "otlp") for block in parse((ALLOY / f"{name}.alloy").read_text())
]

COMPONENTS = {
    "discovery.docker": ["targets"],
    "discovery.relabel": ["output", "rules"],
    "loki.process": ["receiver"],
    "loki.source.docker": [],
    "loki.write": ["receiver"],
    "otelcol.exporter.otlphttp": ["input"],
    "otelcol.processor.batch": ["input"],
    "otelcol.processor.memory_limiter": ["input"],
    "otelcol.receiver.loki": ["receiver"],
}
"""The components that are used, and what each exports; all are generally available."""

REFERENCE = re.compile(r"(?<![\w.\"])((?:discovery|loki|otelcol)(?:\.\w+)+)")
STRINGS = re.compile(r'"(?:\\.|[^"\\])*"|`[^`]*`')


def the(name: str, label: str) -> Block:
    found = [block for block in BOTH if (block.name, block.label) == (name, label)]
    assert len(found) == 1, f"{name} {label}"
    return found[0]


def values_of(block: Block) -> list[str]:
    return [
        *block.attributes.values(),
        *(value for below in block.blocks for value in values_of(below)),
    ]


def loaded(name: str, **environment: str) -> Any:
    """A file of YAML, with variables filled in as Loki does it."""
    text = (MONITORING / name).read_text("utf-8")
    filled = re.sub(
        r"\$\{(\w+)(?::-([^}]*))?\}", lambda one: environment.get(one[1], one[2] or ""), text
    )
    return yaml.safe_load(filled)


def test_components_of_alloy_are_known_and_told_apart() -> None:
    names = [(block.name, block.label) for block in BOTH]

    assert {name for name, _ in names} == set(COMPONENTS)
    assert len(set(names)) == len(names)


def test_whatever_alloy_forwards_to_exists_and_takes_it() -> None:
    exported = {
        f"{block.name}.{block.label}.{field}" for block in BOTH for field in COMPONENTS[block.name]
    }
    used = {
        one
        for block in BOTH
        for value in values_of(block)
        for one in REFERENCE.findall(STRINGS.sub('""', value))
    }

    assert used <= exported
    idle = {name for name in exported if not name.endswith(".rules")} - used
    assert idle == set(), "nothing is forwarded to these"


def test_what_is_read_without_opting_in_needs_no_other_file() -> None:
    alone = parse((ALLOY / "config.alloy").read_text())

    assert {block.name for block in alone} == {
        "discovery.docker", "discovery.relabel", "loki.source.docker", "loki.process", "loki.write",
    }  # fmt: skip
    assert not any("otelcol" in value for block in alone for value in values_of(block))


def test_lines_cannot_make_streams() -> None:
    """INV-MON-22: the labels are three, and a line sets one of four values of one of them."""
    stages = the("loki.process", "lines").blocks
    names = [stage.name for stage in stages]
    kept = next(stage for stage in stages if stage.name == "stage.label_keep")
    labelled = [stage.attributes["values"] for stage in stages if stage.name == "stage.labels"]
    template = next(stage for stage in stages if stage.name == "stage.template").attributes

    assert json.loads(kept.attributes["values"]) == ["service", "node", "level"]
    assert labelled == ['{ level = "" }']
    assert names.index("stage.template") < names.index("stage.labels")
    assert names.index("stage.labels") < names.index("stage.label_keep")
    written = set(re.findall(r"\}\}(\w+)\{\{", template["template"]))
    assert (template["source"], written) == ('"level"', {"error", "warn", "debug", "info"})


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("level=warn ts=1 caller=a.go:1 msg=x", "warn"),
        ("ts=1 caller=a.go:1 level=error msg=x", "error"),
        ('{"level": "INFO", "message": "a.b", "words": "x level=error"}', None),
        ("1:M 27 Nov 2026 sublevel=error", None),
        ("ready to accept connections", None),
    ],
)
def test_a_level_is_read_from_lines_that_are_no_json(line: str, level: str | None) -> None:
    stages = the("loki.process", "lines").blocks
    regex = next(stage for stage in stages if stage.name == "stage.regex").attributes["expression"]

    found = re.search(json.loads(regex), line)

    assert (found["level"] if found else None) == level


@pytest.mark.parametrize(
    ("container", "number", "service", "node"),
    [
        ("backend", 1, "fog-backend", "backend"),
        ("worker", 3, "fog-worker", "worker-3"),
        ("worker", 12, "fog-worker", "worker-12"),
        ("betanet-mixnode-2", 1, "betanet-mixnodes", "betanet-mixnode-2"),
        ("betanet-authority", 1, "betanet-authority", "betanet-authority"),
        ("postgres", 1, "postgres", "postgres"),
    ],
)
def test_a_container_is_named_as_prometheus_names_it(
    container: str, number: int, service: str, node: str
) -> None:
    """The rules of relabelling, as Prometheus and Alloy define them, on a container's labels."""
    prefix = "__meta_docker_container_label_com_docker_compose_"
    labels = {f"{prefix}service": container, f"{prefix}container_number": str(number)}
    for rule in the("discovery.relabel", "containers").all("rule"):
        names = json.loads(re.sub(r", \]", "]", rule.attributes["source_labels"]))
        value = ";".join(labels.get(name, "") for name in names)
        pattern = json.loads(rule.attributes.get("regex", '"(.*)"'))
        replacement = json.loads(rule.attributes.get("replacement", '"$1"'))
        if found := re.fullmatch(pattern, value):
            target = json.loads(rule.attributes["target_label"])
            labels[target] = re.sub(r"\$(\d)", lambda one: found[int(one[1])], replacement)

    assert (labels["service"], labels["node"]) == (service, node)


def test_debug_lines_are_dropped_before_they_are_sent() -> None:
    for label in ("lines", "forwarded"):
        drops = the("loki.process", label).all("stage.drop")

        assert [drop.attributes["source"] for drop in drops] == ['"level"']
        assert "debug" in drops[0].attributes["expression"]


@pytest.mark.parametrize(
    "broken",
    [
        'a "b" {',
        'a "b" { c = }',
        "a { b = [1 }",
        "a { b = 1\n b = 2 }",
        "} a {",
        "a b {}",
        "a { ; }",
    ],
)
def test_what_alloy_would_refuse_is_refused(broken: str) -> None:
    with pytest.raises(ValueError, match=r"line|file"):
        parse(broken)


def test_loki_keeps_lines_as_long_as_prometheus_keeps_its_data() -> None:
    kept = loaded("loki/loki.yml", PROMETHEUS_RETENTION_DAYS="7")

    assert kept["limits_config"]["retention_period"] == "7d"
    assert loaded("loki/loki.yml")["limits_config"]["retention_period"] == "30d"
    assert kept["compactor"]["retention_enabled"] is True
    assert kept["compactor"]["delete_request_store"] == "filesystem"
    assert kept["schema_config"]["configs"][0]["index"]["period"] == "24h"


def test_loki_is_read_by_2_9_and_by_3() -> None:
    config = loaded("loki/loki.yml")

    schema = config["schema_config"]["configs"]
    assert [(one["store"], one["schema"]) for one in schema] == [("tsdb", "v13")]
    assert isinstance(schema[0]["from"], str), "a bare date is no text in YAML"
    gone_in_3 = {"shared_store", "boltdb_shipper", "enforce_metric_name", "max_look_back_period"}
    new_in_3 = {"bloom_build", "pattern_ingester", "discover_service_name", "discover_log_levels"}
    assert not (gone_in_3 | new_in_3) & set(re.findall(r"\w+", json.dumps(config)))
    assert config["limits_config"]["allow_structured_metadata"] is True


def test_loki_is_alone_and_tells_nobody() -> None:
    config = loaded("loki/loki.yml")

    assert config["server"]["http_listen_address"] == "127.0.0.1"
    assert config["server"]["http_listen_port"] == 3100
    assert config["analytics"]["reporting_enabled"] is False
    assert config["common"]["ring"]["kvstore"]["store"] == "inmemory"
    assert config["limits_config"]["max_global_streams_per_user"] <= 500


def test_alloy_sends_where_loki_listens() -> None:
    url = the("loki.write", "loki").all("endpoint")[0].attributes["url"]

    assert "http://loki:3100" in url
    assert "/loki/api/v1/push" in url


def test_data_sources_are_those_that_dashboards_begin_with() -> None:
    sources = loaded("grafana/provisioning/datasources/datasources.yml")["datasources"]
    there = {source["uid"]: source["type"] for source in sources}
    wanted = {
        (variable["current"]["value"], variable["query"])
        for path in FOLDER.glob("*.json")
        for variable in json.loads(path.read_text("utf-8"))["templating"]["list"]
        if variable["type"] == "datasource"
    }

    assert wanted <= set(there.items())
    assert [source["name"] for source in sources] == [source["uid"] for source in sources]
    assert set(there.values()) == {"prometheus", "loki", "alertmanager"}
    assert [source["editable"] for source in sources] == [False] * len(sources)
    assert sum(source.get("isDefault", False) for source in sources) == 1
    prometheus = next(source for source in sources if source["type"] == "prometheus")
    assert there[prometheus["jsonData"]["alertmanagerUid"]] == "alertmanager"


def test_dashboards_are_shown_as_their_files_are() -> None:
    (provider,) = loaded("grafana/provisioning/dashboards/dashboards.yml")["providers"]

    assert provider["allowUiUpdates"] is False
    assert provider["disableDeletion"] is True
    assert set(provider["folderUid"]) <= {*string.ascii_lowercase, "-"}
    assert provider["options"]["path"] == "/etc/grafana/dashboards"


def test_compose_gives_each_of_them_its_files_and_variables() -> None:
    services = yaml.safe_load((MONITORING.parent / "docker-compose.yml").read_text("utf-8"))[
        "services"
    ]
    mounted = {
        name: [str(one).removesuffix(":ro") for one in services[name]["volumes"]]
        for name in ("grafana", "loki", "alloy")
    }
    (provider,) = loaded("grafana/provisioning/dashboards/dashboards.yml")["providers"]
    read_by_loki = re.findall(r"\$\{(\w+)", (MONITORING / "loki/loki.yml").read_text("utf-8"))
    read_by_alloy = [
        name for block in BOTH for value in values_of(block)
        for name in re.findall(r'sys\.env \( "(\w+)" \)', value)
    ]  # fmt: skip

    assert f"./monitoring/grafana/dashboards:{provider['options']['path']}" in mounted["grafana"]
    assert "./monitoring/grafana/provisioning:/etc/grafana/provisioning" in mounted["grafana"]
    assert "./monitoring/loki/loki.yml:/etc/loki/loki.yml" in mounted["loki"]
    assert "./monitoring/alloy:/etc/alloy" in mounted["alloy"]
    assert set(read_by_loki) == set(services["loki"]["environment"])
    assert "-config.expand-env=true" in services["loki"]["command"]
    assert set(read_by_alloy) == set(services["alloy"]["environment"])
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (FOLDER / Path(home).name).is_file()


def test_compose_lets_grafana_speak_to_nobody_outside() -> None:
    services = yaml.safe_load((MONITORING.parent / "docker-compose.yml").read_text("utf-8"))[
        "services"
    ]
    said = services["grafana"]["environment"]

    for name in (
        "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES",
        "GF_ANALYTICS_CHECK_FOR_UPDATES",
        "GF_ANALYTICS_REPORTING_ENABLED",
        "GF_AUTH_ANONYMOUS_ENABLED",
        "GF_NEWS_NEWS_FEED_ENABLED",
        "GF_SNAPSHOTS_EXTERNAL_ENABLED",
    ):
        assert said[name] == "false", name
    assert said["GF_SECURITY_DISABLE_GRAVATAR"] == "true"
    assert "--disable-reporting" in services["alloy"]["command"]
