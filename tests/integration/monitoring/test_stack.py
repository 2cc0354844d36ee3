"""All that watches a fog, over a real one: every target, every panel, every alert."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.integration.monitoring.causes import EVERY
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


def test_every_target_is_up(stack: Stack) -> None:
    assert stack.down() == []


def test_every_rule_has_a_fault_that_proves_it() -> None:
    rules = Counter((alert.name, alert.labels["severity"]) for alert in alerts())
    assert Counter(told.rule for told in EVERY) == rules
