"""Log lines: one shape, and nothing in them that links people to traffic."""

from __future__ import annotations

import io
import itertools
import json
import logging
from pathlib import Path

import pytest

from fog_compute.observability import configure_logging, get_logger
from fog_compute.observability.logs import LINKING_FIELDS

pytestmark = pytest.mark.usefixtures("restored_logging")

ROOT = Path(__file__).parents[4]


def configure(out: io.StringIO, *, json: bool = True, level: str = "info") -> None:
    configure_logging(service="fog-worker", node="worker-3", json=json, level=level, out=out)


def lines(out: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_line_has_the_common_shape() -> None:
    """INV-LOG-01."""
    out = io.StringIO()
    configure(out)

    get_logger("fog_compute.x").warning("task.ended", count=3)

    (line,) = lines(out)
    assert list(line) == ["timestamp", "level", "target", "message", "service", "node", "count"]
    assert (line["service"], line["node"]) == ("fog-worker", "worker-3")
    assert (line["level"], line["target"], line["message"]) == (
        "WARN",
        "fog_compute.x",
        "task.ended",
    )
    assert line["count"] == 3
    assert str(line["timestamp"]).endswith("Z")


@pytest.mark.parametrize("level", ["info", "warning", "error"])
def test_linking_fields_are_dropped_whoever_logs_them(level: str) -> None:
    """INV-LOG-02."""
    out = io.StringIO()
    configure(out, level="debug")

    getattr(get_logger("x"), level)("a.happened", **dict.fromkeys(LINKING_FIELDS, "who"), safe=1)

    (line,) = lines(out)
    assert not LINKING_FIELDS & line.keys()
    assert line["safe"] == 1


def test_debug_lines_keep_them() -> None:
    out = io.StringIO()
    configure(out, level="debug")

    get_logger("x").debug("a.happened", worker="w")

    assert lines(out)[0]["worker"] == "w"


WORDS = json.loads((ROOT / "crates/vectors/log_words.json").read_bytes())


@pytest.mark.parametrize(("said", "told"), WORDS, ids=itertools.count())
def test_texts_tell_no_machine_elsewhere_and_no_id(said: str, told: str) -> None:
    """INV-LOG-03."""
    out = io.StringIO()
    configure(out, level="debug")

    get_logger("x").warning("a.failed", reason=said, notes=[said, said])
    get_logger("x").debug("a.failed", reason=said)
    logging.getLogger("library").warning("%s", said)
    try:
        raise ValueError(said)
    except ValueError:
        get_logger("x").error("a.crashed", exc_info=True)

    warned, debugged, library, crashed = lines(out)
    assert (warned["reason"], debugged["reason"], library["message"]) == (told, said, told)
    assert warned["notes"] == f"{told}, {told}".strip()
    assert str(crashed["exception"]).endswith(told)


def test_lines_of_libraries_have_the_same_shape() -> None:
    out = io.StringIO()
    configure(out)

    logging.getLogger("some.library").error("it broke: %s", "badly")
    logging.getLogger("sqlalchemy.engine").info("SELECT secret")

    (line,) = lines(out)
    assert (line["level"], line["target"]) == ("ERROR", "some.library")
    assert line["message"] == "it broke: badly"


@pytest.mark.parametrize("as_json", [True, False])
def test_traceback_shows_no_values_of_variables(as_json: bool) -> None:
    out = io.StringIO()
    configure(out, json=as_json)
    password = "hunter2"
    try:
        raise ValueError(len(password))
    except ValueError:
        get_logger("x").error("a.crashed", exc_info=True)

    assert "ValueError: 7" in out.getvalue()
    assert "hunter2" not in out.getvalue().replace('password = "hunter2"', "")


@pytest.mark.parametrize("json_lines", [True, False])
def test_a_value_from_outside_cannot_forge_or_flood_a_log(json_lines: bool) -> None:
    """INV-TASK-33, INV-LOG-04."""
    out = io.StringIO()
    configure(out, json=json_lines)
    words = "\x1b]0;owned\x07\x1b[2J\nsecond line\x9b" + "N" * 100_000

    get_logger("x").warning("a.happened", reason=words)
    logging.getLogger("library").warning("%s", words)
    try:
        raise ValueError(words)
    except ValueError:
        get_logger("x").error("b.happened", exc_info=True)

    written = out.getvalue()
    assert len(written) < 60_000
    assert "second line" in written
    assert not {c for c in written if not c.isprintable()} - {"\n"}
    if json_lines:
        assert len(lines(out)) == 3
