"""Links over a radio: frames in their order, adapters that come, go and refuse."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from random import Random

import pytest
import pytest_asyncio

from fog_compute.clock import SystemClock
from fog_compute.p2p.bitchat.ble_links import AdapterChanged, BleLinks, LinkNews
from fog_compute.p2p.bitchat.ble_scanner import ScanPolicy
from fog_compute.p2p.bitchat.events import (
    FrameReceived,
    FrameSent,
    LinkDown,
    LinkUp,
    SendFrame,
    Wake,
    WakeAt,
)
from fog_compute.p2p.bitchat.radio.interface import (
    Back,
    Closed,
    ConnectFailed,
    EventQueue,
    Found,
    Gone,
    Opened,
    RadioEvent,
    RadioState,
    RadioUnavailable,
    Received,
)
from fog_compute.testing.ether import Ether
from fog_compute.testing.mesh.policies import Delivered, OurFlood, Say

CLOCK = SystemClock()
QUICK = ScanPolicy(gap_s=(0.0, 0.05), refused_s=0.01)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


class Script:
    """A radio that does as the test says, and writes down what it was asked."""

    def __init__(self) -> None:
        self.events = EventQueue()
        self.asked: list[object] = []
        self.refuses = False
        self.taken: list[bytes] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.scans = asyncio.Event()
        self.scans.set()
        self.stopped = 0

    async def start(self) -> None:
        if self.refuses:
            raise RadioUnavailable("no adapter")
        self.events.put(Back())

    async def stop(self) -> None:
        self.stopped += 1

    async def scan(self, on: bool) -> None:
        self.asked.append(("scan", on))
        await self.scans.wait()
        if self.refuses:
            raise RadioUnavailable("busy")

    async def advertise(self, on: bool) -> None:
        self.asked.append(("advertise", on))
        if self.refuses:
            raise RadioUnavailable("busy")

    async def connect(self, address: str) -> None:
        self.asked.append(("connect", address))
        if address == "nobody":
            raise ConnectFailed("nobody there")
        self.events.put(Opened(self.events.new_link(), address, 200, initiated=True))

    async def disconnect(self, link: int) -> None:
        self.asked.append(("disconnect", link))
        self.events.put(Closed(link, "asked for"))

    async def send(self, link: int, data: bytes) -> bool:
        await self.gate.wait()
        self.taken.append(data)
        return data != b"lost"

    async def next(self) -> RadioEvent:
        return await self.events.next()

    def state(self) -> RadioState:
        return RadioState(central=True, peripheral=True)


class Rig:
    """Links over a scripted radio, and what they told."""

    def __init__(self) -> None:
        self.radio = Script()
        self.news: list[LinkNews] = []
        self.links = BleLinks(self.radio, self.news.append, clock=CLOCK, rng=Random(1), scan=QUICK)

    def of(self, kind: type) -> list[LinkNews]:
        return [news for news in self.news if isinstance(news, kind)]


@pytest_asyncio.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    yield made
    made.radio.gate.set()
    await made.links.stop()


@pytest.mark.asyncio
async def test_found_neighbour_becomes_a_link_and_frames_are_answered_for(rig: Rig) -> None:
    await rig.links.start()
    rig.radio.events.put(Found("a", -50))
    await until(lambda: rig.of(LinkUp))
    assert rig.of(LinkUp) == [LinkUp(1, 200, initiated=True)]
    asked = rig.radio.asked
    assert asked.index(("scan", False)) < asked.index(("connect", "a"))
    for token, data in enumerate((b"one", b"lost", b"two")):
        rig.links.send(SendFrame(1, data, token))
    rig.links.send(SendFrame(99, b"no such link", 7))
    await until(lambda: len(rig.of(FrameSent)) == 4)
    assert rig.radio.taken == [b"one", b"lost", b"two"]
    assert {news.token: news.ok for news in rig.of(FrameSent) if isinstance(news, FrameSent)} == {
        0: True,
        1: False,
        2: True,
        7: False,
    }
    rig.radio.events.put(Received(1, b"hello"))
    rig.radio.events.put(Received(99, b"no such link"))
    rig.radio.events.put(Closed(1, "lost"))
    await until(lambda: rig.of(LinkDown))
    assert rig.of(FrameReceived) == [FrameReceived(1, b"hello")]


@pytest.mark.asyncio
async def test_who_connects_while_an_attempt_waits_for_its_turn_is_not_connected_to(
    rig: Rig,
) -> None:
    await rig.links.start()
    await until(lambda: ("scan", True) in rig.radio.asked)
    rig.radio.scans.clear()
    rig.radio.events.put(Found("a", -50))
    await until(lambda: ("scan", False) in rig.radio.asked)
    rig.radio.events.put(Opened(rig.radio.events.new_link(), "a", 200, initiated=False))
    await until(lambda: rig.of(LinkUp))
    rig.radio.scans.set()
    rig.radio.events.put(Found("b", -50))
    await until(lambda: len(rig.of(LinkUp)) == 2)
    assert ("connect", "b") in rig.radio.asked
    assert ("connect", "a") not in rig.radio.asked


@pytest.mark.asyncio
async def test_frames_beyond_the_queue_are_refused_and_said_so(rig: Rig) -> None:
    await rig.links.start()
    rig.radio.events.put(Opened(5, "a", 200, initiated=False))
    await until(lambda: rig.of(LinkUp))
    rig.radio.gate.clear()
    for token in range(100):
        rig.links.send(SendFrame(5, b"x", token))
    await until(lambda: rig.of(FrameSent))
    refused = [news for news in rig.of(FrameSent) if isinstance(news, FrameSent) and not news.ok]
    assert len(refused) == 100 - 64
    rig.radio.gate.set()
    await until(lambda: len(rig.of(FrameSent)) == 100)


@pytest.mark.asyncio
async def test_link_that_was_ended_for_a_reason_is_left_alone(rig: Rig) -> None:
    await rig.links.start()
    rig.radio.events.put(Found("a", -50))
    await until(lambda: rig.of(LinkUp))
    rig.links.disconnect(1, leave_s=60.0)
    rig.links.disconnect(99)
    await until(lambda: rig.of(LinkDown))
    rig.radio.events.put(Found("a", -50))
    rig.radio.events.put(Found("b", -50))
    await until(lambda: ("connect", "b") in rig.radio.asked)
    assert rig.radio.asked.count(("connect", "a")) == 1


@pytest.mark.asyncio
async def test_adapter_that_refuses_is_asked_again_and_nothing_falls_over(rig: Rig) -> None:
    await rig.links.start()
    await until(lambda: ("advertise", True) in rig.radio.asked)
    rig.radio.refuses = True
    rig.radio.events.put(Found("nobody", -50))
    await until(lambda: ("connect", "nobody") in rig.radio.asked)
    await until(lambda: rig.radio.asked.count(("scan", True)) >= 3)
    rig.radio.refuses = False
    rig.radio.events.put(Found("b", -50))
    await until(lambda: rig.of(LinkUp))


@pytest.mark.asyncio
async def test_adapter_that_goes_takes_its_links_and_comes_back_empty(rig: Rig) -> None:
    # INV-BITCHAT-73
    await rig.links.start()
    rig.radio.events.put(Opened(5, "a", 200, initiated=False))
    await until(lambda: rig.of(LinkUp))
    rig.radio.events.put(Gone("unplugged"))
    await until(lambda: rig.of(LinkDown))
    await until(lambda: AdapterChanged("unplugged") in rig.news)
    before = len(rig.radio.asked)
    rig.radio.events.put(Back())
    await until(lambda: rig.radio.asked[before:] == [("scan", True), ("advertise", True)])
    assert rig.news[-1] == AdapterChanged(None)


@pytest.mark.asyncio
async def test_without_an_adapter_it_does_not_start_and_can_be_started_later(rig: Rig) -> None:
    rig.radio.refuses = True
    with pytest.raises(RadioUnavailable, match="no adapter"):
        await rig.links.start()
    rig.radio.refuses = False
    await rig.links.start()
    await until(lambda: ("scan", True) in rig.radio.asked)
    await rig.links.stop()
    await rig.links.stop()
    assert rig.radio.stopped == 2


@pytest.mark.asyncio
async def test_driver_that_fails_is_told_and_final(rig: Rig) -> None:
    async def broken() -> RadioEvent:
        raise ZeroDivisionError("what a stranger \x1b[31m sent")

    rig.radio.next = broken  # type: ignore[method-assign]
    await rig.links.start()
    await until(lambda: rig.of(AdapterChanged))
    changed = rig.news[-1]
    assert isinstance(changed, AdapterChanged)
    assert changed.final
    assert changed.unavailable_because == "the Bluetooth driver has a fault: ZeroDivisionError"


class Flooder:
    """A node that only floods, with the product's policy, on a virtual radio."""

    def __init__(self, ether: Ether, number: int) -> None:
        self.engine = OurFlood(Random(number), 10)
        self.links = BleLinks(
            ether.radio(number, interval_ms=20.0),
            self.act,
            clock=CLOCK,
            rng=Random(number),
            scan=QUICK,
        )
        self.shown: list[bytes] = []
        self.degree = 0
        self.timer: asyncio.TimerHandle | None = None

    def act(self, event: object) -> None:
        self.degree += isinstance(event, LinkUp) - isinstance(event, LinkDown)
        for action in self.engine.handle(event, CLOCK.monotonic()):
            match action:
                case SendFrame():
                    self.links.send(action)
                case WakeAt(at):
                    if self.timer is not None:
                        self.timer.cancel()
                    pause = max(0.0, at - CLOCK.monotonic())
                    loop = asyncio.get_running_loop()
                    self.timer = loop.call_later(pause, self.act, Wake())
                case Delivered(key):
                    self.shown.append(key)


@pytest.mark.asyncio
async def test_line_of_virtual_radios_finds_itself_and_carries_messages_to_its_end() -> None:
    ether = Ether(lambda one, other: abs(one - other) == 1)
    nodes = [Flooder(ether, number) for number in range(4)]
    for node in nodes:
        await node.links.start()
    await until(lambda: [node.degree for node in nodes] == [1, 2, 2, 1])
    sent = [bytes([number]) * 100 for number in range(10)]
    for number, key in enumerate(sent):
        nodes[number % 2 * 3].act(Say(key))
    await until(lambda: sum(len(node.shown) for node in nodes) == 30)
    ether.part(1, 2)
    await until(lambda: nodes[1].degree == 1)
    await until(lambda: [node.degree for node in nodes] == [1, 2, 2, 1])
    for node in nodes:
        await node.links.stop()
        assert len(set(node.shown)) == len(node.shown)
