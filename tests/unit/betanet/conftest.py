from __future__ import annotations

import pytest

from tests.unit.betanet.chains import Chain


@pytest.fixture
def chain() -> Chain:
    return Chain.of(3)
