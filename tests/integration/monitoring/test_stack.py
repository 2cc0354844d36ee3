"""All that watches a fog, over a real one: every target, every panel, every alert."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.monitoring.calm import Calm, seen_in
from tests.integration.monitoring.causes import EVERY, Told
from tests.integration.monitoring.faults import Faults, provoked
from tests.integration.monitoring.stack import Stack, running_stack
from tests.postgres import PostgresMissing, private_postgres
from tests.unit.monitoring.rule_files import alerts

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Everything, with a Postgres of its own, for it is going to suffer."""
    try:
        server = private_postgres()
    except PostgresMissing as missing:
        pytest.skip(str(missing))
    with running_stack(tmp_path_factory.mktemp("stack"), server) as stack:
        stack.await_scrapes()
        yield stack


@pytest.fixture(scope="module")
def calm(stack: Stack) -> Calm:
    """What was seen while all was well, after a little traffic."""
    return seen_in(stack)


@pytest.fixture(scope="module")
def faults(stack: Stack, calm: Calm) -> Iterator[Faults]:
    """Everything that alerts tell of, once all that is to be seen before was seen."""
    with provoked(stack) as faults:
        yield faults


def test_every_target_is_up(calm: Calm) -> None:
    """INV-MON-17"""
    assert calm.down == []


def test_every_panel_and_every_alert_has_data(calm: Calm) -> None:
    """INV-MON-17"""
    assert not calm.dataless, "\n".join(f"{at}: {why}" for at, why in calm.dataless.items())


def test_no_alert_fires_while_all_is_well(calm: Calm) -> None:
    """INV-MON-17"""
    # The net has exact metrics, which is told, and nobody is called.
    assert {one["alertname"] for one in calm.fired} <= {"ExactMetricsInUse"}, calm.fired


def test_every_rule_has_a_fault_that_proves_it() -> None:
    assert {told.rule for told in EVERY} == {(one.name, one.labels["severity"]) for one in alerts()}


@pytest.mark.parametrize("told", EVERY, ids=str)
def test_the_webhook_hears_of_each_fault(told: Told, faults: Faults) -> None:
    """INV-MON-18"""
    alert = faults.await_told(told)
    assert alert["annotations"].keys() >= {"summary", "description", "runbook_url"}
