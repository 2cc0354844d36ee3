"""Every name of the first design leads somewhere, and its example runs as it is printed."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from fog_compute.server.parts import ORDER

PAGE = Path(__file__).parents[2] / "docs/guides/migrate.md"


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its head."""
    section = PAGE.read_text().split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


NAMES = [re.findall(r"`([^`]+)`", row[1])[0] for row in rows("Names of the design")]


@pytest.mark.parametrize("path", NAMES)
def test_name_can_be_imported(path: str) -> None:
    module, _, name = path.rpartition(".")
    assert getattr(importlib.import_module(module), name) is not None


def test_services_of_the_page_are_those_there_are() -> None:
    named = {name for row in rows("Services by name") for name in re.findall(r"`([^`]+)`", row[1])}
    text = PAGE.read_text()
    assert named <= set(ORDER)
    assert all(f"`{name}`" in text for name in ORDER)
