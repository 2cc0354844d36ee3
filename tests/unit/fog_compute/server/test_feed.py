"""Who listens to events gets each of them once, however slow he is, and costs the store nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message

from fog_compute.errors import ServiceUnavailable
from fog_compute.server.feed import AT_ONCE, BEAT_S, Feed, Kept
from fog_compute.store import Cancelled, Store, TaskEventRecord
from fog_compute.store.events import Events
from fog_compute.tasks import Task, TaskSpec, TaskState
from fog_compute.testing import ManualClock

from .conftest import DEADLINE_S, Api

KEPT = 7


def record(seq: int, batch: str | None = None) -> TaskEventRecord:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return TaskEventRecord(seq, f"t{seq}", 1, TaskState.QUEUED, None, "", at, batch)


def numbers(text: bytes) -> list[int]:
    """The numbers of the events in a piece of a stream."""
    frames = [frame.split(b"\n") for frame in text.split(b"\n\n") if b"data: " in frame]
    found = [json.loads(lines[-1].removeprefix(b"data: "))["seq"] for lines in frames]
    assert [int(lines[0].removeprefix(b"id: ")) for lines in frames] == found
    assert all(lines[1] == b"event: task" for lines in frames)
    return found


@given(
    st.lists(st.integers(0, 5), max_size=30),
    st.integers(1, 9),
    st.integers(0, 60),
    st.booleans(),
)
def test_what_is_kept_has_no_gap(sizes: list[int], most: int, cursor: int, ours: bool) -> None:
    """INV-API-31."""
    kept, seq = Kept(10, most), 10
    for size in sizes:
        added = [record(seq + 2 * n, "b" if n % 2 else None) for n in range(1, size + 1)]
        kept.add(added)
        seq = added[-1].seq if added else seq
        assert kept.newest == seq

    cursor = max(cursor, kept.behind)
    text, then = kept.after(cursor, "b" if ours else None)
    expected = [
        number
        for number in range(12, seq + 1, 2)
        if cursor < number and (not ours or b'"batch":"b"' in text)
    ]

    assert len(expected) <= most
    assert then == max(cursor, seq)
    if not ours:
        assert numbers(text) == expected
    else:
        assert set(numbers(text)) <= set(expected)


def test_a_piece_has_a_bounded_number_of_events() -> None:
    """INV-API-31."""
    kept = Kept(0, 10 * AT_ONCE)
    kept.add([record(seq) for seq in range(1, AT_ONCE + 12)])

    first, cursor = kept.after(0, None)
    second, end = kept.after(cursor, None)

    assert numbers(first) == list(range(1, AT_ONCE + 1))
    assert numbers(second) == list(range(AT_ONCE + 1, AT_ONCE + 12))
    assert end == AT_ONCE + 11


class Counted:
    """Events of a store, and how often they were asked for."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self.asked = 0
        self.together = self.most_together = 0
        self.newest, self.wakes = events.newest, events.wakes

    async def after(
        self, since: int, limit: int, *, batch: str | None = None
    ) -> list[TaskEventRecord]:
        self.asked += 1
        self.together += 1
        self.most_together = max(self.most_together, self.together)
        try:
            return await self._events.after(since, limit, batch=batch)
        finally:
            self.together -= 1


@dataclass
class Fixture:
    """A feed of a store.

    Attributes:
        away: whether there is no store at the moment.
    """

    store: Store
    clock: ManualClock
    most: int = 50
    away: bool = False
    tasks: list[Task] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.counted = Counted(self.store.events)
        self.feed = Feed(self.events, self.clock, self.most, kept=KEPT)
        self.module = ""

    def events(self) -> Counted:
        if self.away:
            raise ServiceUnavailable("the store is stopped: it is being restarted")
        return self.counted

    async def make(self, count: int = 1) -> None:
        """Make tasks, each of which is an event, in one commit."""
        self.module = self.module or await self.store.blobs.put(b"module")
        specs = [TaskSpec(module=self.module)] * count
        self.tasks += await self.store.tasks.create_batch(specs, None, "b" * 26)

    @asynccontextmanager
    async def listen(self, since: int | None, batch: str | None = None) -> AsyncIterator[Listener]:
        async with aclosing(self.feed.follow(since, batch)) as pieces:
            yield Listener(pieces)


