"""Orders that are ready together travel together, whoever is cancelled and whatever fails."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fog_compute.coordinator.outbox import Outbox, Parcel
from fog_compute.errors import ChannelError
from fog_compute.tasks import Limits
from fog_compute.tasks.messages import QUEUED, Accepted, Answer, AttemptStatus, Order
from fog_compute.tasks.wire import limits_to_wire

LIMITS = limits_to_wire(Limits())


def parcel(number: int, size: int = 100) -> Parcel:
    handle = number.to_bytes(16, "big")
    order = Order(handle, "wasm", bytes(32), (), None, {}, LIMITS, bytes(32))
    return Parcel(order, {}, 0, size)


def accepted(one: Parcel) -> Answer:
    return Accepted(AttemptStatus(one.order.handle, QUEUED))


class Line:
    """Sends messages when told, and remembers them."""

    def __init__(self, room: int = 1000, fails: frozenset[int] = frozenset()) -> None:
        self.sent: list[list[int]] = []
        self._room = room
        self._fails = fails

    async def send(self, parcels: Sequence[Parcel]) -> Sequence[Answer]:
        self.sent.append([int.from_bytes(one.order.handle, "big") for one in parcels])
        number = len(self.sent)
        for _ in range(number % 3):
            await asyncio.sleep(0)
        if number in self._fails:
            raise ChannelError("lost")
        return [accepted(one) for one in parcels[: self._room]]


@pytest.mark.asyncio
async def test_orders_of_one_moment_go_in_one_message() -> None:
    """INV-TASK-73."""
    outbox, line = Outbox(), Line()
    answers = await asyncio.gather(*(outbox.place(parcel(n), line.send) for n in range(20)))
    assert line.sent == [list(range(20))]
    assert answers == [accepted(parcel(n)) for n in range(20)]
    await outbox.place(parcel(99), line.send)
    assert line.sent[1:] == [[99]]


@pytest.mark.asyncio
async def test_a_message_is_bounded_in_bytes_and_in_orders() -> None:
    """INV-TASK-73."""
    outbox, line = Outbox(), Line()
    sizes = [300_000, 100_000, 100_000, 100_000, 10]
    await asyncio.gather(*(outbox.place(parcel(n, s), line.send) for n, s in enumerate(sizes)))
    assert line.sent == [[0], [1, 2], [3, 4]]
    line.sent.clear()
    await asyncio.gather(*(outbox.place(parcel(n), line.send) for n in range(150)))
    assert [len(one) for one in line.sent] == [64, 64, 22]


@pytest.mark.asyncio
async def test_an_answer_that_had_no_room_is_none_and_a_lost_message_an_error_for_all() -> None:
    outbox, line = Outbox(), Line(room=2)
    placing = [outbox.place(parcel(n), line.send) for n in range(4)]
    assert await asyncio.gather(*placing) == [accepted(parcel(0)), accepted(parcel(1)), None, None]
    line = Line(fails=frozenset({1}))
    placing = [outbox.place(parcel(n), line.send) for n in range(3)]
    outcomes = await asyncio.gather(*placing, return_exceptions=True)
    assert all(isinstance(one, ChannelError) for one in outcomes)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=30),
    st.sets(st.integers(1, 6)),
)
@settings(deadline=None)
def test_whoever_is_cancelled_the_others_are_sent_once(
    plan: list[tuple[int, bool]], fails: set[int]
) -> None:
    """INV-TASK-73: each order that is not cancelled is in exactly one message."""

    async def play() -> None:
        outbox, line = Outbox(), Line(fails=frozenset(fails))
        placing = []
        for number, (turns, _) in enumerate(plan):
            placing.append(asyncio.create_task(outbox.place(parcel(number, 90_000), line.send)))
            for _ in range(turns):
                await asyncio.sleep(0)
        for task, (_, cancelled) in zip(placing, plan, strict=True):
            if cancelled:
                task.cancel()
        async with asyncio.timeout(10):
            outcomes = await asyncio.gather(*placing, return_exceptions=True)
        sent = [number for message in line.sent for number in message]
        assert len(sent) == len(set(sent))
        for number, outcome in enumerate(outcomes):
            if not isinstance(outcome, BaseException):
                assert outcome == accepted(parcel(number))
            assert number in sent or isinstance(outcome, asyncio.CancelledError)
        assert await outbox.place(parcel(500), Line().send) == accepted(parcel(500))

    asyncio.run(play())
