"""The driver over bumble, between virtual controllers, in real time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import pytest
import pytest_asyncio

from fog_compute.p2p.bitchat.radio.bumble import BumbleRadio, open_hci
from fog_compute.p2p.bitchat.radio.interface import (
    Back,
    Closed,
    ConnectFailed,
    Found,
    Gone,
    Opened,
    RadioEvent,
    RadioUnavailable,
    Received,
)
from fog_compute.testing.ether import Ether

EventT = TypeVar("EventT", bound=RadioEvent)
Make = Callable[[int], Awaitable[BumbleRadio]]


async def told(radio: BumbleRadio, kind: type[EventT]) -> EventT:
    """The next event of a kind; advertisements on the way are passed over."""
    async with asyncio.timeout(10):
        while True:
            event = await radio.next()
            if isinstance(event, kind):
                return event
            assert isinstance(event, Found | Back), event


@pytest.fixture
def ether() -> Ether:
    return Ether(lambda one, other: abs(one - other) == 1)


@pytest_asyncio.fixture
async def radio(ether: Ether) -> AsyncIterator[Make]:
    radios: list[BumbleRadio] = []

    async def make(number: int) -> BumbleRadio:
        made = ether.radio(number, interval_ms=20.0)
        radios.append(made)
        await made.start()
        return made

    yield make
    for made in radios:
        await made.stop()


async def linked(radio: Make) -> tuple[BumbleRadio, BumbleRadio, Opened, Opened]:
    """Two radios with a link: who connected, who was connected to, and their ends."""
    central, peripheral = await radio(1), await radio(2)
    await peripheral.advertise(True)
    await central.scan(True)
    found = await told(central, Found)
    await central.scan(False)
    await central.connect(found.address)
    return central, peripheral, await told(central, Opened), await told(peripheral, Opened)


@pytest.mark.asyncio
async def test_frames_go_both_ways_up_to_the_longest(radio: Make) -> None:
    central, peripheral, near, far = await linked(radio)
    assert (near.initiated, far.initiated) == (True, False)
    assert near.mtu == far.mtu == 512
    assert far.address == "C0:00:00:00:00:01"
    for size in (1, 20, 247, 512):
        data = bytes([size % 256]) * size
        assert await central.send(near.link, data)
        assert await told(peripheral, Received) == Received(far.link, data)
        assert await peripheral.send(far.link, data)
        assert await told(central, Received) == Received(near.link, data)
    assert not await central.send(near.link, bytes(513))
    assert not await peripheral.send(far.link, bytes(513))


@pytest.mark.asyncio
async def test_frames_keep_their_order_and_none_is_lost(radio: Make) -> None:
    central, peripheral, near, far = await linked(radio)

    async def say(by: BumbleRadio, link: int) -> None:
        for number in range(150):
            assert await by.send(link, number.to_bytes(2) * 200)

    await asyncio.gather(say(central, near.link), say(peripheral, far.link))
    for number in range(150):
        assert (await told(peripheral, Received)).data[:2] == number.to_bytes(2)
        assert (await told(central, Received)).data[:2] == number.to_bytes(2)


@pytest.mark.asyncio
async def test_only_who_is_in_range_is_found(radio: Make) -> None:
    first, middle, far = await radio(1), await radio(2), await radio(3)
    await far.advertise(True)
    await middle.advertise(True)
    await first.scan(True)
    await middle.scan(True)
    assert (await told(middle, Found)).address == "C0:00:00:00:00:03"
    for _ in range(3):
        assert (await told(first, Found)).address == "C0:00:00:00:00:02"


@pytest.mark.asyncio
async def test_others_find_a_node_that_somebody_has_connected_to(radio: Make) -> None:
    _, peripheral, _, _ = await linked(radio)
    third = await radio(3)
    await third.scan(True)
    found = await told(third, Found)
    await third.connect(found.address)
    assert not (await told(peripheral, Opened)).initiated


@pytest.mark.asyncio
async def test_link_that_ends_is_told_on_both_sides(radio: Make, ether: Ether) -> None:
    central, peripheral, near, far = await linked(radio)
    await central.disconnect(near.link)
    assert (await told(central, Closed)).link == near.link
    assert (await told(peripheral, Closed)).link == far.link
    assert not await central.send(near.link, b"too late")
    await central.disconnect(near.link)
    await central.connect("C0:00:00:00:00:02")
    again = await told(central, Opened)
    assert again.link != near.link
    await told(peripheral, Opened)
    ether.part(1, 2)
    assert (await told(central, Closed)).link == again.link
    await told(peripheral, Closed)


@pytest.mark.asyncio
async def test_attempt_at_nobody_is_given_up_when_cancelled_and_the_next_one_works(
    radio: Make,
) -> None:
    central, peripheral = await radio(1), await radio(2)
    attempt = asyncio.ensure_future(central.connect("C0:00:00:00:00:09"))
    await asyncio.sleep(0.05)
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    await peripheral.advertise(True)
    await central.connect("C0:00:00:00:00:02")
    await told(central, Opened)


@pytest.mark.asyncio
async def test_attempt_takes_nobody_elses_connection_for_its_own(radio: Make) -> None:
    middle, other = await radio(2), await radio(3)
    await middle.advertise(True)
    attempt = asyncio.ensure_future(middle.connect("C0:00:00:00:00:01"))
    await asyncio.sleep(0.05)
    await other.connect("C0:00:00:00:00:02")
    assert not (await told(middle, Opened)).initiated
    late = await radio(1)
    await late.advertise(True)
    await attempt
    opened = await told(middle, Opened)
    assert (opened.initiated, opened.address) == (True, "C0:00:00:00:00:01")


@pytest.mark.asyncio
async def test_attempt_at_nobody_ends_by_itself(ether: Ether) -> None:
    radio = BumbleRadio(ether.adapter(1), timeout_s=0.2)
    await radio.start()
    with pytest.raises(ConnectFailed, match="C0:00:00:00:00:09: no answer"):
        await radio.connect("C0:00:00:00:00:09")
    await radio.stop()


@pytest.mark.asyncio
async def test_adapter_that_is_pulled_out_closes_its_links_and_says_so(
    radio: Make, ether: Ether
) -> None:
    central, peripheral, _, far = await linked(radio)
    hci = peripheral._hci
    assert hci is not None
    ether.unplug(hci.source)
    assert (await told(peripheral, Closed)).link == far.link
    await told(central, Closed)
    gone = await told(peripheral, Gone)
    assert gone.final
    assert "unplugged" in gone.reason
    assert peripheral.state().unavailable_because == gone.reason
    with pytest.raises(RadioUnavailable, match="unplugged"):
        await peripheral.scan(True)
    await peripheral.stop()
    await peripheral.start()
    assert peripheral.state().peripheral


@pytest.mark.asyncio
async def test_controller_that_is_not_there_is_a_reason_and_no_crash() -> None:
    radio = BumbleRadio(open_hci("tcp-client:127.0.0.1:9"))
    assert not radio.state().central
    with pytest.raises(RadioUnavailable, match="controller does not answer"):
        await radio.start()
    assert "does not answer" in (radio.state().unavailable_because or "")
    with pytest.raises(ConnectFailed):
        await radio.connect("C0:00:00:00:00:09")
    assert not await radio.send(1, b"x")
    await radio.stop()
