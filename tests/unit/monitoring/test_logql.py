"""Every question to Loki is LogQL, by the grammar that Grafana's editor has.

There is no Loki here to answer it.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from monitoring.grafana.queries import queries

ROOT = Path(__file__).resolve().parents[3]
LOGQL = ROOT / "monitoring/logql"
BLOCK = re.compile(r"^```logql\n(.*?)^```", re.DOTALL | re.MULTILINE)
NODE = shutil.which("node")

needs_node = pytest.mark.skipif(
    NODE is None or not (LOGQL / "node_modules/@grafana/lezer-logql").is_dir(),
    reason="LogQL is not parsed: Node and npm are missing, or `make logql` was not run",
)


def parse(questions: list[tuple[str, str]]) -> subprocess.CompletedProcess[str]:
    assert NODE is not None
    return subprocess.run(
        [NODE, "check.mjs"],
        input=json.dumps(questions),
        capture_output=True,
        check=False,
        text=True,
        cwd=LOGQL,
        timeout=60,
    )


def of_pages() -> list[tuple[str, str]]:
    """Each line of the blocks of LogQL on the pages."""
    return [
        (str(page.relative_to(ROOT)), line)
        for page in sorted((ROOT / "docs").rglob("*.md"))
        for block in BLOCK.findall(page.read_text("utf-8"))
        for line in block.splitlines()
        if line and not line.startswith("#")
    ]


@needs_node
def test_dashboards_and_pages_ask_in_logql() -> None:
    asked = [(f"{one.dashboard}: {one.panel}", one.expr) for one in queries(lines=True)]
    assert len(asked) >= 9

    done = parse(asked + of_pages())

    assert (done.returncode, done.stderr) == (0, "")


@needs_node
@pytest.mark.parametrize(
    ("question", "place"),
    [
        ("", 1),
        ('sum(rate({service="a"[5m]))', 22),
        ('{service="a"} |= ', 18),
        ("{service=a}", 10),
        ('count_over_time({service="a"})', 30),
    ],
)
def test_what_is_none_is_told_with_its_place(question: str, place: int) -> None:
    done = parse([("one", '{service="a"}'), ("other", question)])

    assert done.returncode == 1
    assert done.stderr.startswith(f"other: no LogQL from character {place} on: ")
    assert "one" not in done.stderr


def test_streams_are_chosen_by_the_labels_that_alloy_sets() -> None:
    """What is not a label is structured metadata, and cannot choose a stream."""
    labels = {
        name
        for one in queries(lines=True)
        for selector in re.findall(r"\{([^}]*)\}", one.expr)
        for name in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector)
    }

    assert labels == {"service", "node", "level"}
