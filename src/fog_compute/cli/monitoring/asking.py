"""What a fog's own Prometheus says of its alerts."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import msgspec

from fog_compute.cli.common import CommandError
from fog_compute.text import one_line
from fog_compute.units import MIB

__all__ = ["Alert", "ask_alerts", "counts_of"]

ANSWER_S: Final = 3.0
ANSWER_BYTES: Final = 4 * MIB
TEXT: Final = 400

FIRING: Final = "firing"
PENDING: Final = "pending"
_STATES: Final = (FIRING, PENDING)
_SEVERITIES: Final = ("critical", "warning", "info")


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert of one thing.

    Attributes:
        name: of its rule.
        state: firing, or pending while it may still pass.
        severity: critical, warning or info.
        service: which job it is about; empty if about several.
        instance: which of that; empty if about all.
        since: when it became true, in ISO 8601.
        summary: what is wrong, in one line.
        description: the same at length.
        runbook: the address of the page that says what to do.
    """

    name: str
    state: str
    severity: str
    service: str
    instance: str
    since: str
    summary: str
    description: str
    runbook: str


class _Alert(msgspec.Struct, rename="camel"):
    labels: dict[str, str]
    annotations: dict[str, str]
    state: str
    active_at: str


class _Alerts(msgspec.Struct):
    alerts: list[_Alert]


class _Answer(msgspec.Struct):
    data: _Alerts


def ask_alerts(prometheus: str) -> list[Alert]:
    """All alerts that fire or may soon do so, the gravest first.

    Raises:
        CommandError: it does not answer, or not so.
    """
    url = urlsplit(prometheus)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=ANSWER_S)
    try:
        connection.request("GET", "/api/v1/alerts")
        answer = msgspec.json.decode(connection.getresponse().read(ANSWER_BYTES), type=_Answer)
    except (OSError, http.client.HTTPException) as error:
        raise CommandError(f"Prometheus at {prometheus} does not answer ({error})") from error
    except msgspec.MsgspecError as error:
        raise CommandError(f"what answers at {prometheus} is no Prometheus") from error
    finally:
        connection.close()
    return sorted(map(_read, answer.data.alerts), key=_rank)


def counts_of(alerts: list[Alert]) -> dict[str, int]:
    """How many are in each state."""
    return {state: sum(alert.state == state for alert in alerts) for state in _STATES}


def _read(alert: _Alert) -> Alert:
    def text(fields: Mapping[str, str], name: str) -> str:
        return one_line(fields.get(name, ""), TEXT)

    labels, annotations = alert.labels, alert.annotations
    return Alert(
        name=text(labels, "alertname"),
        state=one_line(alert.state, TEXT),
        severity=text(labels, "severity"),
        service=text(labels, "service"),
        instance=text(labels, "instance"),
        since=one_line(alert.active_at, TEXT),
        summary=text(annotations, "summary"),
        description=text(annotations, "description"),
        runbook=text(annotations, "runbook_url"),
    )


def _rank(alert: Alert) -> tuple[int, int, str, str, str]:
    return (
        _place(_STATES, alert.state),
        _place(_SEVERITIES, alert.severity),
        alert.name,
        alert.service,
        alert.instance,
    )


def _place(order: tuple[str, ...], word: str) -> int:
    return order.index(word) if word in order else len(order)
