"""What strangers cause is bounded before anybody reads it."""

from __future__ import annotations

import asyncio

import pytest

from fog_compute.p2p.bitchat.radio.interface import (
    Back,
    Closed,
    EventQueue,
    Found,
    Opened,
    Received,
    frame_limit,
)


@pytest.mark.asyncio
async def test_advertisements_wait_behind_the_rest_and_only_the_newest_of_each() -> None:
    queue = EventQueue(largest=8)
    queue.put(Found("a", -70))
    queue.put(Found("a", -50))
    queue.put(Back())
    assert await queue.next() == Back()
    assert await queue.next() == Found("a", -50)
    waiting = asyncio.ensure_future(queue.next())
    await asyncio.sleep(0)
    assert not waiting.done()
    queue.put(Back())
    assert await waiting == Back()


@pytest.mark.asyncio
async def test_floods_are_dropped_and_counted_and_links_are_told_all_the_same() -> None:
    queue = EventQueue(largest=8)
    for number in range(20):
        queue.put(Received(1, bytes([number])))
        queue.put(Found(f"{number}", -50))
    queue.put(Closed(1, "lost"))
    assert queue.dropped == 12 + 18
    came = [await queue.next() for _ in range(9)]
    assert came == [*(Received(1, bytes([number])) for number in range(8)), Closed(1, "lost")]
    assert [await queue.next(), await queue.next()] == [Found("0", -50), Found("1", -50)]
    queue.put(Received(2, b"room again"))
    assert await queue.next() == Received(2, b"room again")


def test_no_link_has_the_number_of_another() -> None:
    queue = EventQueue()
    assert len({queue.new_link() for _ in range(100)}) == 100
    assert Opened(1, "", 500, initiated=False) != Opened(2, "", 500, initiated=False)


@pytest.mark.parametrize(("mtu", "frame"), [(23, 20), (185, 182), (515, 512), (517, 512)])
def test_frame_leaves_room_for_the_header_and_fits_a_value(mtu: int, frame: int) -> None:
    assert frame_limit(mtu) == frame
