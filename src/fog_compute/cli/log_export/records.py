"""Log lines as records of OpenTelemetry, and the exporter that sends them by OTLP over HTTP."""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import fog_compute
from fog_compute.cli.log_lines import Line
from fog_compute.errors import ConfigError
from fog_compute.observability.logs import without_ids
from fog_compute.text import one_line

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk.resources import Resource

__all__ = ["Send", "Sent", "logs_url", "record_of", "sender"]


class Sent(enum.Enum):
    """What became of lines."""

    TAKEN = enum.auto()
    AWAY = enum.auto()
    """Nobody took them, and later somebody may."""
    REFUSED = enum.auto()
    """They, or some of them, will never be taken."""


Send = Callable[[Sequence[Line]], Sent]
"""Sends lines."""

SEND_S: Final = 5.0
VALUE_LENGTH: Final = 1000
PATH: Final = "/v1/logs"
NANOSECONDS: Final = 2**64
"""Beyond any time that a record can have."""

# What OTLP calls final, as far as it is about what was sent, and not about who may send or where.
_REFUSALS: Final = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
    }
)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SEVERITIES: Final = {"TRACE": 1, "DEBUG": 5, "INFO": 9, "WARN": 13, "ERROR": 17}
# What is told as a member of the record, or of its resource, and not as an attribute.
_TOLD: Final = ("timestamp", "level", "target", "message", "service", "node")


def logs_url(endpoint: str) -> str:
    """Where a collector takes logs, by OTLP's rule for base URLs; one for logs stays as it is."""
    return endpoint if endpoint.endswith(PATH) else endpoint.rstrip("/") + PATH


def sender(endpoint: str) -> Send:
    """What sends to a collector; ``OTEL_EXPORTER_OTLP_HEADERS`` and its like say how.

    Raises:
        ConfigError: the extra ``otlp`` is not installed.
    """
    try:
        import requests
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
        from opentelemetry.sdk._logs.export import LogRecordExportResult
    except ImportError as error:
        raise ConfigError(
            "logs are to be sent to a collector (FOG_OTLP_ENDPOINT), for which the extra otlp is"
            f" missing ({error}): pip install 'fog-compute[otlp]'"
        ) from None
    answers: list[int] = []
    session = requests.Session()
    session.hooks["response"].append(lambda got, *_, **__: answers.append(got.status_code))
    exporter = OTLPLogExporter(endpoint=logs_url(endpoint), timeout=SEND_S, session=session)

    def send(lines: Sequence[Line]) -> Sent:
        answers.clear()
        result = exporter.export([record_of(line) for line in lines])
        status = answers[-1] if answers else 0
        # The exporter is content with a redirection, which it does not follow.
        if result is LogRecordExportResult.SUCCESS and status < HTTPStatus.MULTIPLE_CHOICES:
            return Sent.TAKEN
        return Sent.REFUSED if status in _REFUSALS else Sent.AWAY

    return send


def record_of(line: Line) -> ReadableLogRecord:
    """One line as a record: the event is its body, the fields are its attributes."""
    from opentelemetry._logs import LogRecord, SeverityNumber
    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    at = _nanoseconds(line.at)
    attributes = {
        name: value if isinstance(value, (bool, int, float)) else one_line(str(value), VALUE_LENGTH)
        for name, value in line.fields.items()
        if name not in _TOLD
    }
    named = (str(line.fields.get(name, line.part)) for name in ("service", "node"))
    # Lines that are no objects are words of programs that know nothing of what links people.
    body = line.message if line.fields else without_ids(one_line(line.message))
    severity = _SEVERITIES.get(line.level)
    return ReadableLogRecord(
        LogRecord(
            timestamp=at,
            observed_timestamp=at,
            severity_text=line.level or None,
            severity_number=None if severity is None else SeverityNumber(severity),
            body=body,
            attributes=attributes,
        ),
        _resource(*named),
        InstrumentationScope(str(line.fields.get("target", line.part))),
    )


@functools.lru_cache(maxsize=256)
def _resource(service: str, node: str) -> Resource:
    """Whose a line is; ``OTEL_RESOURCE_ATTRIBUTES`` may say more of it."""
    from opentelemetry.sdk.resources import Resource

    return Resource.create(
        {
            "service.name": service,
            "service.instance.id": node,
            "service.version": fog_compute.__version__,
        }
    )


def _nanoseconds(at: str) -> int:
    """A time of a log since 1970; a line before the first time has none, which is 0.

    So has one with a time that no record can have.
    """
    try:
        since = datetime.fromisoformat(at) - _EPOCH
    except (ValueError, TypeError):
        return 0
    found = since // timedelta(microseconds=1) * 1000
    return found if 0 <= found < NANOSECONDS else 0
