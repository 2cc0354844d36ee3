"""Whole nodes over a real BlueZ: announces, texts, receipts, a file, and going on after trouble."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import pytest
import pytest_asyncio

from fog_compute.p2p.bitchat.ble_transport import BitChatTransport
from fog_compute.p2p.bitchat.radio.bluez import BluezRadio
from fog_compute.p2p.bitchat.radio.interface import Radio
from fog_compute.p2p.core.contacts import PeerBook
from fog_compute.p2p.core.identity import Identity
from fog_compute.p2p.core.messages import (
    DecentralizedMessage,
    DeliveryState,
    MessageKind,
    Receipt,
)
from fog_compute.p2p.core.transport import (
    Arrival,
    Reach,
    Reachability,
    TransportEvent,
)
from tests.bluez.machine import Machine

SLOW_S = 60


class Node:
    """A transport, and what it told."""

    def __init__(self, name: str, radio: Radio) -> None:
        self.identity = Identity.new()
        self.book = PeerBook(own=self.identity.fingerprint)
        self.transport = BitChatTransport(self.identity, name=name, book=self.book, radio=radio)
        self.told: list[TransportEvent] = []
        self._reader: asyncio.Task[None] | None = None
        self._numbers = 0

    async def start(self) -> None:
        await self.transport.initialize()
        self._reader = asyncio.create_task(self._read())

    async def stop(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
        await self.transport.shutdown()

    async def _read(self) -> None:
        while True:
            self.told.append(await self.transport.receive())

    async def hears(self, what: type[TransportEvent], /, **wanted: object) -> Any:
        async with asyncio.timeout(SLOW_S):
            while True:
                for event in self.told:
                    if isinstance(event, what) and all(
                        getattr(getattr(event, "message", event), name) == value
                        for name, value in wanted.items()
                    ):
                        self.told.remove(event)
                        return event
                await asyncio.sleep(0.05)

    def message(self, body: bytes, **more: Any) -> DecentralizedMessage:
        self._numbers += 1
        now_ms = int(time.time() * 1000)
        return DecentralizedMessage(
            body=body,
            id=f"{self.identity.fingerprint[:24]}{self._numbers:08x}",
            sender=self.identity.fingerprint,
            created_ms=now_ms,
            expires_ms=now_ms + 600_000,
            **more,
        )

    async def says(self, other: Node, body: bytes) -> None:
        """A private message, and the other's receipt for it."""
        said = self.message(body)
        async with asyncio.timeout(SLOW_S):
            while not any(
                isinstance(one, Arrival) and one.message.body == body for one in other.told
            ):
                await self.transport.send(said, other.identity.fingerprint)  # as the outbox does
                await asyncio.sleep(5.0)
        arrival: Arrival = await other.hears(Arrival, body=body)
        assert arrival.sender_verified
        assert arrival.message.sender == self.identity.fingerprint
        receipt = Receipt(DeliveryState.DELIVERED, (arrival.message.id,)).encode()
        answer = other.message(receipt, kind=MessageKind.RECEIPT)
        await other.transport.send(answer, self.identity.fingerprint)
        await self.hears(Arrival, kind=MessageKind.RECEIPT)


@pytest_asyncio.fixture
async def nodes(machine: Machine) -> AsyncIterator[tuple[Node, Node]]:
    """Ours over BlueZ, and one over bumble that stands for a phone."""
    made = Node("fog", BluezRadio()), Node("phone", machine.air.radio(9))
    for node in made:
        await node.start()
    yield made
    for node in made:
        await node.stop()


async def near(one: Node, other: Node) -> None:
    await one.hears(Reachability, peer=other.identity.fingerprint, reach=Reach.DIRECT)
    await other.hears(Reachability, peer=one.identity.fingerprint, reach=Reach.DIRECT)


@pytest.mark.asyncio
async def test_announces_texts_receipts_and_a_file(nodes: tuple[Node, Node]) -> None:
    ours, phone = nodes
    await near(ours, phone)
    peer = ours.book.get(phone.identity.fingerprint)
    assert peer is not None
    assert peer.name == "phone"
    for one, other in ((ours, phone), (phone, ours)):
        assert await one.transport.broadcast(one.message(b"to all who are near")) >= 1
        await other.hears(Arrival, body=b"to all who are near")
        for size in (10, 100, 180, 250):  # padded to 256 and 512
            await one.says(other, b"m" * size)
    content = Random(1).randbytes(100_000)
    for one, other in ((ours, phone), (phone, ours)):
        begun = time.perf_counter()
        file = one.message(content, kind=MessageKind.FILE)
        await one.transport.send(file, other.identity.fingerprint)
        arrival: Arrival = await other.hears(Arrival, kind=MessageKind.FILE)
        assert arrival.message.body == content
        took = time.perf_counter() - begun
        print(f"100 kB: {took:.1f} s")  # noqa: T201 - a figure


@pytest.mark.asyncio
async def test_two_adapters_of_one_machine_talk(machine: Machine) -> None:
    await machine.plug(1)
    await machine.ready(0, 1)
    nodes = Node("zero", BluezRadio("hci0")), Node("one", BluezRadio("hci1"))
    for node in nodes:
        await node.start()
    await near(*nodes)
    for one, other in (nodes, nodes[::-1]):
        for size in (10, 180, 250):
            await one.says(other, b"m" * size)
    for node in nodes:
        await node.stop()


@pytest.mark.asyncio
async def test_trouble_is_over_when_it_is_over(machine: Machine, nodes: tuple[Node, Node]) -> None:
    ours, phone = nodes
    await near(ours, phone)
    await ours.says(phone, b"before")
    machine.air.part(0, 9)
    await near(ours, phone)
    await phone.says(ours, b"after the link was lost")
    machine.stop(signal.SIGKILL)
    await ours.hears(Reachability, peer=phone.identity.fingerprint, reach=Reach.NONE)
    machine.begin()
    await near(ours, phone)
    await ours.says(phone, b"after bluetoothd came back")
    await machine.ready(0)
    await machine.power(0, False)
    await ours.hears(Reachability, peer=phone.identity.fingerprint, reach=Reach.NONE)
    await machine.until(
        lambda: "switched off" in (ours.transport.get_capabilities().unavailable_because or "")
    )
    await machine.power(0, True)
    await near(ours, phone)
    await phone.says(ours, b"after the adapter was on again")
    await machine.unplug(0)
    await ours.hears(Reachability, peer=phone.identity.fingerprint, reach=Reach.NONE)
    await machine.plug(0)
    await near(ours, phone)
    await ours.says(phone, b"after the adapter was there again")
