"""Tasks whose end somebody hears of."""

from __future__ import annotations

import ast
import asyncio
from pathlib import Path

import pytest
import structlog.testing

import fog_compute.p2p
from fog_compute.p2p.core.background import background

AWAITED = {
    "core/background.py",
    "bitchat/radio/bumble.py",
    "bitchat/radio/bumble_connect.py",
    "htx/pulse.py",
    "mobile/web_links.py",
}
"""Modules that begin tasks in another way, and await each of them."""


@pytest.mark.asyncio
async def test_a_task_that_fails_says_so_and_one_that_ends_or_is_stopped_does_not() -> None:
    told: list[BaseException] = []
    error = LookupError("of somebody")

    async def fails() -> None:
        raise error

    with structlog.testing.capture_logs() as logs:
        tasks = [
            background(fails(), "one", told.append),
            background(fails(), "two"),
            background(asyncio.sleep(0), "three", told.append),
            background(asyncio.sleep(3600), "four", told.append),
        ]
        await asyncio.sleep(0)
        tasks[-1].cancel()
        await asyncio.wait(tasks)

    assert told == [error]
    assert [(one["work"], one["error"]) for one in logs] == [
        ("one", "LookupError"),
        ("two", "LookupError"),
    ]


def test_no_task_of_the_messages_dies_in_silence() -> None:
    """INV-P2P-13."""
    folder = Path(fog_compute.p2p.__file__).parent
    found = {
        str(file.relative_to(folder))
        for file in folder.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_bytes()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {"create_task", "ensure_future"}
        # A group raises what its tasks raise.
        and not (isinstance(node.func.value, ast.Name) and node.func.value.id == "group")
    }

    assert found == AWAITED
