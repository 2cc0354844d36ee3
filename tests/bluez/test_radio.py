"""The driver over a real BlueZ: links, what they carry, and what ends them."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TypeVar

import pytest

from fog_compute.p2p.bitchat.radio.bluez import BluezRadio
from fog_compute.p2p.bitchat.radio.interface import (
    Back,
    Closed,
    ConnectFailed,
    Found,
    Gone,
    Opened,
    Radio,
    RadioEvent,
    RadioUnavailable,
    Received,
)
from tests.bluez.machine import PATIENCE_S, Machine, address

EventT = TypeVar("EventT", bound=RadioEvent)


async def told(radio: Radio, kind: type[EventT]) -> EventT:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            event = await radio.next()
            if isinstance(event, kind):
                return event
            assert isinstance(event, Found | Back) or (kind is Back and isinstance(event, Gone))


async def linked(central: Radio, peripheral: Radio) -> tuple[Opened, Opened]:
    """Let one find the other and connect; both ends of the link."""
    await peripheral.advertise(True)
    await central.scan(True)
    found = await told(central, Found)
    await central.scan(False)
    await central.connect(found.address)
    return await told(central, Opened), await told(peripheral, Opened)


async def exchange(one: Radio, link: int, other: Radio, end: int, *sizes: int) -> None:
    """Frames of these sizes, both ways."""
    for size in sizes:
        data = bytes([size % 256]) * size
        assert await one.send(link, data)
        assert await told(other, Received) == Received(end, data)
        assert await other.send(end, data)
        assert await told(one, Received) == Received(link, data)


@pytest.mark.asyncio
async def test_link_that_we_make_carries_frames_both_ways(machine: Machine) -> None:
    phone, ours = machine.air.radio(9), BluezRadio()
    await phone.start()
    await ours.start()
    near, far = await linked(ours, phone)
    assert (near.mtu, far.mtu, far.address) == (512, 512, f"{address(0)}/P")
    await exchange(ours, near.link, phone, far.link, 1, 20, 182, 510)
    for number in range(60):
        assert await ours.send(near.link, number.to_bytes(2) * 200)
        assert await phone.send(far.link, number.to_bytes(2) * 200)
    for number in range(60):
        assert (await told(phone, Received)).data[:2] == number.to_bytes(2)
        assert (await told(ours, Received)).data[:2] == number.to_bytes(2)
    await ours.disconnect(near.link)
    assert (await told(ours, Closed)).link == near.link
    assert (await told(phone, Closed)).link == far.link
    await ours.stop()
    await phone.stop()


@pytest.mark.asyncio
async def test_link_that_a_phone_makes_carries_frames_both_ways(machine: Machine) -> None:
    phone, ours = machine.air.radio(9), BluezRadio()
    await phone.start()
    await ours.start()
    near, far = await linked(phone, ours)
    assert (near.mtu, far.mtu, far.address) == (512, 512, "C0:00:00:00:00:09")
    await exchange(ours, far.link, phone, near.link, 1, 20, 182, 510)
    for number in range(60):
        assert await phone.send(near.link, number.to_bytes(2) * 200)
        assert await ours.send(far.link, number.to_bytes(2) * 200)
    for number in range(60):
        assert (await told(phone, Received)).data[:2] == number.to_bytes(2)
        assert (await told(ours, Received)).data[:2] == number.to_bytes(2)
    await ours.disconnect(far.link)
    assert (await told(ours, Closed)).link == far.link
    assert (await told(phone, Closed)).link == near.link
    await ours.stop()
    await phone.stop()


@pytest.mark.asyncio
async def test_two_adapters_talk(machine: Machine) -> None:
    await machine.plug(1)
    await machine.ready(0, 1)
    central, peripheral = BluezRadio("hci0"), BluezRadio("hci1")
    await central.start()
    await peripheral.start()
    near, far = await linked(central, peripheral)
    assert (near.address, far.address) == (address(1), address(0))
    await exchange(central, near.link, peripheral, far.link, 1, 182, 510)
    await asyncio.gather(central.stop(), peripheral.stop())


@pytest.mark.asyncio
@pytest.mark.parametrize("we_connect", [True, False])
async def test_link_that_is_lost_is_told_and_made_again(machine: Machine, we_connect: bool) -> None:
    phone, ours = machine.air.radio(9), BluezRadio()
    await phone.start()
    await ours.start()
    for _ in range(2):
        near, far = await (linked(ours, phone) if we_connect else linked(phone, ours))
        machine.air.part(0, 9)
        ended = {(await told(one, Closed)).link for one in (ours, phone)}
        assert ended == {near.link, far.link}
    await ours.stop()
    await phone.stop()


@pytest.mark.asyncio
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_bluetoothd_that_ends_and_comes_back(machine: Machine, how: signal.Signals) -> None:
    phone, ours = machine.air.radio(9), BluezRadio()
    await phone.start()
    await ours.start()
    near, far = await linked(phone, ours)
    machine.stop(how)
    assert (await told(ours, Closed)).link == far.link
    await told(ours, Gone)  # bluetoothd may take its adapters back first
    while "bluetoothd" not in (ours.state().unavailable_because or ""):
        await told(ours, Gone)
    machine.begin()
    await told(ours, Back)
    if how is signal.SIGTERM:
        assert (await told(phone, Closed)).link == near.link
    else:
        await phone.disconnect(near.link)
        await told(phone, Closed)
    near, far = await linked(phone, ours)
    await exchange(ours, far.link, phone, near.link, 100)
    await ours.stop()
    await phone.stop()


@pytest.mark.asyncio
async def test_adapter_that_is_switched_off_and_on(machine: Machine) -> None:
    phone, ours = machine.air.radio(9), BluezRadio()
    await phone.start()
    await ours.start()
    for _ in range(2):
        near, far = await linked(phone, ours)
        await machine.power(0, False)
        assert (await told(ours, Closed)).link == far.link
        gone = await told(ours, Gone)
        assert "hci0 is switched off" in gone.reason
        assert not gone.final
        assert (await told(phone, Closed)).link == near.link
        with pytest.raises(RadioUnavailable, match="switched off"):
            await ours.scan(True)
        await machine.power(0, True)
        await told(ours, Back)
    near, far = await linked(ours, phone)
    await exchange(ours, near.link, phone, far.link, 100)
    await ours.stop()
    await phone.stop()


@pytest.mark.asyncio
async def test_adapter_that_is_pulled_out_and_plugged_in(machine: Machine) -> None:
    phone, ours = machine.air.radio(9), BluezRadio()
    await phone.start()
    await ours.start()
    near, far = await linked(ours, phone)
    await machine.unplug(0)
    assert (await told(ours, Closed)).link == near.link
    await told(ours, Gone)  # it is switched off first
    while "plug one in" not in (ours.state().unavailable_because or ""):
        await told(ours, Gone)
    assert (await told(phone, Closed)).link == far.link
    await machine.plug(0)
    await told(ours, Back)
    near, far = await linked(phone, ours)
    await exchange(ours, far.link, phone, near.link, 100)
    await ours.stop()
    await phone.stop()


@pytest.mark.asyncio
async def test_short_frames_of_an_old_phone(machine: Machine) -> None:
    phone, ours = machine.air.radio(9), BluezRadio()
    await phone.start()
    await ours.start()
    assert phone._device is not None
    phone._device.gatt_server.max_mtu = 185
    near, far = await linked(ours, phone)
    assert near.mtu == 182
    assert not await ours.send(near.link, bytes(183))
    await exchange(ours, near.link, phone, far.link, 182)
    await ours.stop()
    await phone.stop()


@pytest.mark.asyncio
async def test_bluez_can_be_told_to_let_phones_send_less_at_once(machine: Machine) -> None:
    machine.stop()
    machine.configure("[GATT]\nExchangeMTU = 513\n")
    machine.begin()
    await machine.ready(0)
    phone, ours = machine.air.radio(9), BluezRadio()
    await phone.start()
    await ours.start()
    near, far = await linked(phone, ours)
    assert near.mtu == far.mtu == 510
    await exchange(phone, near.link, ours, far.link, 510)
    await ours.stop()
    await phone.stop()
    machine.configure("")


@pytest.mark.asyncio
async def test_two_phones_share_us(machine: Machine) -> None:
    phones, ours = [machine.air.radio(number) for number in (8, 9)], BluezRadio()
    await ours.start()
    ends: list[tuple[Opened, Opened]] = []
    for phone in phones:
        await phone.start()
        await ours.advertise(True)
        await phone.scan(True)
        found = await told(phone, Found)
        await phone.scan(False)
        await phone.connect(found.address)
        near = await told(phone, Opened)
        assert await phone.send(near.link, b"here I am")
        far = await told(ours, Opened)
        assert await told(ours, Received) == Received(far.link, b"here I am")
        ends.append((near, far))
    assert ends[0][1].address != ends[1][1].address
    for phone, (_, far) in zip(phones, ends, strict=True):
        assert await ours.send(far.link, far.address.encode())
        async with asyncio.timeout(PATIENCE_S):
            while (await told(phone, Received)).data != far.address.encode():
                pass  # some versions of BlueZ tell all who subscribed
    await phones[0].disconnect(ends[0][0].link)
    assert (await told(ours, Closed)).link == ends[0][1].link
    assert await ours.send(ends[1][1].link, b"still here")
    async with asyncio.timeout(PATIENCE_S):
        while (await told(phones[1], Received)).data != b"still here":
            pass
    assert await phones[1].send(ends[1][0].link, b"yes")
    assert (await told(ours, Received)).link == ends[1][1].link
    await ours.stop()
    for phone in phones:
        await phone.stop()


@pytest.mark.asyncio
async def test_stop_leaves_nothing_behind(machine: Machine) -> None:
    phone, ours = machine.air.radio(9), BluezRadio()
    await phone.start()
    for _ in range(2):
        await ours.start()
        near, _ = await linked(phone, ours)
        await ours.scan(True)
        await machine.until(lambda: machine.advertisements(0) == 1)
        await machine.until(lambda: bool(machine.get(0, "Discovering")))
        await ours.stop()
        assert (await told(phone, Closed)).link == near.link
        await machine.until(lambda: machine.advertisements(0) == 0)
        await machine.until(lambda: not machine.get(0, "Discovering"))
        await machine.until(lambda: not machine.controller(0).le_scan_enable)
        while not isinstance(await ours.next(), Closed):
            pass
    await phone.stop()


@pytest.mark.asyncio
async def test_second_program_on_the_adapter(machine: Machine) -> None:
    """Both offer the service; who connects finds it twice, and one of them gets the link."""
    phone, first, second = machine.air.radio(9), BluezRadio(), BluezRadio()
    await phone.start()
    await first.start()
    await first.advertise(True)
    await second.start()
    await second.advertise(True)
    assert second.state().peripheral
    await machine.until(lambda: machine.advertisements(0) == 2)
    await phone.scan(True)
    found = await told(phone, Found)
    await phone.scan(False)
    await phone.connect(found.address)
    near = await told(phone, Opened)
    done, waiting = await asyncio.wait(
        {asyncio.create_task(told(one, Opened)) for one in (first, second)},
        return_when=asyncio.FIRST_COMPLETED,
    )
    for task in waiting:
        task.cancel()
    (far,) = (task.result() for task in done)
    assert far.address == "C0:00:00:00:00:09"
    await first.stop()
    await second.stop()
    assert (await told(phone, Closed)).link == near.link
    await phone.stop()


@pytest.mark.asyncio
async def test_many_attempts_one_after_another(machine: Machine) -> None:
    """Given up, refused and good ones: none stands in the way of the next."""
    phones = [machine.air.radio(number, interval_ms=1_000.0) for number in (6, 7, 8)]
    ours = BluezRadio()
    await ours.start()
    for phone in phones:
        await phone.start()
        await phone.advertise(True)
    await ours.scan(True)
    found: set[str] = set()
    while len(found) < len(phones):
        found.add((await told(ours, Found)).address)
    await ours.scan(False)
    for each in sorted(found):
        attempt = asyncio.create_task(ours.connect(each))
        # One that is given up before Linux began it has Linux begin none any more.
        await machine.until(lambda: machine.controller(0).pending_le_connection is not None)
        attempt.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await attempt
    opened: set[str] = set()
    await ours.scan(True)
    while len(opened) < len(phones):
        event = await told(ours, Found)
        if event.address in opened:
            continue
        await ours.scan(False)
        with contextlib.suppress(ConnectFailed):  # it was heard before the last attempt
            await ours.connect(event.address)
            opened.add((await told(ours, Opened)).address)
        await ours.scan(True)
    assert opened == found
    await ours.stop()
    for phone in phones:
        await phone.stop()
