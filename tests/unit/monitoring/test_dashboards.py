"""INV-MON-21: the dashboards are made from code, laid out to be read, and ask what can be answered.

There is no Grafana here to load them: what its majors from 10.1 on are known to want is looked for.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

import pytest

from monitoring.grafana.boards.__main__ import texts
from monitoring.grafana.queries import FOLDER, queries
from tests.unit.monitoring.promql import selected

DASHBOARDS = {path.stem: json.loads(path.read_text("utf-8")) for path in FOLDER.glob("*.json")}
ASKED = queries()

SHAPES = {
    "bargauge", "logs", "stat", "state-timeline", "table", "timeseries",
}  # fmt: skip
"""Panels of every Grafana from 10.1 on; those of Angular went away."""

COARSE = 300
"""Seconds: mix nodes step their counters by 1,000, once a minute."""

STEPPING = re.compile(r"betanet_\w+_(total|bucket)|process_cpu_seconds_total")


def every_panel() -> list[tuple[str, dict[str, Any]]]:
    return [(name, panel) for name, made in DASHBOARDS.items() for panel in made["panels"]]


def test_files_are_what_the_code_makes() -> None:
    kept = {path.name: path.read_text("utf-8") for path in FOLDER.glob("*.json")}

    assert kept == texts(), "run `make dashboards`"


def test_dashboards_are_told_apart_and_lead_to_each_other() -> None:
    uids = [made["uid"] for made in DASHBOARDS.values()]

    assert len(set(uids)) == len(uids) == 5
    for made in DASHBOARDS.values():
        assert re.fullmatch(r"[a-z-]{8,40}", made["uid"])
        assert made["refresh"] == "30s"
        assert made["editable"] is False
        assert [link["type"] for link in made["links"]] == ["dashboards", "link"]
        assert set(made["links"][0]["tags"]) <= set(made["tags"])


@pytest.mark.parametrize("name", sorted(DASHBOARDS))
def test_a_dashboard_is_read_at_first_sight(name: str) -> None:
    panels = DASHBOARDS[name]["panels"]

    assert len(panels) <= 12
    for kind in ("id", "title"):
        assert max(Counter(panel[kind] for panel in panels).values()) == 1
    taken: Counter[tuple[int, int]] = Counter()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        taken.update(
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        )
    assert set(taken.values()) == {1}, "panels overlap"
    assert len(taken) == 24 * (1 + max(y for _, y in taken)), "a row has a hole"


@pytest.mark.parametrize(
    ("name", "panel"), every_panel(), ids=lambda value: str(value)[:40].replace("{", "")
)
def test_a_panel_says_what_it_shows(name: str, panel: dict[str, Any]) -> None:
    assert panel["type"] in SHAPES
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert len(panel["description"]) >= 40, panel["title"]
    assert panel["description"].endswith(".")
    assert panel["targets"]
    names = [target["refId"] for target in panel["targets"]]
    assert len(set(names)) == len(names)
    if panel["type"] == "stat":
        assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"][0]["value"] is None
    if len(names) > 1:
        assert all(target["legendFormat"] for target in panel["targets"]), panel["title"]


def test_data_come_from_sources_that_the_reader_chooses() -> None:
    for name, made in DASHBOARDS.items():
        sources = {one["name"]: one["query"] for one in made["templating"]["list"]
                   if one["type"] == "datasource"}  # fmt: skip
        asking = [one for one in made["templating"]["list"] if one["type"] == "query"]
        for part in [*made["panels"], *asking, *(t for p in made["panels"] for t in p["targets"])]:
            chosen = part["datasource"]
            assert chosen["uid"] in {f"${{{source}}}" for source in sources}, name
            assert sources[chosen["uid"][2:-1]] == chosen["type"], name


def test_links_to_logs_choose_by_variables_that_the_page_of_logs_has() -> None:
    there = {one["name"] for one in DASHBOARDS["logs"]["templating"]["list"]}
    links = [
        (panel, link["url"])
        for _, panel in every_panel()
        for link in panel["fieldConfig"]["defaults"].get("links", ())
    ]

    assert len(links) >= 5
    for panel, url in links:
        found = re.fullmatch(
            r"/d/fog-logs\?var-(\w+)=\$\{__field\.labels\.(\w+)\}&\$\{__url_time_range\}", url
        )
        assert found is not None
        assert found[1] in there
        assert any(f"{{{{{found[2]}}}}}" in t["legendFormat"] for t in panel["targets"])


def test_variables_are_used_and_those_that_are_used_exist() -> None:
    for name, made in DASHBOARDS.items():
        there = {one["name"] for one in made["templating"]["list"]}
        text = json.dumps(
            {**made, "templating": [one.get("query") for one in made["templating"]["list"]]}
        )
        used = {found[0] or found[1] for found in re.findall(r"\$\{(\w+)\}|\$(\w+)", text)}

        own = {one for one in used if not one.startswith("__")}
        assert own | {"datasource"} == there | {"datasource"}, name
        assert used - own <= {"__rate_interval", "__interval", "__range", "__url_time_range"}, name


def test_what_nodes_step_is_asked_over_five_minutes() -> None:
    short = [
        str(asked)
        for asked in ASKED
        for one in selected(asked.expr)
        if STEPPING.fullmatch(one.metric) and one.seconds is not None and one.seconds < COARSE
    ]
    told = [
        panel["title"]
        for _, panel in every_panel()
        if any(re.search(r"betanet_\w+_(total|bucket)", t["expr"]) for t in panel["targets"])
        and "5 minutes" not in panel["description"]
    ]

    assert short == []
    assert told == [], "panels that do not say that they lag"


def test_questions_that_look_far_back_are_asked_once() -> None:
    """A range query asks at each step; with thirty days at each, Prometheus would give up."""
    dear = [
        str(asked)
        for asked in queries(span="30d")
        for one in selected(asked.expr)
        if one.seconds is not None and one.seconds > 6 * 3600 and not asked.instant
    ]

    assert dear == []


def test_a_share_of_nothing_is_not_shown_as_no_number() -> None:
    bare = [
        panel["title"]
        for _, panel in every_panel()
        if panel["type"] == "stat"
        and any(" / sum" in t["expr"] or " / (sum" in t["expr"] for t in panel["targets"])
        and "null+nan" not in json.dumps(panel["fieldConfig"]["defaults"].get("mappings"))
    ]

    assert bare == []


def test_questions_have_no_variable_left() -> None:
    assert [str(asked) for asked in ASKED + queries(lines=True) if "$" in asked.expr] == []


def test_a_question_with_an_unknown_variable_is_an_error(tmp_path: Any) -> None:
    made = json.loads(json.dumps(DASHBOARDS["overview"]))
    made["panels"][0]["targets"][0]["expr"] = "up{instance=~'$nobody'}"
    (tmp_path / "one.json").write_text(json.dumps(made), "utf-8")

    with pytest.raises(KeyError, match="nobody"):
        queries(tmp_path)


def test_what_stands_in_for_nothing_can_be_left_out() -> None:
    stood_in = [one for one in ASKED if one.bare != one.expr]

    assert {one.bare.count("label_replace") for one in stood_in} == {0}
    assert len(stood_in) >= 6
    assert all(selected(one.bare) == selected(one.expr) for one in stood_in)


def test_a_choice_takes_the_place_of_all() -> None:
    exprs = [one.expr for one in queries(rate_interval="7s", chosen={"role": "exit"})]

    assert any("[7s]" in expr for expr in exprs)
    assert any('role=~"exit"' in expr and 'instance=~".*"' in expr for expr in exprs)
