"""What a question costs: the statements that the store runs for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, event

from .conftest import Api


@contextmanager
def statements(about: str) -> Iterator[list[str]]:
    """Collect the statements that have these words, of whichever engine."""
    found: list[str] = []

    def note(_: Any, __: Any, statement: str, *more: Any) -> None:
        if about in statement:
            found.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(Engine, "before_cursor_execute", note)


@pytest.mark.asyncio
async def test_waiting_for_events_in_vain_asks_the_store_once(api: Api) -> None:
    """INV-API-30."""
    await api.create()
    with statements("FROM events") as asked:
        answer = await api.http.get("/api/v1/events", params={"since": 1, "wait": 0.2})

    assert answer.json() == {"events": [], "next": 1}
    assert len(asked) == 1
