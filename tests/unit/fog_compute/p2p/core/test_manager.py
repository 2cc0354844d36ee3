"""The transport manager: each transport for itself, whatever one of them raises."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from fog_compute.errors import ConfigError, NotFound
from fog_compute.p2p.core.actions import TransportChanged
from fog_compute.p2p.core.manager import TransportManager, TransportPhase
from fog_compute.p2p.core.messages import DecentralizedMessage
from fog_compute.p2p.core.transport import (
    Arrival,
    OutcomeState,
    Reachability,
    TransportCapabilities,
    TransportEvent,
    TransportInterface,
    TransportType,
    TransportUnavailable,
)
from fog_compute.testing import ManualClock
from fog_compute.testing.messaging import MemoryAir, MemoryTransport

pytestmark = pytest.mark.asyncio

HTX, BLE = TransportType.BETANET_HTX, TransportType.BITCHAT_BLE
ANN, BOB = "a1" * 32, "b2" * 32
MESSAGE = DecentralizedMessage(body=b"x", receiver_id=BOB, id="1", sender=ANN)


class Shaky(MemoryTransport):
    """Raises where it is told to."""

    def __init__(self, air: MemoryAir) -> None:
        super().__init__(air, ANN, [BOB])
        self.bad: dict[str, Exception] = {}
        self.started = 0
        self.ended = 0

    def look(self, where: str) -> None:
        if where in self.bad:
            raise self.bad[where]

    async def initialize(self) -> None:
        self.started += 1
        self.look("initialize")
        await super().initialize()

    async def receive(self) -> TransportEvent:
        self.look("receive")
        event = await super().receive()
        self.look("receive")
        return event

    async def confirm(self, arrival: Arrival) -> None:
        self.look("confirm")

    async def broadcast(self, message: DecentralizedMessage) -> int:
        self.look("broadcast")
        return await super().broadcast(message)

    async def shutdown(self) -> None:
        self.ended += 1
        await super().shutdown()
        self.look("shutdown")

    def get_capabilities(self) -> TransportCapabilities:
        self.look("get_capabilities")
        return super().get_capabilities()


class Rig:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.manager = TransportManager(self.clock, Random(3))
        self.mixnet = MemoryAir(HTX, stores=True)
        self.radio = MemoryAir(BLE, stores=False)
        self.shaky = Shaky(self.radio)
        self.manager.register_transport(HTX, MemoryTransport(self.mixnet, ANN, [BOB]))
        self.manager.register_transport(BLE, self.shaky)

    async def events(self) -> list[object]:
        found: list[object] = []
        for _ in range(20):
            await asyncio.sleep(0)
        while not self.manager._events.empty():
            found.append(await self.manager.next_event())
        return found


async def test_transports_are_started_and_tell_what_they_can_do() -> None:
    rig = Rig()
    await rig.manager.start()
    assert rig.manager.capabilities(HTX).unavailable_because == "it is starting"

    events = await rig.events()

    assert rig.manager.capabilities(HTX).available
    changed = {one.transport for one in events if isinstance(one, TransportChanged)}
    reached = {one.transport for one in events if isinstance(one, Reachability)}
    assert changed == reached == {HTX, BLE}
    assert {one.phase for one in rig.manager.health().values()} == {TransportPhase.RUNNING}
    assert isinstance(rig.manager.get_transport(BLE), TransportInterface)
    await rig.manager.stop()
    assert {one.phase for one in rig.manager.health().values()} == {TransportPhase.STOPPED}
    await rig.manager.stop()


async def test_transport_that_cannot_start_is_tried_again_after_growing_pauses() -> None:
    """INV-P2P-13."""
    rig = Rig()
    rig.shaky.bad["initialize"] = TransportUnavailable("no adapter: plug one in")
    await rig.manager.start()
    await rig.events()
    health = rig.manager.health()[BLE]
    assert (health.phase, health.reason) == (TransportPhase.WAITING, "no adapter: plug one in")
    assert rig.manager.capabilities(BLE).unavailable_because == "no adapter: plug one in"
    for seconds, started in ((0.7, 1), (0.4, 2), (1.5, 2), (0.6, 3), (3.0, 3), (1.1, 4)):
        await rig.clock.advance(seconds)
        await rig.events()
        assert rig.shaky.started == started

    rig.shaky.bad.clear()
    await rig.clock.advance(60)
    events = await rig.events()

    assert rig.manager.health()[BLE].phase is TransportPhase.RUNNING
    assert any(isinstance(one, TransportChanged) and one.capabilities is not None for one in events)
    await rig.manager.stop()


@pytest.mark.parametrize("where", ["initialize", "receive", "shutdown", "get_capabilities"])
async def test_fault_of_one_transport_leaves_the_other_alone(where: str) -> None:
    """INV-P2P-13."""
    rig = Rig()
    rig.shaky.bad[where] = RuntimeError("a fault with somebody's name in it")
    await rig.manager.start()
    await rig.events()
    for _ in range(3):
        rig.radio.set_up(True)
        await rig.clock.advance(70)
        await rig.events()

    assert rig.manager.health()[HTX].phase is TransportPhase.RUNNING
    outcome = await rig.manager.send(HTX, MESSAGE, BOB, 0)
    assert outcome.state is OutcomeState.STORED
    await rig.manager.stop()


async def test_whatever_is_raised_while_sending_is_a_failure() -> None:
    """INV-P2P-13."""
    rig = Rig()
    assert (await rig.manager.send(BLE, MESSAGE, BOB, 0)).reason == "the transport does not run"
    await rig.manager.start()
    await rig.events()
    rig.shaky.bad["broadcast"] = TransportUnavailable("it has no broadcast")
    assert (await rig.manager.broadcast(BLE, MESSAGE)).reason == "it has no broadcast"
    rig.shaky.bad["broadcast"] = KeyError("somebody's name")

    outcome = await rig.manager.broadcast(BLE, MESSAGE)

    assert (outcome.state, outcome.reason) == (OutcomeState.FAILED, "a fault: KeyError")
    rig.shaky.bad["confirm"] = KeyError("x")
    await rig.manager.confirm(Arrival(BLE, MESSAGE, True))
    rig.shaky.bad.clear()
    assert (await rig.manager.broadcast(BLE, MESSAGE)).state is OutcomeState.ACCEPTED
    await rig.manager.stop()


async def test_transports_come_and_go_while_the_others_run() -> None:
    """INV-P2P-13."""
    rig = Rig()
    await rig.manager.start()
    await rig.events()
    with pytest.raises(ConfigError, match="already"):
        rig.manager.register_transport(BLE, Shaky(rig.radio))
    await rig.manager.unregister_transport(BLE)
    assert await rig.events() == [TransportChanged(BLE, None)]
    assert rig.shaky.ended == 1
    with pytest.raises(NotFound, match="ble"):
        rig.manager.get_transport(BLE)
    with pytest.raises(ConfigError, match="is ble, and not htx"):
        TransportManager(rig.clock, Random(1)).register_transport(HTX, Shaky(rig.radio))
    await rig.manager.confirm(Arrival(BLE, MESSAGE, True))

    again = Shaky(rig.radio)
    rig.manager.register_transport(BLE, again)
    await rig.events()

    assert again.started == 1
    await rig.manager.restart(BLE)
    assert (await rig.events())[0] == TransportChanged(BLE, None)
    assert (again.started, again.ended) == (2, 1)
    await rig.manager.stop()


async def test_change_of_what_a_transport_can_do_is_told() -> None:
    """INV-P2P-13."""
    rig = Rig()
    await rig.manager.start()
    await rig.events()

    rig.mixnet.set_up(False)
    events = await rig.events()

    assert [
        one.capabilities.unavailable_because
        for one in events
        if isinstance(one, TransportChanged) and one.capabilities is not None
    ] == ["it was told to be away"]
    assert rig.manager.health()[HTX].reason == "it was told to be away"
    await rig.manager.stop()


async def test_who_is_cancelled_while_a_transport_ends_is_and_it_ends_all_the_same() -> None:
    """INV-P2P-13."""
    rig = Rig()
    await rig.manager.start()
    await rig.events()
    entered, leave = asyncio.Event(), asyncio.Event()
    shutdown = rig.shaky.shutdown

    async def slow() -> None:
        entered.set()
        await leave.wait()
        await shutdown()

    rig.shaky.shutdown = slow  # type: ignore[method-assign]
    restarting = asyncio.create_task(rig.manager.restart(BLE))
    await entered.wait()
    restarting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await restarting
    leave.set()
    for _ in range(20):
        await asyncio.sleep(0)
    assert rig.shaky.ended == 1
    await rig.manager.stop()
