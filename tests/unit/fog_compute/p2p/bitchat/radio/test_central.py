"""The central's part over bleak, against a bleak that the test plays."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from fog_compute.p2p.bitchat.radio import central
from fog_compute.p2p.bitchat.radio.central import BleakCentral
from fog_compute.p2p.bitchat.radio.interface import (
    Closed,
    ConnectFailed,
    EventQueue,
    Opened,
    RadioUnavailable,
)

ADDRESS = "C0:00:00:00:00:08"


class Client:
    """A connection that gets on as the test lets it."""

    made: list[Client]
    go_on: asyncio.Event
    ends: asyncio.Event

    def __init__(self, _device: object, disconnected_callback: Any, **_: object) -> None:
        self.is_connected = False
        self.asked: list[str] = []
        self.ended: Callable[[object], None] = disconnected_callback
        characteristic = SimpleNamespace(max_write_without_response_size=509)
        self.services = SimpleNamespace(get_characteristic=lambda _: characteristic)
        self.made.append(self)

    async def connect(self) -> None:
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.asked.append("given up")
            await self.ends.wait()
            raise
        self.is_connected = True

    async def start_notify(self, *_: object) -> None:
        self.asked.append("subscribe")

    async def stop_notify(self, *_: object) -> None:
        self.asked.append("unsubscribe")

    async def disconnect(self) -> None:
        self.asked.append("disconnect")
        self.is_connected = False


class Scanner:
    """A scan that begins when the test lets it."""

    made: list[Scanner]

    def __init__(self, *_: object, **__: object) -> None:
        self.asked: list[str] = []
        self.made.append(self)

    async def start(self) -> None:
        await Client.go_on.wait()

    async def stop(self) -> None:
        self.asked.append("stop")


@pytest.fixture(autouse=True)
def bleak(monkeypatch: pytest.MonkeyPatch) -> None:
    made, errors = ModuleType("bleak"), ModuleType("bleak.exc")
    vars(made).update(BleakClient=Client, BleakScanner=Scanner)
    vars(errors).update(BleakError=type("BleakError", (Exception,), {}))
    monkeypatch.setitem(sys.modules, "bleak", made)
    monkeypatch.setitem(sys.modules, "bleak.exc", errors)
    monkeypatch.setattr(central, "STOP_S", 0.01)
    Client.made, Scanner.made = [], []
    Client.go_on, Client.ends = asyncio.Event(), asyncio.Event()


class Near:
    """A central that has found a device, which may come to us, too."""

    def __init__(self, timeout_s: float = 7.0) -> None:
        self.has_come = False
        self.forgotten = 0
        self.events = EventQueue()
        self.central = BleakCentral(self.events, timeout_s, self._forget, lambda _: self.has_come)
        device: Any = SimpleNamespace(address=ADDRESS, details={})
        self.central._heard(device, SimpleNamespace(rssi=-50))  # type: ignore[arg-type]

    async def _forget(self, _device: object) -> None:
        self.forgotten += 1

    async def told(self) -> object:
        while True:
            event = await self.events.next()
            if isinstance(event, Opened | Closed):
                return event


async def soon() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def begun(near: Near) -> asyncio.Task[None]:
    attempt = asyncio.create_task(near.central.connect(ADDRESS))
    await soon()
    assert Client.made
    return attempt


@pytest.mark.asyncio
async def test_an_attempt_to_somebody_who_came_meanwhile_does_not_end_what_they_made() -> None:
    near = Near()
    attempt = await begun(near)
    near.has_come = True
    attempt.cancel()
    await asyncio.wait({attempt})
    assert attempt.cancelled()
    (client,) = Client.made
    Client.go_on.set()
    await soon()
    assert client.is_connected
    assert {"given up", "disconnect", "subscribe"} & set(client.asked) == set()
    assert not near.forgotten
    client.is_connected = False
    client.ended(client)  # they leave
    await soon()
    assert client.asked[-1] == "disconnect"  # what bleak keeps is given back


@pytest.mark.asyncio
async def test_an_attempt_that_is_cancelled_otherwise_is_ended() -> None:
    near = Near()
    attempt = await begun(near)
    Client.ends.set()
    attempt.cancel()
    await asyncio.wait({attempt})
    assert Client.made[0].asked == ["given up", "disconnect"]
    assert near.forgotten == 1


@pytest.mark.asyncio
async def test_an_attempt_whose_end_is_never_told_is_over_all_the_same() -> None:
    near = Near(timeout_s=0.01)
    with pytest.raises(ConnectFailed, match="does not say"):
        await near.central.connect(ADDRESS)
    with pytest.raises(ConnectFailed, match="not found"):
        await near.central.connect(ADDRESS)


@pytest.mark.asyncio
async def test_a_link_that_ends_gives_back_what_bleak_keeps_for_it() -> None:
    near = Near()
    Client.go_on.set()
    for end in (lambda one: one.ended(one), lambda _: near.central.lose("it was pulled out")):
        near.central._devices[ADDRESS] = SimpleNamespace(address=ADDRESS)  # type: ignore[assignment]
        await near.central.connect(ADDRESS)
        opened = await near.told()
        assert isinstance(opened, Opened)
        client = Client.made[-1]
        assert client.asked == ["subscribe"]
        end(client)
        closed = await near.told()
        assert isinstance(closed, Closed)
        assert closed.link == opened.link
        await soon()
        assert client.asked == ["subscribe", "disconnect"]


@pytest.mark.asyncio
async def test_a_scan_that_begins_when_the_adapter_is_gone_is_none() -> None:
    near = Near()
    scan = asyncio.create_task(near.central.scan(True))
    await soon()
    near.central.lose("it was pulled out")
    Client.go_on.set()
    with pytest.raises(RadioUnavailable, match="went"):
        await scan
    await soon()
    await near.central.scan(True)
    assert [one.asked for one in Scanner.made] == [["stop"], []]
    near.central.lose("again")
    await soon()
    assert [one.asked for one in Scanner.made] == [["stop"], ["stop"]]


@pytest.mark.asyncio
async def test_a_scan_that_never_begins_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(central, "SCAN_S", 0.01)
    with pytest.raises(RadioUnavailable, match="no answer"):
        await Near().central.scan(True)
