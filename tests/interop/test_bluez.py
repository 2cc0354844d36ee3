"""The driver over BlueZ, against a mock of BlueZ that somebody else wrote."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TypeVar

import pytest

from fog_compute.p2p.bitchat.ble_transport import BitChatTransport
from fog_compute.p2p.bitchat.radio.bluez import BluezRadio
from fog_compute.p2p.bitchat.radio.interface import (
    Back,
    Closed,
    Found,
    Gone,
    Opened,
    RadioEvent,
    RadioUnavailable,
    Received,
)
from fog_compute.p2p.core.messages import DecentralizedMessage
from fog_compute.p2p.core.transport import Arrival, Reachability, TransportUnavailable
from tests.interop.bluez_mock import ADAPTERS, BluezMock

EventT = TypeVar("EventT", bound=RadioEvent)


async def told(radio: BluezRadio, kind: type[EventT]) -> EventT:
    async with asyncio.timeout(20):
        while True:
            event = await radio.next()
            if isinstance(event, kind):
                return event
            assert isinstance(event, Found | Back) or (kind is Back and isinstance(event, Gone))


async def started(adapter: str) -> BluezRadio:
    """The driver, once the mock has said what it has."""
    radio = BluezRadio(adapter)
    async with asyncio.timeout(20):
        while True:
            try:
                await radio.start()
                return radio
            except RadioUnavailable:
                await asyncio.sleep(0.05)


@pytest.mark.asyncio
async def test_two_adapters_find_each_other_and_frames_go_both_ways(bluez: BluezMock) -> None:
    central, peripheral = await started("hci0"), await started("hci1")
    await peripheral.advertise(True)
    await central.scan(True)
    found = await told(central, Found)
    assert found.address == ADAPTERS[1]
    await central.scan(False)
    await central.connect(found.address)
    near, far = await told(central, Opened), await told(peripheral, Opened)
    assert (near.initiated, far.initiated, far.address) == (True, False, ADAPTERS[0])
    for size in (1, 182, min(near.mtu, far.mtu)):
        assert await central.send(near.link, b"c" * size)
        assert await told(peripheral, Received) == Received(far.link, b"c" * size)
        assert await peripheral.send(far.link, b"p" * size)
        assert await told(central, Received) == Received(near.link, b"p" * size)
    assert not await peripheral.send(far.link, bytes(far.mtu + 1))
    for number in range(200):
        assert await central.send(near.link, number.to_bytes(2) * 50)
        assert await peripheral.send(far.link, number.to_bytes(2) * 50)
    for number in range(200):
        assert (await told(peripheral, Received)).data[:2] == number.to_bytes(2)
        assert (await told(central, Received)).data[:2] == number.to_bytes(2)
    await central.disconnect(near.link)
    assert (await told(central, Closed)).link == near.link
    assert (await told(peripheral, Closed)).link == far.link
    await central.stop()
    await peripheral.stop()


@pytest.mark.asyncio
async def test_service_that_dies_and_comes_back_is_told_and_used_again(bluez: BluezMock) -> None:
    radio = await started("hci0")
    await told(radio, Back)
    bluez.restart()
    gone = await told(radio, Gone)
    assert not gone.final
    assert radio.state().unavailable_because
    await told(radio, Back)
    await radio.advertise(True)
    other = await started("hci1")
    await other.scan(True)
    assert (await told(other, Found)).address == ADAPTERS[0]
    await radio.stop()
    await other.stop()


@pytest.mark.asyncio
async def test_bus_that_ends_is_told_and_the_driver_wants_a_new_start(bluez: BluezMock) -> None:
    radio = await started("hci0")
    await radio.advertise(True)
    bluez.bus.kill()
    gone = await told(radio, Gone)
    assert gone.final
    assert "D-Bus" in gone.reason
    with pytest.raises(RadioUnavailable, match="D-Bus"):
        await radio.scan(True)
    with pytest.raises(RadioUnavailable, match="does not answer"):
        await radio.start()


@pytest.mark.asyncio
async def test_two_nodes_of_ours_find_each_other_and_talk(bluez: BluezMock) -> None:
    nodes = [BitChatTransport(name=name, radio=BluezRadio(name)) for name in ("hci0", "hci1")]
    for node in nodes:
        async with asyncio.timeout(20):
            while node.get_capabilities().unavailable_because is not None:
                with contextlib.suppress(TransportUnavailable):
                    await node.initialize()
                await asyncio.sleep(0.05)
    async with asyncio.timeout(30):
        while not isinstance(await nodes[0].receive(), Reachability):
            pass
        await nodes[0].broadcast(DecentralizedMessage(body=b"over BlueZ", id="1"))
        while not isinstance(event := await nodes[1].receive(), Arrival):
            pass
    assert event.message.body == b"over BlueZ"
    for node in nodes:
        await node.shutdown()


@pytest.mark.asyncio
async def test_adapter_that_is_not_there_is_a_reason(bluez: BluezMock) -> None:
    await (await started("hci1")).stop()
    radio = BluezRadio("hci7")
    with pytest.raises(RadioUnavailable, match="no Bluetooth adapter hci7"):
        await radio.start()
    assert "hci7" in (radio.state().unavailable_because or "")
