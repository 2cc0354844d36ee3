"""What is seen of a fog while all is well: targets, answers to every question, and alerts."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from fog_compute.levels import PrivacyLevel
from monitoring.grafana.queries import queries
from tests.integration.monitoring.bare import bare
from tests.integration.monitoring.prometheus import Target
from tests.integration.monitoring.scrapes import looked_at_often
from tests.integration.monitoring.stack import Stack
from tests.unit.monitoring.rule_files import alerts

DATA_S: Final = 90.0
PAUSE_S: Final = 0.5
NOTHING_YET: Final = ("ALERTS", "fog_chat_refused_total")
"""Series that are there only once something fired or was refused: what stands in has to do."""

LEVELS: Final = (PrivacyLevel.PUBLIC, PrivacyLevel.PRIVATE)


@dataclass(frozen=True, slots=True)
class Calm:
    """What was seen.

    Attributes:
        down: targets that are not scraped well.
        dataless: questions of dashboards and alerts that brought nothing, and what was said.
        fired: the labels of alerts that fired at any time.
    """

    down: list[Target]
    dataless: dict[str, str]
    fired: list[Mapping[str, str]]


def questions() -> Iterator[tuple[str, str]]:
    """Where each question comes from, and the question."""
    for asked in queries(rate_interval="30s", interval="1s", span="5m"):
        stands_in = any(name in asked.bare for name in NOTHING_YET)
        yield str(asked), asked.expr if stands_in else asked.bare
    for alert in alerts():
        for expression in bare(looked_at_often(alert.expr)):
            yield f"{alert.name} ({alert.labels['severity']}): {expression}", expression


def seen_in(stack: Stack) -> Calm:
    """Let a fog do a little of everything until every question has an answer, or for a while."""
    stack.be_somebody()
    open_questions = dict(questions())
    troubles: dict[str, str] = {}
    deadline = time.monotonic() + DATA_S
    while open_questions and time.monotonic() < deadline:
        for level in LEVELS:
            stack.submit(1, level)
        stack.await_no_tasks()
        troubles = {}
        for place, expression in list(open_questions.items()):
            answer = stack.prometheus.ask(expression)
            if answer.has_data:
                del open_questions[place]
            else:
                troubles[place] = answer.trouble or f"{answer.series} series without a number"
    stack.await_scrapes()
    told = [one["labels"] for one in stack.webhook.told()]
    fired = [*told, *stack.prometheus.firing()]
    return Calm(stack.down(), troubles, [one for one in fired if not _is_of_machine(one)])


def _is_of_machine(alert: Mapping[str, str]) -> bool:
    """Whether it may be true of the machine that the test runs on."""
    return (alert["alertname"], alert.get("service")) == ("DiskNearlyFull", "host")
