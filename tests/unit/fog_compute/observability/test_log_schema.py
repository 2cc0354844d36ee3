"""What the sources log, against the closed list of the specification."""

from __future__ import annotations

import ast
import io
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from fog_compute.observability import configure_logging, get_logger
from fog_compute.observability.logs import LINKING_FIELDS
from tests.logged import fields_of_schema, misfits, validator

ROOT = Path(__file__).parents[4]
EVENT = re.compile(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*")
RUST_CALL = re.compile(r"\btracing::(trace|debug|info|warn|error)!\(")
RUST_FIELD = re.compile(r"^\s*[%?]?([a-z_]+)\s*(?:=(?!=)|$)")
TOLD = ("info", "warning", "warn", "error", "exception")


def python_events() -> Iterator[tuple[str, str, str, list[str]]]:
    """Place, level, event and fields of every line that Python logs."""
    for path in sorted((ROOT / "src/fog_compute").rglob("*.py")):
        source = path.read_text()
        for node in ast.walk(ast.parse(source)) if "_log." in source else ():
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="_log"), attr=level),
                    args=[ast.Constant(value=str(event))],
                ):
                    place = f"{path.relative_to(ROOT)}:{node.lineno}"
                    yield place, level, event, [one.arg or "**" for one in node.keywords]
                case ast.Call(func=ast.Attribute(value=ast.Name(id="_log"), attr=level)):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", level, "", []


def rust_events() -> Iterator[tuple[str, str, str, list[str]]]:
    """Place, level, event and fields of every line that Rust logs."""
    for path in sorted((ROOT / "crates/betanet-node/src").rglob("*.rs")):
        source = path.read_text().partition("#[cfg(test)]\nmod tests {")[0]
        for call in RUST_CALL.finditer(source):
            parts = list(arguments(source[call.end() :]))
            fields = [found[1] for part in parts if (found := RUST_FIELD.match(part))]
            place = f"{path.relative_to(ROOT)}:{source.count(chr(10), 0, call.start()) + 1}"
            yield place, call[1], parts[-1].strip().strip('"') if parts else "", fields


def arguments(source: str) -> Iterator[str]:
    """The arguments of a call, from behind its bracket."""
    depth, quoted, begun = 0, False, 0
    for place, char in enumerate(source):
        if char == '"' and source[place - 1] != "\\":
            quoted = not quoted
        elif quoted:
            continue
        elif char in "([{":
            depth += 1
        elif (char == ")" and depth == 0) or (char == "," and depth == 0):
            if source[begun:place].strip():
                yield source[begun:place]
            begun = place + 1
            if char == ")":
                return
        elif char in ")]}":
            depth -= 1


@pytest.mark.parametrize("events", [python_events, rust_events])
def test_every_line_is_an_event_with_fields_of_the_closed_list(events: object) -> None:
    """INV-LOG-02."""
    assert callable(events)
    seen = list(events())
    known = fields_of_schema() | {"exc_info"}

    assert len(seen) > 20
    assert [found for found in seen if not EVENT.fullmatch(found[2])] == []
    assert [
        (place, field)
        for place, level, _, fields in seen
        for field in fields
        if level in TOLD and field not in known
    ] == []


def test_no_field_of_the_closed_list_links_people_to_traffic() -> None:
    """INV-LOG-02."""
    assert not fields_of_schema() & LINKING_FIELDS


def test_both_languages_drop_the_same_fields() -> None:
    """INV-LOG-02."""
    source = (ROOT / "crates/betanet-node/src/logging.rs").read_text()
    listed = re.search(r"LINKING_FIELDS: \[&str; \d+\] = \[(.*?)\];", source, re.DOTALL)

    assert listed is not None
    assert frozenset(re.findall(r'"(\w+)"', listed[1])) == LINKING_FIELDS


@pytest.mark.usefixtures("restored_logging")
def test_schema_takes_what_is_written_and_refuses_what_is_not() -> None:
    """INV-LOG-01."""
    out = io.StringIO()
    configure_logging(service="fog-worker", node="worker-3", json=True, level="debug", out=out)
    get_logger("fog_compute.x").warning("task.failed", work="w", error="E")
    get_logger("fog_compute.x").debug("poll.failed", worker="w")
    logging.getLogger("library").error("it broke: %s", "badly")
    written = [json.loads(line) for line in out.getvalue().splitlines()]

    assert [list(validator().iter_errors(line)) for line in written] == [[], [], []]
    for change in (
        {"worker": "w"},
        {"message": "It broke"},
        {"level": "WARNING"},
        {"service": "mine"},
        {"timestamp": "2026-11-27 10:00:00"},
    ):
        assert list(validator().iter_errors(written[0] | change)) != [], change


def test_misfits_are_found_in_files(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    named = json.dumps({"level": "WARN", "reason": "at 192.0.2.7"})
    (tmp_path / "net" / "a.log").write_text(f'panicked\n{{"level": "INFO"}}\n{named}\n')

    found = list(misfits(tmp_path))

    assert found[0] == "a.log: no JSON: panicked"
    assert any("timestamp" in one for one in found[1:])
    assert next(one for one in found if "names a machine" in one).endswith(named)
