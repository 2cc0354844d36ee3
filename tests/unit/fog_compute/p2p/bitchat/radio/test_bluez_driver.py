"""The driver over BlueZ, against what BlueZ 5.66 was seen to tell: objects come, go and change."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from fog_compute.p2p.bitchat.radio import bluez, bluez_bus, bluez_offer
from fog_compute.p2p.bitchat.radio.bluez import BluezRadio
from fog_compute.p2p.bitchat.radio.bluez_bus import ADAPTER, DEVICE
from fog_compute.p2p.bitchat.radio.bluez_reasons import ADVERTISING, GATT, Block
from fog_compute.p2p.bitchat.radio.interface import (
    Back,
    Closed,
    Gone,
    Opened,
    RadioEvent,
    RadioUnavailable,
    Received,
)

PHONE, OTHER = (f"/org/bluez/hci0/dev_C0_00_00_00_00_0{number}" for number in (8, 9))


class Bus:
    """A connection to a BlueZ whose objects the test changes."""

    made: list[Bus]

    def __init__(self, changed: Any) -> None:
        self.changed = changed
        self.objects: dict[str, dict[str, dict[str, Any]]] = {}
        self.asked: list[tuple[str, str]] = []
        self.there, self.lost = True, False
        self.plug()
        self.made.append(self)

    def plug(self, name: str = "hci0", *, on: bool = True) -> None:
        self.objects[f"/org/bluez/{name}"] = {
            ADAPTER: {"Powered": on},
            GATT: {},
            ADVERTISING: {"SupportedInstances": 4, "ActiveInstances": 0},
        }

    def connected(self, path: str, yes: bool = True) -> None:
        self.objects[path] = {DEVICE: {"Address": path[-17:].replace("_", ":"), "Connected": yes}}
        self.changed()

    async def open(self) -> Bus:
        return self

    async def close(self) -> None:
        self.there = False

    def export(self, path: str, _object: object) -> None:
        assert path.startswith("/org/fogcompute/bitchat")

    async def call(self, path: str, _interface: str, member: str, *_rest: object) -> list[Any]:
        self.asked.append((member, path))
        return []

    def get(self, path: str, interface: str, name: str) -> object:
        return self.objects.get(path, {}).get(interface, {}).get(name)

    def interfaces(self, path: str) -> dict[str, dict[str, Any]]:
        return self.objects.get(path, {})

    def having(self, interface: str) -> list[str]:
        return sorted(path for path, known in self.objects.items() if interface in known)

    def members(self) -> list[str]:
        return [member for member, _ in self.asked]


@pytest.fixture(autouse=True)
def bluez_there(monkeypatch: pytest.MonkeyPatch) -> None:
    Bus.made = []
    monkeypatch.setattr(bluez_bus, "BluezBus", Bus)
    monkeypatch.setattr(bluez_offer, "VISIBLE_S", 0.0)
    monkeypatch.setattr(bluez, "read_block", lambda _: Block.NONE)


@pytest_asyncio.fixture
async def radio() -> AsyncIterator[BluezRadio]:
    made = BluezRadio()
    await made.start()
    assert await made.next() == Back()
    yield made
    await made.stop()


async def subscribed(radio: BluezRadio, path: str) -> tuple[Opened, socket.socket]:
    """Let a device connect and subscribe; its link, and BlueZ's end of the socket."""
    Bus.made[0].connected(path)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    radio._subscribed(path, 517, ours)
    opened = await radio.next()
    assert isinstance(opened, Opened)
    return opened, theirs


async def events(radio: BluezRadio, number: int) -> list[RadioEvent]:
    async with asyncio.timeout(5):
        return [await radio.next() for _ in range(number)]


@pytest.mark.asyncio
async def test_stop_ends_the_links_of_others_while_bluez_still_listens(radio: BluezRadio) -> None:
    one, theirs = await subscribed(radio, PHONE)
    other, more = await subscribed(radio, OTHER)
    with theirs, more:
        await radio.stop()
    asked = Bus.made[0].asked
    assert {("Disconnect", PHONE), ("Disconnect", OTHER)} <= set(asked)
    told = await events(radio, 2)
    assert {event.link for event in told if isinstance(event, Closed)} == {one.link, other.link}


