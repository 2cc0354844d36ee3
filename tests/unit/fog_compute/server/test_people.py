"""The feed of messages, of a system that has its troubles."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import cast

import pytest

from fog_compute.errors import StoreError
from fog_compute.levels import PrivacyLevel
from fog_compute.observability.metrics import ChatMetrics, Registry
from fog_compute.p2p.core.actions import Progress
from fog_compute.p2p.core.book import LogEntry
from fog_compute.p2p.core.messages import DecentralizedMessage
from fog_compute.p2p.unified import UnifiedDecentralizedSystem
from fog_compute.server.people import People
from fog_compute.testing import ManualClock


class Troubled:
    """A log that cannot be read at first, in which something then comes."""

    def __init__(self) -> None:
        self.newest = 1
        self.troubles = ["in the beginning", "in the middle"]

    async def log(self, after: int, limit: int, *, last: bool) -> list[LogEntry]:
        del after, limit, last
        if len(self.troubles) == 2:
            raise StoreError(self.troubles.pop())
        message = DecentralizedMessage(body=b"")
        return [LogEntry(self.newest, message, False, True, False, 0.0, {})]

    async def arrivals(self, after: int = 1) -> AsyncGenerator[LogEntry, None]:
        for _ in range(2):
            self.newest += 1
            yield LogEntry(after + 1, DecentralizedMessage(body=b""), False, True, False, 0.0, {})
            if self.troubles:
                raise StoreError(self.troubles.pop())
            after += 1
        await asyncio.Event().wait()

    async def progress(self) -> AsyncGenerator[Progress, None]:
        await asyncio.Event().wait()
        yield cast("Progress", None)


@pytest.mark.asyncio
async def test_feed_goes_on_when_the_log_can_be_read_again() -> None:
    system, clock = Troubled(), ManualClock()
    people = People(
        cast("UnifiedDecentralizedSystem", system),
        PrivacyLevel.PRIVATE,
        clock,
        0,
        ChatMetrics(Registry()),
    )
    following = asyncio.create_task(people.follow())

    for _ in range(20):
        await asyncio.sleep(0)
        await clock.advance(40.0)

    assert not following.done()
    assert system.troubles == []
    assert people.feed.now.position == system.newest == 4
    following.cancel()
    await asyncio.wait({following})