@dataclass
class Listener:
    """One who listens, and the events that he got."""

    pieces: AsyncIterator[bytes]
    got: list[int] = field(default_factory=list)
    said: bytes = b""

    async def take(self) -> bytes:
        async with asyncio.timeout(DEADLINE_S):
            self.said = await anext(self.pieces)
        self.got += numbers(self.said)
        return self.said

    async def until(self, last: int) -> list[int]:
        while not self.got or self.got[-1] < last:
            await self.take()
        return self.got


async def unless(work: Awaitable[object]) -> None:
    await work


@pytest_asyncio.fixture
async def fixture(tmp_path: Path) -> AsyncIterator[Fixture]:
    clock = ManualClock()
    async with await Store.open(tmp_path / "fog.db", clock=clock) as store:
        made = Fixture(store, clock)
        async with made.feed.running(unless):
            yield made


@pytest.mark.asyncio
async def test_all_listeners_get_what_one_question_found(fixture: Fixture) -> None:
    """INV-API-30, INV-API-31."""
    await fixture.make(2)
    async with fixture.listen(0) as old:
        first = await old.take()
        assert first == b"retry: 2000\nid: 0\n\n"
        await old.until(2)
        others = [fixture.feed.follow(None, None) for _ in range(20)]
        try:
            for other in others:
                assert await anext(other) == b"retry: 2000\nid: 2\n\n"
            for commit in range(3):
                # Each listener waits, and so does who reads for all of them.
                waiting = [asyncio.ensure_future(anext(other)) for other in others]
                for _ in range(5):
                    await asyncio.sleep(0)
                before = fixture.counted.asked
                await fixture.make()
                got = await asyncio.gather(*waiting)
                assert [numbers(text) for text in got] == [[3 + commit]] * 20
                assert fixture.counted.asked == before + 1
        finally:
            for other in others:
                await other.aclose()
        assert await old.until(5) == [1, 2, 3, 4, 5]


@pytest.mark.asyncio
async def test_who_falls_behind_or_comes_back_misses_nothing(fixture: Fixture) -> None:
    """INV-API-31."""
    await fixture.make()
    async with fixture.listen(None) as quick, fixture.listen(0) as slow:
        await quick.take()
        await slow.take()
        for _ in range(5):
            await fixture.make(KEPT - 2)
            await quick.until(len(fixture.tasks))
        last = len(fixture.tasks)
        assert last > 3 * KEPT
        assert quick.got == list(range(2, last + 1))
        assert await slow.until(last) == list(range(1, last + 1))
        async with fixture.listen(3) as back, fixture.listen(10**9) as ahead:
            assert await back.until(last) == list(range(4, last + 1))
            assert f"id: {last}".encode() in await ahead.take()


@pytest.mark.asyncio
async def test_those_who_are_behind_ask_the_store_one_after_the_other(fixture: Fixture) -> None:
    """INV-API-31."""
    await fixture.make(KEPT + 3)
    async with fixture.listen(None) as up_to_date, contextlib.AsyncExitStack() as stack:
        await up_to_date.take()
        behind = [await stack.enter_async_context(fixture.listen(0)) for _ in range(9)]
        fixture.counted.most_together = 0
        got = await asyncio.gather(*(one.until(KEPT + 3) for one in behind))
    assert got == [list(range(1, KEPT + 4))] * 9
    assert fixture.counted.most_together == 1


@pytest.mark.asyncio
async def test_who_follows_a_batch_gets_its_events_alone(fixture: Fixture) -> None:
    """INV-API-31."""
    await fixture.make(2)
    async with fixture.listen(0, "c" * 26) as other, fixture.listen(0, "b" * 26) as ours:
        await other.take()
        await ours.take()
        assert await ours.until(2) == [1, 2]
        await fixture.store.tasks.create_batch(
            [TaskSpec(module=fixture.module)] * 3, None, "c" * 26
        )
        assert await other.until(5) == [3, 4, 5]
        await fixture.store.apply([Cancelled(fixture.tasks[0].id)])
        assert await ours.until(6) == [1, 2, 6]