@pytest.mark.asyncio
async def test_advertisement_is_renewed_for_each_who_connects(radio: BluezRadio) -> None:
    bus = Bus.made[0]
    bus.connected(PHONE)
    await asyncio.sleep(0)
    assert "RegisterAdvertisement" not in bus.members()
    await radio.advertise(True)
    for path, times in ((OTHER, 2), (OTHER, 2), (PHONE, 2)):
        bus.connected(path)
        await asyncio.sleep(0)
        assert bus.members().count("RegisterAdvertisement") == times
    bus.connected(PHONE, False)
    bus.connected(PHONE)
    await asyncio.sleep(0)
    assert bus.members().count("RegisterAdvertisement") == 3


@pytest.mark.asyncio
async def test_adapter_that_is_switched_off_ends_all_and_on_begins_anew(radio: BluezRadio) -> None:
    bus = Bus.made[0]
    opened, theirs = await subscribed(radio, PHONE)
    with theirs:
        bus.plug(on=False)
        bus.changed()
        assert (await events(radio, 1))[0] == Closed(
            opened.link, "the Bluetooth adapter hci0 is switched off: bluetoothctl power on"
        )
    gone = await radio.next()
    assert isinstance(gone, Gone)
    assert not gone.final
    assert radio.state().unavailable_because == gone.reason
    with pytest.raises(RadioUnavailable, match="switched off"):
        await radio.advertise(True)
    bus.changed()
    del bus.objects["/org/bluez/hci0"]
    bus.changed()
    (anew,) = await events(radio, 1)
    assert isinstance(anew, Gone)
    assert "plug one in" in anew.reason
    bus.asked.clear()
    bus.plug()
    bus.changed()
    assert await events(radio, 1) == [Back()]
    assert bus.members() == [
        "UnregisterAdvertisement",
        "UnregisterApplication",
        "RegisterApplication",
    ]


@pytest.mark.asyncio
async def test_another_adapter_is_taken_in_place_of_one_that_goes(radio: BluezRadio) -> None:
    bus = Bus.made[0]
    bus.plug("hci1")
    del bus.objects["/org/bluez/hci0"]
    bus.changed()
    gone, back = await events(radio, 2)
    assert isinstance(gone, Gone)
    assert back == Back()
    await radio.advertise(True)
    assert ("RegisterAdvertisement", "/org/bluez/hci1") in bus.asked


@pytest.mark.asyncio
async def test_ends_of_bluetoothd_and_of_the_bus_are_told_apart(radio: BluezRadio) -> None:
    bus = Bus.made[0]
    bus.there = False
    bus.objects.clear()
    bus.changed()
    (gone,) = await events(radio, 1)
    assert isinstance(gone, Gone)
    assert (gone.final, "start bluetoothd" in gone.reason) == (False, True)
    bus.lost = True
    bus.changed()
    (gone,) = await events(radio, 1)
    assert isinstance(gone, Gone)
    assert (gone.final, "D-Bus" in gone.reason) == (True, True)


@pytest.mark.asyncio
async def test_device_is_known_by_what_it_writes_where_one_socket_is_for_all(
    radio: BluezRadio,
) -> None:
    radio._written(OTHER, b"early", 517)
    one, theirs = await subscribed(radio, PHONE)
    with theirs:
        Bus.made[0].connected(OTHER)
        radio._written(OTHER, b"here I am", 185)
        radio._written(PHONE, b"me, too", 517)
        opened, *frames = await events(radio, 4)
        assert isinstance(opened, Opened)
        assert (opened.mtu, opened.initiated) == (182, False)
        assert frames == [
            Received(opened.link, b"early"),
            Received(opened.link, b"here I am"),
            Received(one.link, b"me, too"),
        ]
        assert await radio.send(one.link, b"to all")
        assert await radio.send(opened.link, b"to all")
        assert await radio.send(opened.link, b"more")
        assert not await radio.send(opened.link, bytes(183))
        assert [theirs.recv(512), theirs.recv(512)] == [b"to all", b"more"]
        Bus.made[0].connected(OTHER, False)
        assert await events(radio, 1) == [Closed(opened.link, "disconnected")]
    assert await events(radio, 1) == [Closed(one.link, "not subscribed any more")]
