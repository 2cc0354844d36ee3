"""Log lines: one shape, and nothing in them that links people to traffic."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from fog_compute.observability import configure_logging, get_logger
from fog_compute.observability.logs import LINKING_FIELDS


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(out: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_line_has_the_common_shape() -> None:
    out = io.StringIO()
    configure_logging(json=True, out=out)

    get_logger("fog_compute.x").warning("task.ended", count=3)

    (line,) = lines(out)
    assert list(line)[:4] == ["timestamp", "level", "target", "message"]
    assert (line["level"], line["target"], line["message"]) == (
        "WARN",
        "fog_compute.x",
        "task.ended",
    )
    assert line["count"] == 3
    assert str(line["timestamp"]).endswith("Z")


@pytest.mark.parametrize("level", ["info", "warning", "error"])
def test_linking_fields_are_dropped_whoever_logs_them(level: str) -> None:
    out = io.StringIO()
    configure_logging(json=True, level="debug", out=out)

    getattr(get_logger("x"), level)("a.happened", **dict.fromkeys(LINKING_FIELDS, "who"), safe=1)

    (line,) = lines(out)
    assert not LINKING_FIELDS & line.keys()
    assert line["safe"] == 1


def test_debug_lines_keep_them() -> None:
    out = io.StringIO()
    configure_logging(json=True, level="debug", out=out)

    get_logger("x").debug("a.happened", worker="w")

    assert lines(out)[0]["worker"] == "w"


def test_lines_of_libraries_have_the_same_shape() -> None:
    out = io.StringIO()
    configure_logging(json=True, out=out)

    logging.getLogger("some.library").error("it broke: %s", "badly")
    logging.getLogger("sqlalchemy.engine").info("SELECT secret")

    (line,) = lines(out)
    assert (line["level"], line["target"]) == ("ERROR", "some.library")
    assert line["message"] == "it broke: badly"


@pytest.mark.parametrize("as_json", [True, False])
def test_traceback_shows_no_values_of_variables(as_json: bool) -> None:
    out = io.StringIO()
    configure_logging(json=as_json, out=out)
    password = "hunter2"
    try:
        raise ValueError(len(password))
    except ValueError:
        get_logger("x").error("a.crashed", exc_info=True)

    assert "ValueError: 7" in out.getvalue()
    assert "hunter2" not in out.getvalue().replace('password = "hunter2"', "")


@pytest.mark.parametrize("json_lines", [True, False])
def test_a_value_from_outside_cannot_forge_or_flood_a_log(json_lines: bool) -> None:
    """INV-TASK-33."""
    out = io.StringIO()
    configure_logging(json=json_lines, out=out)
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