@pytest.mark.asyncio
async def test_silence_is_broken_by_a_sign_of_life(fixture: Fixture) -> None:
    """INV-API-32."""
    async with fixture.listen(None) as listener:
        await listener.take()
        for _ in range(2):
            waiting = asyncio.create_task(listener.take())
            for _ in range(5):
                await asyncio.sleep(0)
            assert not waiting.done()
            await fixture.clock.advance(BEAT_S)
            assert await waiting == b": still here\nid: 0\n\n"


@pytest.mark.asyncio
async def test_a_store_that_is_away_is_waited_for(fixture: Fixture) -> None:
    """INV-API-31."""
    async with fixture.listen(0) as listener:
        await listener.take()
        fixture.away = True
        await fixture.make()
        waiting = asyncio.create_task(listener.until(1))
        await fixture.clock.advance(BEAT_S)
        fixture.away = False
        async with asyncio.timeout(DEADLINE_S):
            while not waiting.done():
                await fixture.clock.advance(BEAT_S)
        assert await waiting == [1]


@pytest.mark.asyncio
async def test_listeners_are_bounded_and_leave_room(fixture: Fixture) -> None:
    """INV-API-32."""
    feed = Feed(fixture.events, fixture.clock, 1)
    async with feed.running(unless):
        feed.check_room()
        one = feed.follow(None, None)
        await anext(one)
        with pytest.raises(ServiceUnavailable, match="1 listen to events already"):
            feed.check_room()
        await one.aclose()
        feed.check_room()
        two = feed.follow(None, None)
        await anext(two)
        waiting = asyncio.ensure_future(anext(two))
        await asyncio.sleep(0)
    with pytest.raises(StopAsyncIteration):
        await waiting
    assert [piece async for piece in feed.follow(0, None)] == []


async def exchange(
    api: Api, headers: dict[str, str], query: str, until: Callable[[bytes], bool]
) -> tuple[dict[str, object], bytes]:
    """Listen over ASGI until enough came, then leave; return headers and what came."""
    got: list[Message] = []
    enough, left = asyncio.Event(), asyncio.Event()

    async def send(message: Message) -> None:
        got.append(message)
        if until(b"".join(one.get("body", b"") for one in got)):
            enough.set()

    begun = False

    async def receive() -> Message:
        nonlocal begun
        if not begun:
            begun = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await left.wait()
        return {"type": "http.disconnect"}

    token = api.services.settings.layout.token_file.read_text()
    given = {"host": "127.0.0.1", "authorization": f"Bearer {token}", **headers}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/api/v1/events",
        "raw_path": b"/api/v1/events",
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "state": {},
    }
    asked = asyncio.create_task(api.app(scope, receive, send))
    async with asyncio.timeout(DEADLINE_S):
        await enough.wait()
        left.set()
        await asked
    start = got[0]
    heads = {name.decode(): value.decode() for name, value in start["headers"]}
    return heads | {"status": start["status"]}, b"".join(one.get("body", b"") for one in got)


@pytest.mark.asyncio
async def test_events_are_streamed_to_who_accepts_that(api: Api) -> None:
    """INV-API-30, INV-API-32."""
    for _ in range(3):
        await api.create()
    stream = {"accept": "text/event-stream"}

    head, text = await exchange(api, stream, "since=1", lambda text: b"id: 3\n" in text)
    assert (head["status"], head["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert head["cache-control"] == "no-store"
    assert numbers(text) == [2, 3]

    _, text = await exchange(
        api, {**stream, "last-event-id": "2"}, "since=1", lambda text: b"id: 3\n" in text
    )
    assert numbers(text) == [3]

    def ended(text: bytes) -> bool:
        if text:
            api.services.begin_stop()
        return bool(text)

    _, text = await exchange(api, stream, "", ended)
    assert text == b"retry: 2000\nid: 3\n\n"
