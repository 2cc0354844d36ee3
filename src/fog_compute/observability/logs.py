"""Log lines: one schema for Python and Rust, and nothing in them that links people to traffic.

As JSON each line is one object: ``timestamp`` (RFC 3339, UTC), ``level`` (``DEBUG`` … ``ERROR``),
``target`` (the part of the program), ``message`` (an event named ``noun.verb_past``), ``service``
and ``node`` (which process this is), and the event's own fields beside them: the schema of
``docs/spec/logs.md``. Rust writes the same (``betanet_node::logging``), so that one reader
understands the logs of all processes.

At info and above no line carries a peer, circuit, session, requester or message: fields that
could are dropped here, whoever logs them, and what looks like an address or an id is taken out of
texts.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import re
import sys
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Final, TextIO, cast

import structlog
from structlog.typing import EventDict, ExcInfo, FilteringBoundLogger, Processor, WrappedLogger

from fog_compute.text import one_line, printable

__all__ = [
    "LINKING_FIELDS",
    "clean_texts",
    "configure_logging",
    "drop_linking_fields",
    "get_logger",
    "without_ids",
]

LINKING_FIELDS: Final = frozenset(
    {
        "address",
        "attempt",
        "body",
        "circuit",
        "circuit_id",
        "client",
        "handle",
        "key",
        "mailbox",
        "message_id",
        "module",
        "path",
        "peer",
        "recipient",
        "requester",
        "sender",
        "session",
        "surb_id",
        "task",
        "task_id",
        "token",
        "worker",
    }
)
"""Field names that never appear at info or above."""

VALUE_LENGTH: Final = 1000
"""Characters of one value in a line."""

NAME_LENGTH: Final = 64
"""Characters of the name of a process."""

TRACEBACK_LENGTH: Final = 20_000

_WORD: Final = re.compile(r"[0-9A-Za-z.:\[\]%]+")
_ID: Final = re.compile(r"[0-9A-Fa-f]{32,}")
_ADDRESS: Final = re.compile(r"fog1.{16,}")
_HOST: Final = re.compile(r"(?:\[(?P<v6>[^\]]+)\]|(?P<v4>[0-9.]+))(?::[0-9]{1,5})?")

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_QUIET_LIBRARIES: Final = ("alembic", "asyncio", "httpcore2", "httpx2", "sqlalchemy")


def get_logger(target: str) -> FilteringBoundLogger:
    """A logger whose lines carry ``target``; usable before :func:`configure_logging`."""
    logger: FilteringBoundLogger = structlog.get_logger(target=target)
    return logger


def configure_logging(
    *,
    service: str,
    node: str,
    level: str = "info",
    json: bool = False,
    out: TextIO | None = None,
) -> None:
    """Set up all logging of this process, that of libraries included.

    Args:
        service: what kind of process this is, as Prometheus calls its job: ``fog-backend``, …
        node: its name among others of that kind, which says nothing to strangers.
        level: least severe level written: ``debug``, ``info``, ``warning`` or ``error``.
        json: write JSON objects instead of text for a console.
        out: where lines go; standard error by default.
    """
    named = {"service": service, "node": one_line(node, NAME_LENGTH)}
    stream = cast("TextIO", _Lines(sys.stderr if out is None else out))
    threshold = _LEVELS[level]
    shared: list[Processor] = [
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.add_log_level,
        drop_linking_fields,
        clean_texts,
    ]
    structlog.configure(
        processors=[*shared, *_render(named, json=json, colors=stream.isatty())],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_add_library_target, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_render(named, json=json, colors=stream.isatty()),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(threshold)
    for name in _QUIET_LIBRARIES:
        logging.getLogger(name).setLevel(max(threshold, logging.WARNING))


class _Lines:
    """A stream whose writer is never stopped by it: a full disk costs lines, not the program."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()


def drop_linking_fields(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Remove the fields that could link people to traffic, unless the line is a debug line."""
    del logger
    if method != "debug":
        for name in LINKING_FIELDS & event.keys():
            del event[name]
    return event


def clean_texts(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Let no value be longer than a line, move the cursor of who reads the log, or name anybody."""
    del logger

    def clean(text: str) -> str:
        line = one_line(text, VALUE_LENGTH)
        return line if method == "debug" else without_ids(line)

    for name, value in event.items():
        if isinstance(value, str):
            event[name] = clean(value)
        elif isinstance(value, (list, tuple, set, frozenset)) and name != "exc_info":
            event[name] = clean(", ".join(map(str, value)))
    return event


def without_ids(text: str) -> str:
    """A text in which no word names a machine elsewhere, a key or an id."""
    return _WORD.sub(_told, text)


def _told(found: re.Match[str]) -> str:
    """What a log tells of one word."""
    word = found[0]
    bare = word.rstrip(":.")
    if _ID.fullmatch(bare):
        hidden = "[id]"
    elif _ADDRESS.fullmatch(bare) or _is_elsewhere(bare):
        hidden = "[address]"
    else:
        return word
    return hidden + word[len(bare) :]


def _is_elsewhere(word: str) -> bool:
    """Whether a word is an IP address, with a port or without, of no machine that is this one."""
    host = word
    if (found := _HOST.fullmatch(word)) is not None:
        host = found["v6"] or found["v4"]
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified)


def _render(named: Mapping[str, str], *, json: bool, colors: bool) -> Iterable[Processor]:
    if json:
        return (
            structlog.processors.format_exc_info,
            _bound_traceback,
            functools.partial(_shape, named),
            structlog.processors.JSONRenderer(sort_keys=False),
        )
    return (
        # Tracebacks without the values of local variables, which may be keys or payloads.
        structlog.dev.ConsoleRenderer(
            colors=colors, pad_event_to=0, exception_formatter=_traceback
        ),
    )


def _traceback(out: TextIO, exc_info: ExcInfo) -> None:
    lines = io.StringIO()
    structlog.dev.plain_traceback(lines, exc_info)
    out.write(without_ids(printable(lines.getvalue(), TRACEBACK_LENGTH)))


def _bound_traceback(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    del logger, method
    if isinstance(lines := event.get("exception"), str):
        event["exception"] = without_ids(printable(lines, TRACEBACK_LENGTH))
    return event


def _shape(
    named: Mapping[str, str], logger: WrappedLogger, method: str, event: EventDict
) -> EventDict:
    del logger, method
    fields = dict(event)
    return {
        "timestamp": fields.pop("timestamp"),
        "level": {"WARNING": "WARN"}.get(name := str(fields.pop("level", "info")).upper(), name),
        "target": fields.pop("target", "fog_compute"),
        "message": fields.pop("event"),
        **named,
        **fields,
    }


def _add_library_target(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    del method
    record = event.get("_record")
    event["target"] = record.name if isinstance(record, logging.LogRecord) else logger.name
    return event
