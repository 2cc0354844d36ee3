"""The transport over virtual radios: what is said arrives, and what cannot be sent has a reason."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from random import Random
from typing import TypeVar
from unittest.mock import Mock

import pytest
import pytest_asyncio

from fog_compute.clock import SystemClock
from fog_compute.p2p.bitchat.ble_messages import PLAIN
from fog_compute.p2p.bitchat.ble_scanner import ScanPolicy
from fog_compute.p2p.bitchat.ble_transport import BitChatTransport
from fog_compute.p2p.bitchat.events import FrameSent, LinkDown, LinkUp, SendFrame
from fog_compute.p2p.bitchat.radio.bumble import BumbleRadio, open_hci
from fog_compute.p2p.bitchat.radio.interface import (
    Back,
    EventQueue,
    RadioEvent,
    RadioState,
    RadioUnavailable,
)
from fog_compute.p2p.bitchat.radio.off import OffRadio
from fog_compute.p2p.core.identity import Identity
from fog_compute.p2p.core.messages import (
    DecentralizedMessage,
    DeliveryState,
    MessageKind,
    Receipt,
)
from fog_compute.p2p.core.transport import (
    Arrival,
    CapabilitiesChanged,
    Outcome,
    OutcomeState,
    Reach,
    Reachability,
    TransportEvent,
    TransportInterface,
    TransportUnavailable,
)
from fog_compute.testing import ManualClock
from fog_compute.testing.ether import Ether

EventT = TypeVar("EventT", bound=TransportEvent)

QUICK = ScanPolicy(gap_s=(0.0, 0.05))


class Node:
    """A transport, and all that it told."""

    def __init__(self, ether: Ether, number: int, identity: Identity | None = None) -> None:
        self.identity = identity or Identity.new()
        self.ether, self.number = ether, number
        self.radio = ether.radio(number, interval_ms=20.0)
        self.transport = BitChatTransport(
            self.identity,
            name=f"node {number}",
            radio=self.radio,
            scan=QUICK,
            rng=Random(number),
        )
        self.told: list[TransportEvent] = []
        self.reader: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.transport.initialize()
        self.reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        while True:
            self.told.append(await self.transport.receive())

    async def stop(self) -> None:
        if self.reader is not None:
            self.reader.cancel()
        await self.transport.shutdown()

    @property
    def fingerprint(self) -> str:
        return self.identity.fingerprint

    def arrivals(self) -> list[DecentralizedMessage]:
        return [event.message for event in self.told if isinstance(event, Arrival)]

    async def hears(self, condition: Callable[[TransportEvent], bool]) -> TransportEvent:
        async with asyncio.timeout(15):
            while True:
                for event in self.told:
                    if condition(event):
                        return event
                await asyncio.sleep(0.005)

    async def reaches(self, other: Node, reach: Reach) -> None:
        wanted = other.fingerprint
        await self.hears(
            lambda event: (
                isinstance(event, Reachability) and (event.peer, event.reach) == (wanted, reach)
            )
        )

    async def gets(self, body: bytes) -> Arrival:
        event = await self.hears(
            lambda event: isinstance(event, Arrival) and event.message.body == body
        )
        assert isinstance(event, Arrival)
        return event


@pytest_asyncio.fixture
async def line() -> AsyncIterator[Callable[[int], Awaitable[list[Node]]]]:
    made: list[Node] = []

    async def make(count: int) -> list[Node]:
        ether = Ether(lambda one, other: abs(one - other) == 1)
        made.extend(Node(ether, number) for number in range(count))
        for node in made:
            await node.start()
        for node in made:
            for other in made:
                if other is not node:
                    direct = abs(node.number - other.number) == 1
                    await node.reaches(other, Reach.DIRECT if direct else Reach.MESH)
        return made

    yield make
    for node in made:
        await node.stop()


def text(body: str, sender: Node, number: int = 0, **more: object) -> DecentralizedMessage:
    return DecentralizedMessage(
        body=body.encode(),
        id=f"{sender.fingerprint[:24]}{number:08x}",
        sender=sender.fingerprint,
        created_ms=1_700_000_000_000,
        expires_ms=1_700_000_600_000,
        **more,  # type: ignore[arg-type]
    )


@pytest.mark.asyncio
async def test_who_announces_another_s_noise_key_is_heard_and_not_believed() -> None:
    """INV-BITCHAT-64."""
    eve, bob = Identity.new(), Identity.new()
    eve_as_bob = Mock(
        wraps=eve,
        fingerprint=bob.fingerprint,
        noise_public=bob.noise_public,
        noise_secret=eve.noise_secret,
        signing_public=eve.signing_public,
    )
    ether = Ether(lambda _one, _other: True)
    impostor, hearer = Node(ether, 0, eve_as_bob), Node(ether, 1)
    for node in (impostor, hearer):
        await node.start()
    try:
        await impostor.reaches(hearer, Reach.DIRECT)
        await impostor.transport.broadcast(text("I am Bob", impostor))
        arrival = await hearer.gets(b"I am Bob")
        assert (arrival.message.sender, arrival.sender_verified) == (bob.fingerprint, False)
    finally:
        for node in (impostor, hearer):
            await node.stop()


@pytest.mark.asyncio
async def test_line_of_three_talks_to_all_and_to_one_with_receipts(
    line: Callable[[int], Awaitable[list[Node]]],
) -> None:
    first, middle, last = await line(3)
    assert isinstance(first.transport, TransportInterface)
    assert first.transport.get_capabilities().available

    assert await first.transport.broadcast(text("to all", first)) == 1
    arrival = await last.gets(b"to all")
    assert (arrival.message.sender, arrival.sender_verified) == (first.fingerprint, True)
    assert arrival.message.receiver_id is None
    await middle.gets(b"to all")

    said = text("to one", first, 1)
    outcome = await first.transport.send(said, last.fingerprint)
    assert outcome.state in (OutcomeState.QUEUED, OutcomeState.ACCEPTED)
    heard = (await last.gets(b"to one")).message
    assert (heard.id, heard.sender, heard.receiver_id) == (
        said.id,
        first.fingerprint,
        last.fingerprint,
    )
    await first.hears(
        lambda event: event == Outcome(said.id, last.fingerprint, OutcomeState.ACCEPTED)
    )

    body = Receipt(DeliveryState.DELIVERED, (said.id, "another")).encode()
    receipt = text("", last, 2, kind=MessageKind.RECEIPT)
    receipt = DecentralizedMessage(
        body=body, id=receipt.id, sender=last.fingerprint, kind=MessageKind.RECEIPT
    )
    outcome = await last.transport.send(receipt, first.fingerprint)
    assert outcome.state is OutcomeState.ACCEPTED, "the session is there already"
    for one in (said.id, "another"):
        got = await first.gets(Receipt(DeliveryState.DELIVERED, (one,)).encode())
        assert got.message.kind is MessageKind.RECEIPT

    long = text("long " * 200, last, 3, room="a room")
    await last.transport.send(long, first.fingerprint)
    assert (await first.gets(long.body)).message == DecentralizedMessage(
        body=long.body,
        id=long.id,
        sender=last.fingerprint,
        receiver_id=first.fingerprint,
        room="a room",
        created_ms=long.created_ms,
        expires_ms=long.expires_ms,
    )
    assert [one.body for one in middle.arrivals()] == [b"to all"]


@pytest.mark.asyncio
async def test_neighbour_that_leaves_is_told_and_found_again(
    line: Callable[[int], Awaitable[list[Node]]],
) -> None:
    first, second = await line(2)
    await second.stop()
    await first.reaches(second, Reach.NONE)
    first.told.clear()
    outcome = await first.transport.send(text("too late", first), second.fingerprint)
    assert outcome.state is OutcomeState.FAILED
    assert "not near" in outcome.reason
    await second.start()
    await first.reaches(second, Reach.DIRECT)


@pytest.mark.asyncio
async def test_message_for_somebody_away_is_carried_by_who_meets_them_later(
    line: Callable[[int], Awaitable[list[Node]]],
) -> None:
    first, middle, last = await line(3)
    await last.stop()
    await first.hears(
        lambda event: (
            isinstance(event, Reachability)
            and event.peer == last.fingerprint
            and event.reach < Reach.MESH
        )
    )

    outcome = await first.transport.send(text("for later", first, 7), last.fingerprint)
    assert outcome.state is OutcomeState.ACCEPTED
    mesh = middle.transport.mesh
    assert mesh is not None
    async with asyncio.timeout(15):
        while mesh.counts["mail_carried"] < 1:
            await asyncio.sleep(0.005)
    await first.stop()

    await last.start()
    arrival = await last.gets(b"for later")
    assert (arrival.message.sender, arrival.sender_verified) == (first.fingerprint, True)
    assert arrival.message.id == text("for later", first, 7).id


@pytest.mark.asyncio
async def test_what_bluetooth_does_not_carry_is_refused_with_a_reason(
    line: Callable[[int], Awaitable[list[Node]]],
) -> None:
    first, second = await line(2)
    send = first.transport.send
    private = await send(text("x", first, requires_privacy=True), second.fingerprint)
    assert private.permanent
    assert "others see" in private.reason
    large = await send(
        DecentralizedMessage(body=bytes((1 << 20) + 1), kind=MessageKind.FILE, id="large"),
        second.fingerprint,
    )
    assert (large.state, large.permanent) == (OutcomeState.FAILED, True)
    assert "1 MiB" in large.reason
    with pytest.raises(TransportUnavailable, match="only plain text"):
        await first.transport.broadcast(text("x", first, room="some room"))
    too_large = DecentralizedMessage(body=bytes((1 << 20) + 1), kind=MessageKind.FILE)
    with pytest.raises(TransportUnavailable, match="1 to"):
        await first.transport.broadcast(too_large)


@pytest.mark.asyncio
async def test_without_an_adapter_it_says_why() -> None:
    # INV-BITCHAT-73
    transport = BitChatTransport(radio=BumbleRadio(open_hci("tcp-client:127.0.0.1:9")))
    assert not transport.get_capabilities().available
    with pytest.raises(TransportUnavailable, match="controller does not answer"):
        await transport.initialize()
    assert "does not answer" in (transport.get_capabilities().unavailable_because or "")
    for call in (
        transport.send(DecentralizedMessage(body=b"x", id="1"), "ab" * 32),
        transport.receive(),
        transport.broadcast(DecentralizedMessage(body=b"x", id="1")),
    ):
        with pytest.raises(TransportUnavailable, match="does not run"):
            await call
    await transport.shutdown()


@pytest.mark.asyncio
async def test_adapter_that_is_pulled_out_ends_the_run_and_another_start_begins_anew(
    line: Callable[[int], Awaitable[list[Node]]],
) -> None:
    first, second = await line(2)
    hci = first.radio._hci
    assert hci is not None
    assert first.reader is not None
    first.ether.unplug(hci.source)
    with pytest.raises(TransportUnavailable, match="unplugged"):
        await asyncio.wait_for(first.reader, 10)
    assert CapabilitiesChanged(first.transport.type) in first.told
    assert "unplugged" in (first.transport.get_capabilities().unavailable_because or "")
    await second.reaches(first, Reach.NONE)
    first.told.clear()
    await first.start()
    await first.reaches(second, Reach.DIRECT)


class Wire:
    """A link that is no Bluetooth: two transports joined by function calls."""

    def __init__(self, number: int) -> None:
        self.link = (1 << 40) + number
        self.here: BitChatTransport | None = None
        self.there: Wire | None = None
        self.ended = 0

    async def start(self) -> None:
        assert self.here is not None
        self.here.tell(LinkUp(self.link, 512, initiated=True))

    async def stop(self) -> None:
        self.ended += 1

    def owns(self, link: int) -> bool:
        return link >= 1 << 40

    def send(self, frame: SendFrame) -> None:
        asyncio.get_running_loop().call_soon(self._deliver, frame)

    def disconnect(self, link: int, leave_s: float = 0.0) -> None:
        self.ended += 1

    def _deliver(self, frame: SendFrame) -> None:
        from fog_compute.p2p.bitchat.events import FrameReceived

        assert self.here is not None
        assert self.there is not None
        assert self.there.here is not None
        self.there.here.tell(FrameReceived(self.there.link, frame.data))
        self.here.tell(FrameSent(self.link, frame.token, ok=True))


@pytest.mark.asyncio
async def test_other_links_carry_the_mesh_where_there_is_no_adapter() -> None:
    # INV-BITCHAT-73
    wires = [Wire(1), Wire(2)]
    wires[0].there, wires[1].there = wires[1], wires[0]
    ends = [
        BitChatTransport(
            radio=BumbleRadio(open_hci("tcp-client:127.0.0.1:9")), others=wire, rng=Random(1)
        )
        for wire in wires
    ]
    for end, wire in zip(ends, wires, strict=True):
        wire.here = end
        await end.initialize()
        assert end.get_capabilities().available
    async with asyncio.timeout(10):
        while not isinstance(await ends[0].receive(), Reachability):
            pass
        await ends[0].broadcast(DecentralizedMessage(body=b"by wire", id="1", media_type=PLAIN))
        while not isinstance(event := await ends[1].receive(), Arrival):
            pass
    assert event.message.body == b"by wire"
    photo = DecentralizedMessage(
        body=b"photo" * 100, kind=MessageKind.FILE, id="2", name="a.jpg", media_type="image/jpeg"
    )
    async with asyncio.timeout(10):
        await ends[0].broadcast(photo)
        while not isinstance(event := await ends[1].receive(), Arrival):
            pass
    found = event.message
    assert (found.body, found.name, found.media_type) == (photo.body, "a.jpg", "image/jpeg")
    assert (found.kind, found.receiver_id) == (MessageKind.FILE, None)
    for end in ends:
        await end.shutdown()
    assert all(wire.ended for wire in wires)


class Late(SystemClock):
    """A clock that is ten minutes slow."""

    def now(self) -> datetime:
        return super().now() - timedelta(minutes=10)


@pytest.mark.asyncio
async def test_node_whose_clock_is_wrong_says_that_nobody_near_can_be_talked_to() -> None:
    """INV-BITCHAT-94."""
    wires = [Wire(1), Wire(2)]
    wires[0].there, wires[1].there = wires[1], wires[0]
    ends = [
        BitChatTransport(
            radio=BumbleRadio(open_hci("tcp-client:127.0.0.1:9")),
            others=wire,
            rng=Random(1),
            clock=clock,
        )
        for wire, clock in zip(wires, (Late(), SystemClock()), strict=True)
    ]
    for end, wire in zip(ends, wires, strict=True):
        wire.here = end
        await end.initialize()
    async with asyncio.timeout(10):
        while "clock" not in (why := ends[0].get_capabilities().unavailable_because or ""):
            await ends[0].receive()
    assert why.startswith("this machine's clock is 10 minutes behind those of all who are near")
    for end in ends:
        await end.shutdown()


class LateRadio(OffRadio):
    """An adapter that is plugged in after a while, and hears nobody; its driver has a fault."""

    def __init__(self) -> None:
        super().__init__()
        self.tries = 0
        self.events = EventQueue()

    async def start(self) -> None:
        self.tries += 1
        if self.tries == 3:
            raise RuntimeError("a fault")
        if self.tries < 4:
            raise RadioUnavailable("there is no adapter: plug one in")
        self.events.put(Back())

    async def next(self) -> RadioEvent:
        return await self.events.next()

    def state(self) -> RadioState:
        return RadioState(True, False, limited_because="others cannot find it")


class Others:
    """Links of another kind, which carry nothing."""

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    def owns(self, link: int) -> bool:
        return link == 1 << 40

    def send(self, frame: SendFrame) -> None:
        pass

    def disconnect(self, link: int, leave_s: float = 0.0) -> None:
        pass


@pytest.mark.asyncio
async def test_an_adapter_that_comes_later_is_found_while_other_links_go_on() -> None:
    clock, radio = ManualClock(), LateRadio()
    end = BitChatTransport(radio=radio, others=Others(), rng=Random(1), clock=clock)
    await end.initialize()
    assert "plug one in" in str(end.get_capabilities().unavailable_because)

    end.tell(LinkUp(1 << 40, 512, initiated=False))
    assert end.get_capabilities().available  # over a link of another kind
    end.tell(LinkDown(1 << 40))
    assert "plug one in" in str(end.get_capabilities().unavailable_because)

    for _ in range(10):
        await clock.advance(10)
        for _ in range(10):
            await asyncio.sleep(0)
    assert radio.tries == 4
    assert end.get_capabilities().available
    assert end.get_capabilities().limited_because == "others cannot find it"
    await end.shutdown()
